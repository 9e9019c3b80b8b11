"""What a cluster may grow to, as its nodes' environment says it. No Ray."""

import pytest

from cluster import node_limits
from cluster.errors import SettingError
from cluster.resources import Capacity, plan_workers


@pytest.mark.parametrize(
    ("says", "nodes"),
    [
        (None, ()),
        ("", ()),
        ("1x2", ((2, 0),)),
        ("2x8+1", ((8, 1), (8, 1))),
        (" 1x4  2x16+8 ", ((4, 0), (16, 8), (16, 8))),
        ("1x0+1", ((0, 1),)),
    ],
)
def test_every_node_that_there_may_be_is_counted(
    says: str | None, nodes: tuple[tuple[float, float], ...]
) -> None:
    assert node_limits.nodes_at_most({} if says is None else {node_limits.NAME: says}) == nodes


@pytest.mark.parametrize("says", ["4", "x8", "0x8", "4x", "4x8+", "4x8,2x4", "-1x8", "4x8.5"])
def test_what_is_no_number_of_nodes_is_refused_by_name(says: str) -> None:
    with pytest.raises(SettingError, match=node_limits.NAME) as refused:
        node_limits.nodes_at_most({node_limits.NAME: f"1x1 {says}"})
    assert "4x16" in str(refused.value)


def test_on_nodes_of_known_size_that_are_yet_to_come_a_worker_claims_what_a_node_has() -> None:
    nodes = node_limits.nodes_at_most({node_limits.NAME: "4x8 4x8+1"})
    have = Capacity(64, 4, len(nodes), autoscaling=True, sizes=nodes)
    on_gpus = plan_workers(have, workers=None, gpu="auto")
    assert (on_gpus.workers, on_gpus.gpu, on_gpus.cpus_per_worker) == (4, True, 8)
    on_cpus = plan_workers(have, workers=None, gpu="no")
    assert (on_cpus.workers, on_cpus.cpus_per_worker, on_cpus.threads) == (8, 7, 8)
