"""From what a cluster has, or its autoscaler can add, to a plan that can really be scheduled.

Ray waits for ever for what can never be scheduled; here it is refused in one sentence. Knows
nothing of what the workers do.
"""

import math
import os
from dataclasses import dataclass
from typing import Literal

from cluster import node_limits
from cluster.errors import ResourceError

GpuChoice = Literal["auto", "yes", "no"]
# What a short task claims, such as one of Ray Data's; that one finds room is left by every plan.
TASK_CPUS = 0.5
REPLICA_CPUS = 1  # of an endpoint, on CPUs


@dataclass(frozen=True)
class Capacity:
    """The most that a cluster can have: what is up now or what its autoscaler can add."""

    cpus: float
    gpus: float
    nodes: int
    autoscaling: bool = False
    sizes: tuple[tuple[float, float], ...] = ()  # (CPUs, GPUs) of each node, where known
    free: tuple[tuple[float, float], ...] = ()  # what others leave of them now, where known

    def __str__(self) -> str:
        grows = " with all that its autoscaler can add" if self.autoscaling else ""
        return f"the cluster{grows} has {self.cpus:g} CPUs and {self.gpus:g} GPUs"


@dataclass(frozen=True)
class Plan:
    """How many workers, and what each one claims from Ray and uses."""

    workers: int
    gpu: bool
    cpus_per_worker: float
    threads: int
    left_cpus: float  # of those that were free when it was made; what it waits for leaves none

    def resources(self) -> dict[str, float]:
        """What one worker claims, in Ray's names."""
        claim = {"CPU": self.cpus_per_worker}
        return claim | {"GPU": 1.0} if self.gpu else claim


def capacity() -> Capacity:
    """What the connected cluster can have at most."""
    import ray
    from ray._private.state import state  # where a managed Ray's autoscaler says its limits

    now = ray.cluster_resources()
    if grown := node_limits.nodes_at_most(os.environ):
        cpus, gpus = (sum(node[kind] for node in grown) for kind in (0, 1))
        return Capacity(
            cpus=max(now.get("CPU", 0.0), cpus),
            gpus=max(now.get("GPU", 0.0), gpus),
            nodes=len(grown),
            autoscaling=True,
            sizes=grown,
        )
    most = state.get_max_resources_from_cluster_config() or {}
    sizes = tuple(
        (node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    )
    return Capacity(
        cpus=max(now.get("CPU", 0.0), float(most.get("CPU", 0))),
        gpus=max(now.get("GPU", 0.0), float(most.get("GPU", 0))),
        nodes=max(1, len(sizes)),
        autoscaling=bool(most),
        sizes=() if most else sizes,
        free=() if most else free_per_node(),
    )


def free_per_node() -> tuple[tuple[float, float], ...]:
    """(CPUs, GPUs) of each node that nobody has claimed just now."""
    from ray._private.state import available_resources_per_node  # there is no public source

    return tuple(
        (node.get("CPU", 0.0), node.get("GPU", 0.0))
        for node in available_resources_per_node().values()
    )


def pool_cpus() -> float:
    """What each actor of a pool beside Ray Data's own tasks may claim: one CPU, or none where so
    few are free that the tasks which feed the pool would wait for ever (an endpoint may hold the
    others)."""
    import ray

    return 1.0 if capacity().autoscaling or ray.available_resources().get("CPU", 0) >= 2 else 0.0


def threads_per_node() -> int:
    """CPUs that Ray has on an average node: what one process may use when it is alone there."""
    have = capacity()
    return max(1, int(have.cpus // have.nodes))


def plan_workers(have: Capacity, *, workers: int | None, gpu: GpuChoice) -> Plan:
    """The plan for data-parallel workers; ResourceError for what can never be scheduled.

    With GPUs: one worker a GPU, all of them unless `workers` says fewer. On CPUs: one worker a
    node unless asked for more, since threads inside one process share gradients for nothing. Each
    claims an equal part of what is left when a replica of an endpoint and a task of another job
    have found room, whichever of them comes first; where others hold a part already, of what is
    free but for a task.
    """
    use_gpu = _use_gpu(have, gpu)
    most = int(have.gpus) if use_gpu else int(have.cpus)
    kind = "GPUs" if use_gpu else "CPUs"
    if most < 1:
        raise ResourceError(f"{have}: training needs at least one. Start Ray with more {kind}.")
    count = workers if workers is not None else (most if use_gpu else min(have.nodes, most))
    if count > most:
        raise ResourceError(
            f"scaling.workers is {count}, but {have}, enough for {most} "
            f"{'worker' if most == 1 else 'workers'}. Set --scaling.workers to at most {most}, or "
            f"add {kind}."
        )
    # A worker has to fit on one node, beside the others that land there.
    room = have.cpus / have.nodes / math.ceil(count / have.nodes)
    most_each = (have.cpus - _for_others(have.cpus, count)) / count
    share = _that_fits(have, count, min(most_each, room), use_gpu)
    share = _that_others_leave(have, count, share, use_gpu)
    # Whole CPUs where there are any: Ray places fractions badly on large nodes. Always rounded
    # down: together no more may be claimed than there is.
    cpus = float(int(share)) if share >= 1 else math.floor(share * 1000) / 1000
    threads = max(1, int(cpus if use_gpu else room))
    free = sum(node[0] for node in have.free) if have.free else have.cpus
    return Plan(count, use_gpu, cpus, threads, max(0.0, round(free - count * cpus, 3)))


def _for_others(cpus: float, count: int) -> float:
    """CPUs of a cluster that nobody uses yet which `count` workers leave."""
    if cpus <= 1:
        return cpus / 2
    both = REPLICA_CPUS + TASK_CPUS
    # On the smallest clusters several workers leave room for one of the two.
    return both if cpus - both >= TASK_CPUS * count else REPLICA_CPUS


def _that_fits(have: Capacity, count: int, share: float, use_gpu: bool) -> float:
    """The largest claim up to `share` with which `count` workers find room on the nodes.

    Where an autoscaler has yet to add nodes of unknown size, a worker claims one CPU.
    """
    if have.autoscaling and not have.sizes:
        return min(share, 1.0)
    while have.sizes and share > 0.01 and _slots(have.sizes, share, use_gpu) < count:
        share = share - 1 if share > 1 else share / 2
    return share


def _that_others_leave(have: Capacity, count: int, share: float, use_gpu: bool) -> float:
    """`share`, or less of it where others hold a part of the nodes, so that a task finds room
    beside it; `share` where not even a quarter of a CPU each does that: that there is no room is
    said where it is waited for."""
    free = sum(node[0] for node in have.free)
    if not have.free or free >= have.cpus:
        return share
    whole = (float(cpus) for cpus in range(int(share), 0, -1))
    for smaller in (*whole, TASK_CPUS, TASK_CPUS / 2):
        fits = _slots(have.free, smaller, use_gpu) >= count
        if smaller <= share and fits and free - count * smaller >= TASK_CPUS:
            return smaller
    return share


def _slots(nodes: tuple[tuple[float, float], ...], share: float, use_gpu: bool) -> int:
    """How many workers that claim `share` CPUs each find room on nodes of (CPUs, GPUs)."""
    return sum(int(min(gpus, cpus // share) if use_gpu else cpus // share) for cpus, gpus in nodes)


def _use_gpu(have: Capacity, gpu: GpuChoice) -> bool:
    if gpu == "no":
        return False
    if have.gpus >= 1:
        return True
    if gpu == "yes":
        raise ResourceError(
            f"scaling.gpu is yes, but {have}. Set --scaling.gpu auto or no to train on CPUs, or "
            "add GPU nodes."
        )
    return False
