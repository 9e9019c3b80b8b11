"""Takes away the placement groups of trials of several workers that were ended from outside.

Ray gives a placement group back when the job ends in which it was made, and not when the actor has
died that made it: a trial that is stopped early, or killed, would hold the room of its workers
until the search is over, and the next would find none. (Ray Train's own watch over that asks a
dashboard, which not every Ray has: jobs/attempts.py.) Knows nothing of what a trial does.
"""

import time
from typing import Any

import ray
from ray._raylet import PlacementGroupID
from ray.tune import Callback
from ray.util.placement_group import PlacementGroup, remove_placement_group

from cluster.session import say

_EVERY_S = 1.0
_WAIT_S = 30.0  # for workers to end, after Tune has ended the trials
_QUIET_S = 1.0  # without one: what a maker asked for before it died may still be on its way
_MAKER = "TrainController"  # Ray Train's class


class Sweeper(Callback):  # type: ignore[misc]  # Ray has no types
    """Looks again and again as long as a search runs, and at its end, as a context."""

    def __init__(self) -> None:
        self._looked = 0.0
        self._before: set[bytes] = set()
        self._makers_before: set[str] = set()

    def __enter__(self) -> "Sweeper":
        self._before = {group.placement_group_id for group in _of_actors()}
        self._makers_before = _makers()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return  # the program ends, and all that it made
        now = seen = time.monotonic()
        until = now + _WAIT_S
        while now < until and now - seen < _QUIET_S:
            # Workers that failed are given back before others are asked for in their place.
            if self._sweep() or _makers() - self._makers_before:
                seen = now
            time.sleep(0.1)
            now = time.monotonic()
        if left := self._sweep():
            say(f"warning: {left} placement groups of trials are there until this program ends.")

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        if time.monotonic() - self._looked >= _EVERY_S:
            self._looked = time.monotonic()
            self._sweep()

    def _sweep(self) -> int:
        """Removes those whose maker is dead; how many of trials were there."""
        found = [g for g in _of_actors() if g.placement_group_id not in self._before]
        for group in found:
            if _is_dead(group.creator_actor_id):
                remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
        return len(found)


def _makers() -> set[str]:
    """The controllers of Ray Train in this job that are not dead."""
    from ray._private.state import state

    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    return {
        actor
        for actor, about in state.actor_table(None, job_id=job).items()
        if about["ActorClassName"] == _MAKER and about["State"] != "DEAD"
    }


def _is_dead(actor: bytes) -> bool:
    """Asked of the actor itself: a group's own mark of a dead maker is only set when that dies, and
    never on a group that is registered after it, from what the maker had still under way."""
    from ray._private.state import state

    found = state.actor_table(ray.ActorID(actor).hex())
    return not found or found["State"] == "DEAD"  # nothing: Ray has forgotten a dead one


def _of_actors() -> list[Any]:
    """The placement groups that actors of this job have made, as Ray itself keeps them: what it
    offers in public does not say who made them."""
    from ray._private.state import state
    from ray.core.generated import gcs_pb2

    table = gcs_pb2.PlacementGroupTableData
    job = bytes.fromhex(ray.get_runtime_context().get_job_id())
    found = [
        table.FromString(one)
        for one in state._connect_and_get_accessor().get_placement_group_table()
    ]
    nobody = ray.ActorID.nil().binary()
    return [
        group
        for group in found
        if group.creator_job_id == job
        and group.creator_actor_id not in (b"", nobody)
        and group.state != table.REMOVED
    ]
