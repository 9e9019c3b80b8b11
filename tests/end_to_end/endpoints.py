"""An endpoint on a cluster of its own, and the processes that make it up."""

import json
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from cluster import overview
from cluster.haproxy import MARK
from cluster.session import LOOPBACK
from tests.conftest import last_json
from tests.end_to_end.conftest import run_module
from tests.end_to_end.traffic import Traffic

KEY = "sy_test-key"
LIMIT_S = 60.0
# Serve lets a replica that goes drain for 30 s; here it is as long as HAProxy may take to be told.
QUICK = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3", "RAY_worker_niceness": "0"}


@dataclass(frozen=True)
class Endpoint:
    """A running cluster, and the port that its endpoint listens on."""

    home: Path
    url: str
    written: dict[str, Any]  # what cluster.local wrote down of itself

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def environment(self) -> dict[str, str]:
        joins = {"RAY_ADDRESS": self.written["address"], "RAY_AUTH_MODE": "token"}
        return joins | LOOPBACK | QUICK

    def deploy(self, *words: str, code: int = 0) -> dict[str, Any]:
        """`serve.deploy` with these flags; its last line."""
        done = run_module(
            "serve.deploy", *words, "--port", str(self.port), "--code", str(self.home / "code"),
            cwd=self.home, environment=self.environment,
        )  # fmt: skip
        assert done.returncode == code, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return dict(last_json(done.stdout))

    def info(self) -> dict[str, Any]:
        reply = httpx.get(f"{self.url}/info", headers={"Authorization": f"Bearer {KEY}"})
        reply.raise_for_status()
        return dict(reply.json())

    def processes(self, name: str) -> list[psutil.Process]:
        """The cluster's processes whose command line holds a word, the newest last."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get(MARK, "").startswith(f"{self.written['temp']}/")
                if mine and name in " ".join(process.cmdline()):
                    found.append((process.create_time(), process))
            except psutil.Error:
                continue
        return [process for _, process in sorted(found, key=lambda pair: pair[0])]

    def replicas(self) -> list[psutil.Process]:
        return self.processes("ray::ServeReplica")

    def serves(self, count: int, *, without: Collection[int] = ()) -> bool:
        """Whether so many replicas run, by Serve's own word, and none is of these process ids. A
        process has a replica's name seconds before it serves."""
        found = overview.endpoints(self.written)  # none while the dashboard does not answer
        now = {process.pid for process in self.replicas()}
        said = [served["replicas"] for served in found]
        return said == [{"RUNNING": count}] and len(now) == count and not now & set(without)

    def kill(self, name: str) -> int:
        """SIGKILLs the newest process of that name; its id."""
        process = self.processes(name)[-1]
        process.send_signal(signal.SIGKILL)
        return int(process.pid)


@contextmanager
def running(home: Path, port: int, *, cpus: int, nodes: int = 1) -> Iterator[Endpoint]:
    """A cluster of so many nodes of so many CPUs, on which nothing is deployed yet."""
    words = ("up", "--nodes", str(nodes), "--cpus-per-node", str(cpus))
    try:
        up = run_module("cluster.local", *words, cwd=home, environment=QUICK)
        assert up.returncode == 0, up.stderr
        written = json.loads((home / ".switchyard" / "cluster.json").read_text())
        (home / "keys.txt").write_text(f"{KEY}\n")
        yield Endpoint(home, f"http://127.0.0.1:{port}", written)
    finally:
        down = run_module("cluster.local", "down", cwd=home)
        assert down.returncode == 0, down.stderr


def until(
    condition: Callable[[], Any], what: str | Callable[[], str], limit_s: float = LIMIT_S
) -> float:
    """Waits for a condition; the seconds that it took. `what` is waited for; where it is to say
    how things stand at the end, a function says it."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began >= limit_s:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"{said}: not within {limit_s:g} s")
        time.sleep(0.05)
    return time.monotonic() - began


def answered(seen: Traffic, condition: Callable[[], bool] = lambda: True, calls: int = 40) -> None:
    """Waits for so many more answers, and then for the condition."""
    mark = seen.mark()
    until(lambda: sum(not call.failed for call in seen.since(mark)) >= calls, "answers", 120)
    until(condition, "what was to come about under load", 120)


def note(name: str, figures: Mapping[str, Any]) -> None:
    """Says a figure, and keeps it where FIGURES_OF_TESTS names a file."""
    line = json.dumps({"fault": name, **figures})
    print(line)
    if place := os.environ.get("FIGURES_OF_TESTS"):
        with Path(place).open("a") as file:
            file.write(line + "\n")
