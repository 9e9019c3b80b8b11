"""How many trials run at once: never more than find room, and never none."""

import pytest

from cluster.errors import ResourceError, SettingError
from cluster.resources import Capacity
from tuning.crowd import plan_trials


def capacity(*nodes: tuple[float, float], free: tuple[tuple[float, float], ...] = ()) -> Capacity:
    cpus, gpus = (sum(node[k] for node in nodes) for k in (0, 1))
    return Capacity(cpus, gpus, len(nodes), sizes=nodes, free=free or nodes)


def plan(have: Capacity, workers: int | None = None, at_once: int | None = None):
    return plan_trials(have, workers=workers, gpu="auto", at_once=at_once)


def test_on_two_cpus_one_trial_runs_as_jobs_train_would() -> None:
    found, at_once = plan(capacity((2, 0)))
    assert (found.workers, found.threads, found.cpus_per_worker, at_once) == (1, 2, 0.5, 1)


@pytest.mark.parametrize(
    ("nodes", "at_once"),
    [([(1, 0)], 1), ([(4, 0)], 1), ([(16, 0)], 3), ([(64, 0)], 15), ([(16, 0)] * 2, 7)],
)
def test_large_nodes_run_several_trials_of_four_threads_and_leave_a_cpu(
    nodes: list[tuple[float, float]], at_once: int
) -> None:
    have = capacity(*nodes)
    found, together = plan(have)
    assert together == at_once
    assert found.threads <= 4
    assert together * found.cpus_per_worker <= max(1, have.cpus - 1)


def test_what_others_hold_is_not_counted_on() -> None:
    assert plan(capacity((16, 0), free=((8, 0),)))[1] == 1
    assert plan(capacity((16, 0), free=((13, 0),)))[1] == 3


def test_with_gpus_a_trial_has_one_for_each_worker() -> None:
    assert plan(capacity((16, 4)))[1] == 4
    found, at_once = plan(capacity((16, 4)), workers=2)
    assert (found.workers, found.gpu, at_once) == (2, True, 2)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("node", [(128, 8), (16, 4), (4, 4)])
def test_trials_on_gpus_find_room_together(node: tuple[float, float], workers: int) -> None:
    found, at_once = plan(capacity(node), workers=workers)
    assert at_once == node[1] // workers
    assert at_once * found.workers * found.cpus_per_worker <= node[0]


def test_two_workers_on_two_cpus_have_room_for_one_trial() -> None:
    found, at_once = plan(capacity((2, 0)), workers=2)
    assert (found.workers, at_once) == (2, 1)
    assert found.workers * found.cpus_per_worker <= 1


def test_more_than_find_room_are_refused_and_fewer_are_what_is_asked() -> None:
    assert plan(capacity((16, 0)), at_once=2)[1] == 2
    with pytest.raises(SettingError, match="room for 3 trials of 1 worker each"):
        plan(capacity((16, 0)), at_once=4)
    with pytest.raises(ResourceError, match=r"scaling\.workers is 3"):
        plan(capacity((2, 0)), workers=3)
