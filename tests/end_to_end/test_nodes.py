"""The whole road on three nodes with object storage, and what is lost with a node that dies.

Everything is a submitted job; nothing but the tiny model and the keys lies on a local disk. The
figures are printed (`pytest -m slow -s tests/end_to_end/test_nodes.py`).
"""

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import state, storage
from cluster.registry import CHAMPION, Registry
from jobs.classifier.progress import Position
from tests.conftest import last_json
from tests.end_to_end.conftest import ROOT, Cluster, run_module
from tests.end_to_end.endpoints import KEY, Endpoint, answered, note, running, until
from tests.end_to_end.nodes import Node, beyond_loopback, node_of, nodes
from tests.end_to_end.traffic import summary, traffic
from tests.integration import faults, s3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NODES = 3
NAME = "tickets"
CLIENTS = 4
EVERY_STEPS = 10
SPACE = """
[optim.lr]
kind = "log-uniform"
low = 2e-3
high = 8e-3
[[points]]
"optim.lr" = 5e-3
"""


@dataclass(frozen=True)
class Road:
    """Three nodes, the bucket that all data is in, and what each step said."""

    endpoint: Endpoint
    bucket: str
    said: dict[str, dict[str, Any]]

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.endpoint.home, self.endpoint.written["dashboard"])

    @property
    def temp(self) -> str:
        return str(self.endpoint.written["temp"])

    def step(self, name: str, *words: str) -> None:
        """One submitted job; what it said is kept under its name."""
        began = time.monotonic()
        done = self.cluster.submit("python", "-m", *words)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
        note(f"{name} on three nodes", {"seconds": round(time.monotonic() - began, 1)})
        self.said[name] = dict(last_json(done.stdout))

    def status(self) -> dict[str, Any]:
        done = run_module("cluster.local", "status", cwd=self.endpoint.home)
        return dict(last_json(done.stdout))

    def alive(self) -> int | None:
        return state.alive_nodes(self.endpoint.written)

    def replicas(self) -> list[Node]:
        """The node of each replica that runs."""
        found = [node_of(process, self.temp) for process in self.endpoint.replicas()]
        return [node for node in found if node is not None]


def settings_of(model: Path) -> tuple[str, ...]:
    """Of every run here."""
    return ("--model.name", str(model), "--model.max_tokens", "32", "--optim.head_lr", "5e-3",
            "--train.batch_tokens", "512", "--train.precision", "fp32")  # fmt: skip


@pytest.fixture(scope="module")
def road(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Road]:
    home = tmp_path_factory.mktemp("nodes")
    (home / "space.toml").write_text(SPACE)
    with s3.store() as bucket, running(home, free_port(), cpus=2, nodes=NODES) as endpoint:
        road = Road(endpoint, bucket, {})
        model = settings_of(tiny_model)
        road.step("synthesize", "jobs.synthesize", "--rows", "600", "--classes", "3",
                  "--skew", "0.5", "--output", f"{bucket}/desk")  # fmt: skip
        road.step("prepare", "jobs.prepare", "--source", f"{bucket}/desk", "--output",
                  f"{bucket}/prepared", "--columns.text", "title", "--columns.text", "body",
                  "--columns.id", "id")  # fmt: skip
        road.step("train", "jobs.train", "--data", f"{bucket}/prepared", "--output",
                  f"{bucket}/run", "--scaling.workers", "2", "--optim.lr", "5e-3",
                  "--train.epochs", "1", *model)  # fmt: skip
        road.step("search", "tuning.search", "--data", f"{bucket}/prepared", "--output",
                  f"{bucket}/search", "--trials", "2", "--space", str(home / "space.toml"),
                  "--scheduler", "none", "--train.epochs", "4", *model)  # fmt: skip
        road.step("promote", "tuning.promote", "--experiment", f"{bucket}/search", "--registry",
                  f"{bucket}/registry", "--name", NAME,
                  "--max-calibration-error", "0.9")  # fmt: skip
        yield road


def test_every_step_left_its_result_in_object_storage(road: Road) -> None:
    bucket, said = road.bucket, road.said
    assert said["synthesize"]["rows"] == 600
    assert storage.exists(f"{bucket}/prepared/manifest.json")
    assert (said["train"]["workers"], said["train"]["bundle"]) == (2, f"{bucket}/run/bundle")
    assert said["search"]["trials"] == {"finished": 2}
    assert said["promote"]["passed"] is True
    registry = Registry(f"{bucket}/registry")
    assert registry.aliases(NAME) == {CHAMPION: said["promote"]["version"]}
    status = road.status()
    assert len(status["alive"]) == NODES
    assert [job["status"] for job in status["jobs"]] == ["SUCCEEDED"] * len(said)


def test_a_training_job_goes_on_when_one_of_three_nodes_dies(
    road: Road, tiny_model: Path, tmp_path: Path
) -> None:
    log, output = tmp_path / "steps", f"{road.bucket}/killed"
    words = [
        sys.executable, "-m", "cluster.submit", "--address", road.cluster.address,
        "--working-dir", str(ROOT), "--", "env", f"OBSERVED={json.dumps({'log': str(log)})}",
        "python", "-m", "tests.integration.observed", "--data", f"{road.bucket}/prepared",
        "--output", output, "--scaling.workers", "2", "--optim.lr", "5e-3", "--train.epochs",
        str(faults.EPOCHS), "--checkpoint.every_steps", str(EVERY_STEPS), "--checkpoint.keep", "50",
        *settings_of(tiny_model),
    ]  # fmt: skip
    with faults.started(words, tmp_path / "said", {}) as job:
        until(lambda: {s.rank for s in faults.read_steps(log)} == {0, 1}, "both workers", 120)
        reachable = beyond_loopback(road.temp)
        killed = worker_node(road, log)
        in_mid_epoch = Position(1, EVERY_STEPS + 2)
        until(lambda: any(s.at >= in_mid_epoch for s in faults.read_steps(log)), "mid-epoch", 120)
        count = killed.kill()
        at = max(step.at for step in faults.read_steps(log))
        out, _ = job.communicate(timeout=240)
    assert job.returncode == 0, f"{out[-3000:]}\n{(tmp_path / 'said').read_text()[-2000:]}"
    steps, began_at = faults.read_steps(log), Position(**last_json(out)["resumed_at"])
    assert began_at >= Position(1, 0)
    faults.assert_every_row_once(steps, began_at)
    wasted = faults.wasted_steps(steps)
    times = [step.time for step in steps if step.rank == 0]
    gap = max(after - one for one, after in itertools.pairwise(times))
    note(
        "node killed under a training job",
        {
            "processes": count,
            "killed at": [at.epoch, at.batch],
            "resumed at": [began_at.epoch, began_at.batch],
            "wasted steps": wasted,
            "seconds to the next step": round(gap, 1),
        },
    )
    assert {step.rank for step in steps} == {0, 1}
    assert len({step.pid for step in steps if step.rank == 0}) > 1, "it was started once more"
    assert reachable == {}, "two workers trained"
    # None where it died just after a checkpoint.
    assert wasted <= len({s.at for s in steps if s.at.epoch == 1}), "at most an epoch"
    assert storage.exists(f"{output}/bundle/bundle.json")


def worker_node(road: Road, log: Path) -> Node:
    """A node on which a worker trains, and not the head, which drives the job."""
    pids = {step.pid for step in faults.read_steps(log)}
    found = [node_of(psutil.Process(pid), road.temp) for pid in pids if psutil.pid_exists(pid)]
    return next(node for node in found if node is not None and not node.is_head)


def test_up_starts_another_node_in_the_place_of_one_that_died(road: Road) -> None:
    """Of the one that the test before killed; of another where that one was not run."""
    head, *others = nodes(road.temp)
    assert head.is_head
    if len(others) == NODES - 1:
        others[-1].kill()
    until(lambda: road.alive() == NODES - 1, "the lost node counts no more")
    up = run_module(
        "cluster.local", "up", "--nodes", str(NODES), "--cpus-per-node", "2",
        cwd=road.endpoint.home,
    )  # fmt: skip
    assert up.returncode == 0, up.stderr
    assert "2 of 3 nodes are up" in up.stderr
    assert road.alive() == len(nodes(road.temp)) == NODES
    assert beyond_loopback(road.temp) == {}


def test_an_endpoint_on_two_nodes_answers_on_when_one_of_them_dies(road: Road) -> None:
    road.step(
        "deploy", "serve.deploy", "--registry", f"{road.bucket}/registry", "--name", NAME,
        "--port", str(road.endpoint.port), "--keys", str(road.endpoint.home / "keys.txt"),
        "--autoscaling.min_replicas", "2", "--autoscaling.max_replicas", "2", "--threads", "1",
    )  # fmt: skip
    until(lambda: len(road.replicas()) == 2, "two replicas")
    before = road.replicas()
    assert len({node.starter.pid for node in before}) == 2, "each replica is on a node of its own"
    (served,) = road.status()["endpoints"]
    assert (served["status"], served["url"], served["nodes"]) == (
        "RUNNING", f"{road.endpoint.url}/", 2
    )  # fmt: skip
    assert beyond_loopback(road.temp) == {}
    gone = next(node for node in before if not node.is_head)
    with traffic(road.endpoint.url, KEY, clients=CLIENTS) as seen:
        answered(seen, calls=100)
        mark = seen.mark()
        gone.kill()
        seconds = until(lambda: road.endpoint.serves(2), "two replicas again", 120)
        answered(seen, calls=100)
    found = summary(seen.since(mark))
    note("node killed under load", {"seconds to two replicas": round(seconds, 1), **found})
    assert found["failed_twice"] == 0
    assert sum(found["failed"].values()) <= CLIENTS, "only what was in flight on the node"
    assert seen.versions(mark) == {road.said["promote"]["version"]}
