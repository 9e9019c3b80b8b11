"""Nodes that go and do not come back while a run trains on them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from jobs.classifier.progress import Position
from tests.integration import faults
from tests.integration.faults import Run, figure
from tests.integration.test_training import prepared  # noqa: F401  # a fixture

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.slow

START_TIMEOUT_S = 8


@pytest.fixture
def two_nodes() -> Iterator["Cluster"]:
    """A worker of two finds room on each node, and a second one beside it does not."""
    from ray.cluster_utils import Cluster

    with mock.patch.dict(os.environ, {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3"}):
        cluster = Cluster()
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=3)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            cluster.shutdown()


def alive(cluster: "Cluster") -> int:
    return sum(bool(node["Alive"]) for node in cluster.global_state.node_table())


def test_room_that_is_lost_for_good_is_said_in_time_and_the_run_is_resumed_when_there_is_some(
    prepared: str,  # noqa: F811
    tiny_model: Path,
    tmp_path: Path,
    two_nodes: "Cluster",
) -> None:
    run = Run(
        tmp_path, prepared, tiny_model, dropout=0.0, workers=2,
        scaling={"start_timeout": START_TIMEOUT_S},
    )  # fmt: skip
    expected = faults.undisturbed(run)
    environment = {"RAY_ADDRESS": two_nodes.address}
    code, refused, _ = run.finish(at=[1, 8], harm="kill-node", environment=environment)
    seconds = time.time() - run.steps()[-1].time
    assert code == 2, run.said()
    sentence = refused["error"]
    assert f"After {START_TIMEOUT_S} s there is still no room for 2 workers of 2 CPUs" in sentence
    assert "goes on with --resume from its newest checkpoint" in sentence
    assert "Traceback" not in run.said()
    faults.wait_until(lambda: alive(two_nodes) == 1, "Ray counts the node no more")
    two_nodes.add_node(num_cpus=3)
    faults.wait_until(lambda: alive(two_nodes) == 2, "the new node is there")
    code, said, _ = run.finish("--resume", environment=environment)
    assert code == 0, run.said()
    began_at = Position(**said["resumed_at"])
    assert began_at >= Position(1, 0)
    faults.assert_every_row_once(run.steps(), began_at)
    for found, one in zip(run.history(), expected, strict=True):
        assert found == pytest.approx(one, abs=1e-3)
    figure("room lost", seconds_from_the_last_step_to_the_end=f"{seconds:.1f}")
