"""What a cluster can grow to, as whoever wrote it down said in its nodes' environment.

Ray 2.60's autoscaler, of `ray up` as of KubeRay, tells no job what it may add: a cluster that grows
from zero looks like one that has nothing, and would be refused or used by halves. Knows nothing of
what is asked for.
"""

import re
from collections.abc import Mapping

from cluster.errors import SettingError

NAME = "CLUSTER_NODES_AT_MOST"
_WORD = re.compile(r"([1-9]\d{0,4})x(\d{1,4})(?:\+(\d{1,3}))?")


def nodes_at_most(environment: Mapping[str, str]) -> tuple[tuple[float, float], ...]:
    """(CPUs, GPUs) of every node that there may be; none where nothing is said.

    `4x16 2x8+1` are four nodes of 16 CPUs and two of 8 CPUs with one GPU each.
    """
    found: list[tuple[float, float]] = []
    for word in environment.get(NAME, "").split():
        match = _WORD.fullmatch(word)
        if match is None:
            raise SettingError(
                f"{NAME} has {word!r}, which is not NODESxCPUS or NODESxCPUS+GPUS, as in 4x16 or "
                "2x8+1. It stands in the environment of the cluster's nodes."
            )
        count, cpus, gpus = match.groups(default="0")
        found += [(float(cpus), float(gpus))] * int(count)
    return tuple(found)
