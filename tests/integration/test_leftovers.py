"""What is taken away of the room that actors had claimed for workers, and what is not."""

import time
from collections.abc import Iterator
from threading import Timer
from typing import Any

import pytest
import ray
from ray._private import state
from ray._private.grpc_utils import init_grpc_channel
from ray._raylet import JobID, PlacementGroupID
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
from ray.util.placement_group import (
    PlacementGroup,
    placement_group_table,
    remove_placement_group,
)

from tests.integration import faults
from tuning import leftovers
from tuning.leftovers import Sweeper


class _Claiming:
    """Claims room for workers, as Ray Train's controller does."""

    def claim(self) -> str:
        group = ray.util.placement_group([{"CPU": 0.01}])
        ray.get(group.ready())
        return str(group.id.hex())


@ray.remote(num_cpus=0)
class Maker(_Claiming):
    """An actor that dies and leaves its room."""


@ray.remote(num_cpus=0)
class TrainController(_Claiming):
    """One of the name by which they are known."""


def state_of(group: str) -> str:
    return str(placement_group_table()[group]["state"])


def die(maker: Any) -> str:
    """Kills an actor; its id, once Ray knows."""
    dead = str(maker._actor_id.hex())
    ray.kill(maker)
    faults.wait_until(lambda: state.actors(dead)["State"] == "DEAD", "the maker is dead")
    return dead


def claim_late(actor: str) -> str:
    """Registers a group for an actor that is dead, as what it asked for last may arrive."""
    job = bytes.fromhex(ray.get_runtime_context().get_job_id())
    group = PlacementGroupID.of(JobID(job))
    wanted = gcs_service_pb2.CreatePlacementGroupRequest()
    spec = wanted.placement_group_spec
    spec.placement_group_id = group.binary()
    spec.creator_job_id, spec.creator_actor_id = job, bytes.fromhex(actor)
    bundle = spec.bundles.add()
    bundle.bundle_id.placement_group_id = group.binary()
    bundle.unit_resources["CPU"] = 0.01
    with init_grpc_channel(ray.get_runtime_context().gcs_address) as channel:
        gcs_service_pb2_grpc.PlacementGroupInfoGcsServiceStub(channel).CreatePlacementGroup(wanted)
    there = ("CREATED", "REMOVED")  # the one under test may have found it by now
    faults.wait_until(lambda: state_of(group.hex()) in there, "the late group is there")
    return str(group.hex())


@pytest.fixture
def maker() -> Iterator[Any]:
    made = Maker.remote()
    yield made
    ray.kill(made)


def test_the_room_of_a_maker_that_lives_stays(maker: Any) -> None:
    with Sweeper() as sweeper:
        group = ray.get(maker.claim.remote())
        sweeper.on_step_begin(0, [])
        assert state_of(group) == "CREATED"
        die(maker)
        assert state_of(group) == "CREATED"
    assert state_of(group) == "REMOVED"


def test_the_room_that_is_claimed_after_its_maker_has_died_is_taken_away(maker: Any) -> None:
    with Sweeper() as sweeper:
        group = claim_late(die(maker))
        sweeper.on_step_begin(0, [])
    assert state_of(group) == "REMOVED"


def test_what_is_claimed_a_moment_after_the_last_look_is_taken_away(
    maker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train gives back the room of workers that failed before it claims other room."""
    monkeypatch.setattr(leftovers, "_QUIET_S", 5.0)
    dead, late = die(maker), []

    def claim() -> None:
        late.append(claim_late(dead))

    with Sweeper():
        soon = Timer(0.3, claim)
        soon.start()
    soon.join()
    assert [state_of(group) for group in late] == ["REMOVED"]


def test_a_maker_that_lives_is_waited_for() -> None:
    with Sweeper():
        made = TrainController.remote()
        group = ray.get(made.claim.remote())  # while the search runs
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
        began = time.monotonic()
        soon = Timer(2.0, lambda: ray.kill(made))
        soon.start()
    assert time.monotonic() - began > 2.0
    soon.join()


def test_what_was_there_before_is_not_touched(maker: Any) -> None:
    group = ray.get(maker.claim.remote())
    with Sweeper():
        die(maker)
    try:
        assert state_of(group) == "CREATED"
    finally:
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
