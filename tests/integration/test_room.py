"""Waiting for room in a cluster: what is said, how long, and what is left behind."""

import time
from typing import Any

import pytest

from cluster import resources, room, sharing
from cluster.errors import ResourceError
from cluster.resources import Capacity, Plan

TOO_LARGE = Plan(2, False, 64.0, 64, 1.0)


def test_workers_that_fit_do_not_wait_and_leave_what_they_asked_for(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray may take its time to give back what the one before had asked for.
    monkeypatch.setattr(room, "QUIET_WAIT_S", 20.0)
    before = resources.free_per_node()
    assert sum(cpus for cpus, _ in before) == 2
    for _ in range(3):
        room.await_room(Plan(2, False, 1.0, 1, 0.0), resources.capacity(), limit=600)
    assert "Waiting" not in capfd.readouterr().err


def test_an_autoscaler_gets_the_time_of_the_settings_and_it_is_said_what_is_waited_for(
    capfd: pytest.CaptureFixture[str],
) -> None:
    have = Capacity(256, 0, 1, autoscaling=True)
    began = time.monotonic()
    with pytest.raises(ResourceError) as refused:
        room.await_room(TOO_LARGE, have, limit=3)
    assert 2.9 < time.monotonic() - began < 20
    said = capfd.readouterr().err
    assert "Waiting up to 3 s for room for 2 workers of 64 CPUs each" in said
    assert "an autoscaler is asked for nodes" in said
    assert str(refused.value) == (
        "After 3 s there is still no room for 2 workers of 64 CPUs each: the cluster has 2 CPUs "
        "and 0 GPUs on 1 node, of which 2 CPUs are free, at most 2 CPUs on one node. End what "
        "holds the rest or wait for it, add nodes, or ask for less with --scaling.workers."
    )


def test_a_cluster_of_fixed_size_has_no_reason_to_wait_long() -> None:
    fixed, growing = Capacity(2, 0, 1), Capacity(2, 0, 1, autoscaling=True)
    assert room.patience(fixed, None) < 60
    assert room.patience(fixed, None, fixed=room.LOST_WAIT_S) <= 60
    assert room.patience(growing, None, fixed=room.LOST_WAIT_S) == room.AUTOSCALER_WAIT_S
    assert room.patience(fixed, 900) == room.patience(growing, 900) == 900
    with pytest.raises(ResourceError, match="no room for 2 workers of 64 CPUs each"):
        room.await_room(TOO_LARGE, Capacity(2, 0, 1), limit=2)


def test_a_plan_is_made_again_where_others_took_the_room_since_it_was_made() -> None:
    import ray

    def make(have: Capacity) -> Plan:
        return resources.plan_workers(have, workers=1, gpu="no")

    first, _ = room.find(make, 10)
    assert first.cpus_per_worker == 0.5
    holding = ray.util.placement_group([{"CPU": 1.0}, {"CPU": 0.75}])
    ray.get(holding.ready(), timeout=20)
    try:
        assert room.find(make, 10, Plan(1, False, 0.25, 2, 0.0))[0].cpus_per_worker == 0.25
        with pytest.raises(ResourceError, match="no room for 1 worker of "):
            room.find(make, 3, first)
    finally:
        ray.util.remove_placement_group(holding)
    deadline = time.monotonic() + 20
    while sum(cpus for cpus, _ in resources.free_per_node()) < 2:
        assert time.monotonic() < deadline
    smaller = Plan(1, False, 64.0, 64, 0.0)  # one that has no room any more
    assert room.find(make, 10, smaller)[0] == first


def test_tasks_are_spread_a_few_at_once_and_their_answers_keep_their_order() -> None:
    import ray

    @ray.remote(num_cpus=resources.TASK_CPUS)
    class Watch:
        """How many run together."""

        def __init__(self) -> None:
            self.now = self.most = 0

        def add(self, number: int) -> int:
            self.now += number
            self.most = max(self.most, self.now)
            return self.most

    @ray.remote(num_cpus=0)
    def work(watch: Any, number: int) -> int:
        ray.get(watch.add.remote(1))
        ray.get(watch.add.remote(-1))
        return number

    watch = Watch.remote()  # type: ignore[attr-defined]
    ray.get(watch.add.remote(0))
    assert ray.get(sharing.spread(work, ((watch, k) for k in range(12)))) == list(range(12))
    assert ray.get(watch.add.remote(0)) <= sharing.at_once()
