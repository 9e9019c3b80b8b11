"""`cluster.local down` after a crash: it ends what was started, and nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cluster import raylets, state
from tests.conftest import last_json
from tests.end_to_end.conftest import ROOT, run_module
from tests.end_to_end.endpoints import until
from tests.end_to_end.nodes import nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TWO_NODES = ("up", "--nodes", "2", "--cpus-per-node", "1")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder to start a cluster from; whatever a test left of it is ended."""
    yield tmp_path
    run_module("cluster.local", "down", cwd=tmp_path)


@pytest.fixture
def foreign() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that looks like one of a cluster, and is of another."""
    environment = os.environ | {raylets.MARK: "/tmp/sy-other/haproxy/haproxy.cfg"}
    command = [sys.executable, "-c", "import time; time.sleep(600)", "ray.scripts.scripts"]
    with subprocess.Popen(command, env=environment) as process:
        yield process
        process.kill()


def temp_of(home: Path) -> str | None:
    """The folder of the cluster that was begun from `home`; None before it is written down."""
    with suppress(OSError, ValueError):
        return str(json.loads((home / ".switchyard" / "cluster.json").read_text())["temp"])
    return None


def assert_down_ends_all(home: Path, temp: str, foreign: "subprocess.Popen[bytes]") -> None:
    down = run_module("cluster.local", "down", cwd=home)
    assert (down.returncode, int(str(last_json(down.stdout)["ended"])) > 0) == (0, True)
    assert raylets.processes(temp) == []
    assert not Path(temp).exists()
    assert not (home / state.state_file()).exists()
    assert foreign.poll() is None


def test_down_ends_what_an_up_that_was_killed_halfway_had_started(
    home: Path, foreign: "subprocess.Popen[bytes]"
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cluster.local", *TWO_NODES],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as up:
        until(lambda: (temp := temp_of(home)) and len(raylets.processes(temp)) >= 4, "half a node")
        up.kill()
    temp = str(temp_of(home))
    assert len(nodes(temp)) < 2, "the second node was never begun"
    assert_down_ends_all(home, temp, foreign)


def test_down_ends_what_is_left_of_a_cluster_whose_head_was_killed(
    home: Path, foreign: "subprocess.Popen[bytes]"
) -> None:
    up = run_module("cluster.local", *TWO_NODES, cwd=home)
    assert up.returncode == 0, up.stderr
    temp = str(temp_of(home))
    head, worker = nodes(temp)
    # Its starter alone, and what holds the cluster together: the rest is left without them.
    for process in (head.starter, *head.starter.children()):
        if process is head.starter or "gcs_server" in " ".join(raylets.command_line(process)):
            process.kill()
    psutil.wait_procs([head.starter], timeout=10)
    status = run_module("cluster.local", "status", cwd=home)
    assert last_json(status.stdout) == {"up": False}

    def logs() -> str:
        shown = run_module("cluster.local", "logs", "--node", "1", cwd=home)
        assert shown.returncode == 0, shown.stderr
        return str(shown.stdout)

    # A node answers a little before it says so.
    until(lambda: "Ray runtime started" in logs(), "the node's own words")
    assert worker.starter.is_running(), "there is something left to end"
    assert_down_ends_all(home, temp, foreign)
