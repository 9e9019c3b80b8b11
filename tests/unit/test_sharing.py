"""What jobs and endpoints say that they claim of a cluster, and what they leave to each other."""

import pytest

from cluster import resources, room, sharing
from cluster.resources import Capacity, Plan
from serve.config import left_for_jobs

BESIDE_AN_ENDPOINT = Capacity(2, 0, 1, sizes=((2, 0),), free=((1, 0),))


@pytest.mark.parametrize(
    ("have", "tasks", "says"),
    [
        (
            Capacity(8, 0, 2, sizes=((4, 0), (4, 0)), free=((4, 0), (4, 0))),
            8,
            "8 tasks at once, each with 0.5 of 8 CPUs, of which others hold 0: leaves 4 to other "
            "jobs and endpoints.",
        ),
        (
            BESIDE_AN_ENDPOINT,
            1,
            "1 task at once, each with 0.5 of 2 CPUs, of which others hold 1: leaves 0.5 to other "
            "jobs and endpoints.",
        ),
        (
            Capacity(2, 0, 1, sizes=((2, 0),), free=((0.5, 0),)),
            1,
            "1 task at once, each with 0.5 of 2 CPUs, of which others hold 1.5: leaves 0 to other "
            "jobs and endpoints.",
        ),
        (
            Capacity(64, 0, 1, autoscaling=True),
            64,
            "Up to 64 tasks at once, as an autoscaler adds CPUs for them.",
        ),
    ],
)
def test_the_tasks_of_a_job_claim_half_of_what_is_free_and_it_is_said_what_they_leave(
    have: Capacity, tasks: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "capacity", lambda: have)
    sharing._at_first_look.cache_clear()
    assert sharing.at_once() == tasks
    assert sharing.claimed() == says
    free = sum(cpus for cpus, _ in have.free) or have.cpus
    assert tasks == 1 or tasks * resources.TASK_CPUS <= free / 2
    taken = Capacity(have.cpus, 0, 1, sizes=have.sizes, free=((0, 0),))
    monkeypatch.setattr(resources, "capacity", lambda: taken)
    assert sharing.at_once() == tasks, "what its own tasks hold does not count against a job"
    sharing._at_first_look.cache_clear()


def test_a_plan_says_what_it_claims_and_leaves() -> None:
    plan = Plan(1, False, 0.5, 2, 0.5)
    assert room.claimed(plan, BESIDE_AN_ENDPOINT) == (
        "Claims 0.5 of 2 CPUs, of which others hold 1, and leaves 0.5 to other jobs and endpoints."
    )
    idle = Capacity(16, 0, 1, sizes=((16, 0),), free=((16, 0),))
    assert room.claimed(Plan(1, False, 4.0, 4, 12.0), idle, at_once=3) == (
        "Claims 12 of 16 CPUs, of which others hold 0, and leaves 4 to other jobs and endpoints."
    )
    assert "an autoscaler adds what others ask for" in room.claimed(
        plan, Capacity(64, 0, 1, autoscaling=True)
    )


def test_an_endpoint_says_what_its_replicas_leave_to_jobs() -> None:
    assert left_for_jobs(3, Capacity(4, 0, 1)) == ", at most 3 of 4 CPUs: 1 for jobs"
    assert left_for_jobs(3, Capacity(4, 4, 1)) == ""
