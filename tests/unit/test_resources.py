"""Plans for workers: what a cluster has, what each worker claims, and what is refused."""

import itertools

import pytest

from cluster.errors import ResourceError
from cluster.resources import (
    REPLICA_CPUS,
    TASK_CPUS,
    Capacity,
    GpuChoice,
    Plan,
    plan_workers,
)


@pytest.mark.parametrize(
    ("have", "workers", "gpu", "plan"),
    [
        # cpus, gpus, nodes; asked; (workers, gpu, CPUs of each, threads of each, CPUs left)
        (Capacity(2, 0, 1), None, "auto", Plan(1, False, 0.5, 2, 1.5)),
        (Capacity(2, 0, 1), 1, "auto", Plan(1, False, 0.5, 2, 1.5)),
        (Capacity(2, 0, 1), 2, "auto", Plan(2, False, 0.5, 1, 1.0)),
        (Capacity(1, 0, 1), None, "auto", Plan(1, False, 0.5, 1, 0.5)),
        (Capacity(8, 0, 1), None, "auto", Plan(1, False, 6.0, 8, 2.0)),
        (Capacity(8, 0, 1), 3, "auto", Plan(3, False, 2.0, 2, 2.0)),
        (Capacity(8, 0, 2), None, "auto", Plan(2, False, 3.0, 4, 2.0)),
        (Capacity(16, 0, 4), None, "no", Plan(4, False, 3.0, 4, 4.0)),
        (Capacity(2, 0, 4), None, "auto", Plan(2, False, 0.5, 1, 1.0)),
        (Capacity(8, 1, 1), None, "auto", Plan(1, True, 6.0, 6, 2.0)),
        (Capacity(16, 4, 1), None, "auto", Plan(4, True, 3.0, 3, 4.0)),
        (Capacity(16, 4, 1), 2, "yes", Plan(2, True, 7.0, 7, 2.0)),
        (Capacity(16, 4, 1), None, "no", Plan(1, False, 14.0, 16, 2.0)),
        (Capacity(2, 4, 1), None, "auto", Plan(4, True, 0.25, 1, 1.0)),
        (Capacity(8, 0.5, 1), None, "auto", Plan(1, False, 6.0, 8, 2.0)),
    ],
)
def test_a_plan_follows_from_what_there_is_and_what_is_asked(
    have: Capacity, workers: int | None, gpu: GpuChoice, plan: Plan
) -> None:
    assert plan_workers(have, workers=workers, gpu=gpu) == plan


def test_a_plan_never_claims_more_than_the_cluster_has() -> None:
    for cpus, gpus, nodes in itertools.product(range(1, 34), (0, 1, 3, 7), (1, 2, 3)):
        have = Capacity(cpus, gpus, nodes)
        for workers in [None, *range(1, (gpus or cpus) + 1)]:
            plan = plan_workers(have, workers=workers, gpu="auto")
            assert plan.workers == workers or workers is None
            claimed = plan.workers * plan.cpus_per_worker + plan.left_cpus
            assert claimed <= cpus + 1e-9, (have, plan)
            assert plan.cpus_per_worker > 0
            assert plan.threads >= 1


@pytest.mark.parametrize("nodes", [2, 3, 4])
@pytest.mark.parametrize("each", [1, 2, 4, 8])
def test_no_worker_claims_or_uses_more_than_a_node_of_the_cluster_has(
    nodes: int, each: int
) -> None:
    for workers in range(1, nodes * each + 1):
        plan = plan_workers(Capacity(nodes * each, 0, nodes), workers=workers, gpu="auto")
        assert plan.cpus_per_worker <= each, plan
        assert plan.threads <= each, plan
        assert nodes * int(each / plan.cpus_per_worker + 1e-9) >= workers, plan  # all find a place


def test_a_worker_claims_cpus_and_where_it_uses_one_a_gpu() -> None:
    assert Plan(1, False, 3.0, 4, 1.0).resources() == {"CPU": 3.0}
    assert Plan(2, True, 0.5, 1, 1.0).resources() == {"CPU": 0.5, "GPU": 1.0}


@pytest.mark.parametrize(
    ("have", "workers", "gpu", "says"),
    [
        (
            Capacity(2, 0, 1),
            3,
            "auto",
            "scaling.workers is 3, but the cluster has 2 CPUs and 0 GPUs, enough for 2 workers. "
            "Set --scaling.workers to at most 2, or add CPUs.",
        ),
        (
            Capacity(1, 0, 1),
            2,
            "no",
            "scaling.workers is 2, but the cluster has 1 CPUs and 0 GPUs, enough for 1 worker. "
            "Set --scaling.workers to at most 1, or add CPUs.",
        ),
        (
            Capacity(64, 2, 1),
            3,
            "auto",
            "scaling.workers is 3, but the cluster has 64 CPUs and 2 GPUs, enough for 2 workers. "
            "Set --scaling.workers to at most 2, or add GPUs.",
        ),
        (
            Capacity(8, 0, 1),
            None,
            "yes",
            "scaling.gpu is yes, but the cluster has 8 CPUs and 0 GPUs. Set --scaling.gpu auto or "
            "no to train on CPUs, or add GPU nodes.",
        ),
        (
            Capacity(0.5, 0, 1),
            None,
            "auto",
            "the cluster has 0.5 CPUs and 0 GPUs: training needs at least one. Start Ray with more "
            "CPUs.",
        ),
        (
            Capacity(0, 0, 1, autoscaling=True),
            1,
            "no",
            "the cluster with all that its autoscaler can add has 0 CPUs and 0 GPUs: training "
            "needs at least one. Start Ray with more CPUs.",
        ),
    ],
)
def test_what_can_never_be_scheduled_is_refused_in_a_sentence_that_helps(
    have: Capacity, workers: int | None, gpu: GpuChoice, says: str
) -> None:
    with pytest.raises(ResourceError) as refused:
        plan_workers(have, workers=workers, gpu=gpu)
    assert str(refused.value) == says


def test_a_capacity_says_whether_the_autoscaler_counts() -> None:
    assert str(Capacity(2.0, 0.0, 1)) == "the cluster has 2 CPUs and 0 GPUs"
    assert (
        str(Capacity(128, 8, 1, autoscaling=True))
        == "the cluster with all that its autoscaler can add has 128 CPUs and 8 GPUs"
    )


@pytest.mark.parametrize(
    ("have", "workers", "gpu"),
    [
        (Capacity(16, 4, 2, sizes=((8, 0), (8, 4))), None, "auto"),
        (Capacity(12, 0, 2, sizes=((4, 0), (8, 0))), 2, "no"),
        (Capacity(10, 0, 3, sizes=((1, 0), (1, 0), (8, 0))), 5, "no"),
    ],
)
def test_what_the_workers_claim_finds_room_on_nodes_of_unequal_size(
    have: Capacity, workers: int | None, gpu: GpuChoice
) -> None:
    plan = plan_workers(have, workers=workers, gpu=gpu)
    claim = plan.cpus_per_worker
    slots = [min(g, c // claim) if plan.gpu else c // claim for c, g in have.sizes]
    assert claim > 0
    assert sum(slots) >= plan.workers


def test_a_node_that_an_autoscaler_has_yet_to_add_is_asked_for_one_cpu_a_worker() -> None:
    plan = plan_workers(Capacity(64, 0, 1, autoscaling=True), workers=1, gpu="no")
    assert plan.cpus_per_worker == 1


@pytest.mark.parametrize(
    ("have", "workers", "gpu", "claim"),
    [
        # An endpoint holds two of eight CPUs: what is free but for a task is claimed, and threads
        # stay as they are.
        (Capacity(8, 0, 1, sizes=((8, 0),), free=((6, 0),)), None, "no", 5.0),
        (Capacity(8, 0, 1, sizes=((8, 0),), free=((8, 0),)), None, "no", 6.0),
        (Capacity(8, 0, 2, sizes=((4, 0), (4, 0)), free=((4, 0), (1, 0))), 2, "no", 2.0),
        (Capacity(16, 4, 1, sizes=((16, 4),), free=((6, 4),)), 2, "yes", 2.0),
        # One CPU is left, or three quarters of one: a part of it is claimed.
        (Capacity(2, 0, 1, sizes=((2, 0),), free=((1, 0),)), None, "no", 0.5),
        (Capacity(8, 0, 1, sizes=((8, 0),), free=((1, 0),)), None, "no", 0.5),
        (Capacity(8, 0, 1, sizes=((8, 0),), free=((0.75, 0),)), None, "no", 0.25),
        (Capacity(2, 0, 1, sizes=((2, 0),), free=((1, 0),)), 2, "no", 0.25),
        # Less is left: that is waited for.
        (Capacity(2, 0, 1, sizes=((2, 0),), free=((0, 0),)), None, "no", 0.5),
        (Capacity(8, 0, 1, sizes=((8, 0),), free=((0.5, 0),)), None, "no", 6.0),
    ],
)
def test_workers_claim_what_others_leave_but_for_a_task(
    have: Capacity, workers: int | None, gpu: GpuChoice, claim: float
) -> None:
    plan = plan_workers(have, workers=workers, gpu=gpu)
    assert plan.cpus_per_worker == claim
    whole = plan_workers(Capacity(have.cpus, have.gpus, have.nodes), workers=workers, gpu=gpu)
    assert plan.workers == whole.workers
    assert plan.gpu or plan.threads == whole.threads


@pytest.mark.parametrize("cpus", [2, 3, 4, 8, 64])
def test_a_replica_and_a_task_of_another_job_find_room_beside_a_worker_whoever_comes_first(
    cpus: int,
) -> None:
    first = plan_workers(Capacity(cpus, 0, 1), workers=1, gpu="no")
    assert first.left_cpus >= REPLICA_CPUS + TASK_CPUS
    left = cpus - REPLICA_CPUS
    have = Capacity(cpus, 0, 1, sizes=((cpus, 0),), free=((left, 0),))
    second = plan_workers(have, workers=1, gpu="no")
    assert second.left_cpus == left - second.cpus_per_worker >= TASK_CPUS
    # And a second job beside both of them, in what the first one leaves.
    have = Capacity(cpus, 0, 1, sizes=((cpus, 0),), free=((second.left_cpus, 0),))
    third = plan_workers(have, workers=1, gpu="no")
    assert third.cpus_per_worker <= second.left_cpus
