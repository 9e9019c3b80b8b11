"""What short tasks claim, so that jobs and endpoints on one cluster find room beside each other.

Claims are Ray's book-keeping and hold no core: a task that claims half a CPU computes as fast as
one that claims a whole one. Knows nothing of what the tasks do.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

from cluster import resources


def at_once() -> int:
    """Tasks that a job runs together: one for each CPU that was free at its first look, at least
    one.

    Together they claim half of what is free. What an autoscaler can add counts: work is what it
    adds nodes for. Looked at once a job: what its own tasks and plans held a moment ago is still
    missing from what Ray calls free.
    """
    import ray

    return _at_first_look(ray.get_runtime_context().get_job_id() if ray.is_initialized() else "")


@cache
def _at_first_look(job: str) -> int:
    have = resources.capacity()
    return max(1, int(have.cpus if have.autoscaling else sum(node[0] for node in have.free)))


def claimed() -> str:
    """What the tasks of a job claim of a cluster, in words."""
    have, tasks, each = resources.capacity(), at_once(), resources.TASK_CPUS
    if have.autoscaling:
        return f"Up to {tasks} tasks at once, as an autoscaler adds CPUs for them."
    free = sum(node[0] for node in have.free)
    return (
        f"{tasks} {'task' if tasks == 1 else 'tasks'} at once, each with {each:g} of "
        f"{have.cpus:g} CPUs, of which others hold {round(have.cpus - free, 3):g}: leaves "
        f"{max(0.0, round(free - tasks * each, 3)):g} to other jobs and endpoints."
    )


def spread(task: Any, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """What `task.remote(*call)` gives for each call, in order; `at_once` of them run together."""
    import ray

    most = at_once()
    given: list[Any] = []
    running: list[Any] = []
    for call in calls:
        if len(running) >= most:
            _, running = ray.wait(running, num_returns=1, fetch_local=False)
        found = task.remote(*call)
        given.append(found)
        running.append(found[0] if isinstance(found, list) else found)
    return given
