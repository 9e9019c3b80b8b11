"""Whether the workers of a plan find room in the cluster now, and what to say if they do not.

Ray waits for ever where there is none; here the wait has an end and a sentence.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster import resources, sharing
from cluster.errors import ResourceError
from cluster.resources import Capacity, Plan
from cluster.session import say

AUTOSCALER_WAIT_S = 600.0
# Others may be about to finish; more than that, a cluster of fixed size has no reason to wait.
FIXED_WAIT_S = 30.0
# For a lost node of such a cluster: enough for Ray to be started anew on it. A machine that
# restarts takes longer; but most stay lost, and a run that has said so can be gone on with.
LOST_WAIT_S = 60.0
QUIET_WAIT_S = 2.0


def patience(have: Capacity, start_timeout: float | None, *, fixed: float = FIXED_WAIT_S) -> float:
    """Seconds to wait for room: those of the settings, or what such a cluster may need; `fixed`
    is that of one of fixed size."""
    if start_timeout is not None:
        return start_timeout
    return AUTOSCALER_WAIT_S if have.autoscaling else fixed


def find(
    make: Callable[[Capacity], Plan], start_timeout: float | None, plan: Plan | None = None
) -> tuple[Plan, Capacity]:
    """A plan whose workers could start together now, and the capacity that it was made for.

    Where others took the room since the look at it, or since `plan` was made, another plan is
    made from what they leave. Raises ResourceError where there is none in time.
    """
    sharing.at_once()  # looked at before a claim of this job's own hides what is free
    have = resources.capacity()
    plan = plan or make(have)
    with _asked_for(plan) as come:
        there = come(min(QUIET_WAIT_S, patience(have, start_timeout)))
    if not there:
        have = resources.capacity()
        plan = make(have)
        await_room(plan, have, limit=patience(have, start_timeout))
    return plan, have


@contextmanager
def _asked_for(plan: Plan) -> Iterator[Callable[[float], bool]]:
    """Asks Ray for all workers of a plan together; gives a wait for them, of so many seconds."""
    from ray.util import placement_group, remove_placement_group

    group = placement_group([plan.resources()] * plan.workers, strategy="PACK")
    try:
        yield group.wait
    finally:
        remove_placement_group(group)


def claimed(plan: Plan, have: Capacity, at_once: int = 1) -> str:
    """What `at_once` runs of a plan claim of a cluster, and what they leave, in words."""
    claims = at_once * plan.workers * plan.cpus_per_worker
    if have.autoscaling:
        return f"Claims {claims:g} CPUs; an autoscaler adds what others ask for beside them."
    free = sum(node[0] for node in have.free)
    held, left = round(have.cpus - free, 3), max(0.0, round(free - claims, 3))
    return (
        f"Claims {claims:g} of {have.cpus:g} CPUs, of which others hold {held:g}, and leaves "
        f"{left:g} to other jobs and endpoints."
    )


def await_room(plan: Plan, have: Capacity, *, limit: float) -> None:
    """Returns as soon as all workers of `plan` could start together, or raises ResourceError.

    An autoscaler is asked for what is missing, and has `limit` seconds to add it.
    """
    with _asked_for(plan) as come:
        if come(min(QUIET_WAIT_S, limit)):
            return
        says = "an autoscaler is asked for nodes" if have.autoscaling else "none can be added"
        say(f"Waiting up to {limit:.0f} s for room for {wanted(plan)}: {_there()}; {says} …")
        if not come(max(0.0, limit - QUIET_WAIT_S)):
            raise ResourceError(no_room(plan, limit))


def no_room(plan: Plan, waited_s: float) -> str:
    """What is wanted, what there is, and what to do."""
    return (
        f"After {waited_s:.0f} s there is still no room for {wanted(plan)}: {_there()}. End what "
        "holds the rest or wait for it, add nodes, or ask for less with --scaling.workers."
    )


def wanted(plan: Plan) -> str:
    """The workers of a plan and their claims, in words."""
    claim = f"{plan.cpus_per_worker:g} CPUs" + (" and 1 GPU" if plan.gpu else "")
    if plan.workers == 1:
        return f"1 worker of {claim}"
    return f"{plan.workers} workers of {claim} each"


def _there() -> str:
    have, free = resources.capacity(), resources.free_per_node()
    cpus, gpus = (sum(node[kind] for node in free) for kind in (0, 1))
    most = max((node[0] for node in free), default=0.0)
    gpu_part = f" and {gpus:g} GPUs" if have.gpus else ""
    return (
        f"{have} on {len(free)} {'node' if len(free) == 1 else 'nodes'}, of which {cpus:g} CPUs"
        f"{gpu_part} are free, at most {most:g} CPUs on one node"
    )
