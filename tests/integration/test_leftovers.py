"""What is taken away of the room that actors had claimed for workers, and what is not."""

from collections.abc import Iterator
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
from tuning.leftovers import Sweeper


@ray.remote(num_cpus=0)
class Maker:
    """Claims room for workers, as Ray Train's controller does."""

    def claim(self) -> str:
        group = ray.util.placement_group([{"CPU": 0.01}])
        ray.get(group.ready())
        return str(group.id.hex())


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
    faults.wait_until(lambda: state_of(group.hex()) == "CREATED", "the late group is there")
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


def test_what_was_there_before_is_not_touched(maker: Any) -> None:
    group = ray.get(maker.claim.remote())
    with Sweeper():
        die(maker)
    try:
        assert state_of(group) == "CREATED"
    finally:
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
