"""How many trials run at once, and what each of them claims: from the cluster and the settings.

Knows nothing of what a trial does.
"""

from dataclasses import replace

from cluster import resources
from cluster.errors import SettingError
from cluster.resources import Capacity, GpuChoice, Plan

# Threads inside one process share gradients for nothing, and a small network has no use for more.
THREADS_OF_A_TRIAL = 4


def plan_trials(
    have: Capacity, *, workers: int | None, gpu: GpuChoice, at_once: int | None
) -> tuple[Plan, int]:
    """(the plan of one trial, trials at once); ResourceError or SettingError where none fits.

    A trial has one worker unless `workers` says more. On CPUs one of these has four threads, or
    those of a node that has fewer, so that on small nodes a trial trains as `jobs.train` would;
    `at_once` (None: as many as find room) is the most that run together. One CPU of the cluster is
    left to others wherever there is more than one.
    """
    plan = resources.plan_workers(have, workers=workers or 1, gpu=gpu)
    if plan.workers == 1 and not plan.gpu:
        plan = _small(plan)
    elif plan.gpu:
        plan = _beside_others(plan, have)
    room = _room(plan, have)
    if at_once is not None and at_once > room:
        raise SettingError(
            f"at-once is {at_once}, and {have}: room for {room} "
            f"{'trial' if room == 1 else 'trials'} of {plan.workers} "
            f"{'worker' if plan.workers == 1 else 'workers'} each. Give at most {room}, or "
            "leave it out."
        )
    return plan, min(room, at_once or room)


def _small(plan: Plan) -> Plan:
    """A plan of one worker on CPUs, cut to the threads of a trial."""
    if plan.threads <= THREADS_OF_A_TRIAL:
        return plan
    return replace(
        plan,
        threads=THREADS_OF_A_TRIAL,
        cpus_per_worker=min(plan.cpus_per_worker, float(THREADS_OF_A_TRIAL)),
    )


def _beside_others(plan: Plan, have: Capacity) -> Plan:
    """A plan on GPUs whose workers claim no more CPUs than each GPU of a node has to itself."""
    nodes = [(cpus, gpus) for cpus, gpus in have.sizes if gpus >= 1]
    nodes = nodes or [(have.cpus, max(1.0, have.gpus))]
    each = min((cpus - 1 if cpus > gpus else cpus) / gpus for cpus, gpus in nodes)
    claim = min(plan.cpus_per_worker, float(int(each)) if each >= 1 else each)
    return replace(plan, cpus_per_worker=claim, threads=max(1, int(claim)))


def _room(plan: Plan, have: Capacity) -> int:
    """Trials that find room together; at least one, for which there may be room later."""
    free = have.free or have.sizes
    if plan.gpu:
        fits = (int(min(gpus, cpus / plan.cpus_per_worker)) for cpus, gpus in free)
        workers = sum(fits) if free else int(have.gpus)
    elif free:
        largest = max(range(len(free)), key=lambda k: free[k][0])
        workers = sum(_on_node(plan, cpus, k == largest) for k, (cpus, _) in enumerate(free))
    else:
        workers = _on_node(plan, have.cpus, True)
    return max(1, workers // plan.workers)


def _on_node(plan: Plan, cpus: float, leave: bool) -> int:
    """Workers on a node with so many CPUs free; `leave`: one of them for others."""
    claims = int((cpus - (1.0 if leave and cpus > 1 else 0.0)) / plan.cpus_per_worker)
    # A claim may be a fraction of a CPU, and threads may not.
    return min(claims, max(1, int(cpus) // plan.threads)) if plan.workers == 1 else claims
