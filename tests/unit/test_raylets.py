"""Ending a cluster: every process of it and no other. The processes here only sleep."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import raylets
from cluster.errors import SwitchyardError

SLEEP = "import time; time.sleep(300)"
# A process of a cluster whose own children know nothing of it, as a job may have them.
WITH_A_CHILD = f"""
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", {SLEEP!r}], env={{}}).pid, flush=True)
time.sleep(300)
"""
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEP}"

Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a program with the mark of a cluster, or without one."""
    started: list[subprocess.Popen[str]] = []

    def begin(temp: Path | None, program: str = SLEEP) -> "subprocess.Popen[str]":
        environment = dict(os.environ)
        if temp is not None:
            environment[raylets.MARK] = f"{temp}/haproxy/haproxy.cfg"
        command = [sys.executable, "-c", program]
        started.append(subprocess.Popen(command, env=environment, stdout=-1, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def pid_said(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    return int(process.stdout.readline() or 0)


def test_all_of_a_cluster_ends_and_nothing_else(begin: Begin, tmp_path: Path) -> None:
    ours, other = tmp_path / "sy-1", tmp_path / "sy-12"  # one name begins as the other
    ours.mkdir()
    parent, foreign, neighbour = begin(ours, WITH_A_CHILD), begin(None), begin(other)
    child = pid_said(parent)
    assert raylets.end(str(ours)) == 2
    assert not psutil.pid_exists(parent.pid)
    assert not psutil.pid_exists(child)
    assert foreign.poll() is None
    assert neighbour.poll() is None
    assert not ours.exists()


def test_what_does_not_hear_of_the_end_is_killed(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raylets, "TERMINATE_LIMIT_S", 0.5)
    deaf = begin(tmp_path / "sy-1", DEAF)
    assert deaf.stdout is not None
    deaf.stdout.readline()
    assert raylets.end(str(tmp_path / "sy-1"), keep_logs=True) == 1
    assert not psutil.pid_exists(deaf.pid)


def test_a_cluster_that_is_gone_has_nothing_to_end(tmp_path: Path) -> None:
    assert raylets.end(str(tmp_path / "sy-1")) == 0


def test_the_first_node_is_ray_s_own_start_and_the_others_join_it_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(raylets.subprocess, "Popen", lambda words, **_: started.append(words))
    raylets.launch(tmp_path, "node-0", ["--head"])
    raylets.launch(tmp_path, "node-1", ["--address=127.0.0.1:1"])
    head, joined = started
    assert head[2:] == ["-m", raylets.STARTER, "start", "--head"]
    assert (joined[2], joined[4:]) == ("-c", ["start", "--address=127.0.0.1:1"])
    compile(joined[3], "joining", "exec")
    assert raylets.STARTER in joined[3], "by it the processes to end first are known"


def test_a_node_that_ends_before_it_is_up_is_not_waited_for(begin: Begin, tmp_path: Path) -> None:
    log = tmp_path / "node-1.log"
    log.write_text("the port is taken\n")
    process: Any = begin(None, "raise SystemExit(7)")
    with pytest.raises(SwitchyardError, match=r"node-1 ended with code 7(?s:.)*the port is taken"):
        raylets.wait(lambda: False, raylets.Node(process, log))
