"""The sides of tests.benchmarks.serving that answer HTTP: how each is started, awaited and ended.

Each is a program of its own on the cores of this process. All are asked with the same bodies.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks import memory
from tests.benchmarks.lines import ROOT
from tests.benchmarks.load import Target
from tests.benchmarks.serving_inputs import KEY, TOP_K, Inputs, body

OURS, SERVE, PIPELINE = "ours", "serve", "pipeline"
SIDES = (OURS, SERVE, PIPELINE)
ROUTES = {OURS: "/v1/classify", SERVE: "/classify", PIPELINE: "/classify"}
START_LIMIT_S, STOP_LIMIT_S, ANSWER_LIMIT_S = 240, 60, 30
POLL_S = 0.02
SETTLE_LIMIT_S, IDLE_LOOK_S, IDLE_CORES = 120, 0.5, 0.3
_MARK = "SWITCHYARD_BENCHMARK"


@dataclass(frozen=True)
class Setup:
    """What all sides share. `bundle`: a local folder."""

    bundle: Path
    inputs: Inputs
    folder: Path
    port: int


class Server:
    """A side that runs."""

    def __init__(self, target: Target, mark: str, program: "subprocess.Popen[bytes]") -> None:
        """`mark`: in the environment of all that the program starts."""
        self.target = target
        self.mark = mark
        self.program = program
        self.start_s = 0.0

    def answers(self, texts: Sequence[str], limit_s: float = ANSWER_LIMIT_S) -> bool:
        """Whether it labels the texts; RuntimeError where it answers something else."""
        request = urllib.request.Request(
            self.target.url,
            body(list(texts)).encode(),
            {"Authorization": f"Bearer {self.target.key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=limit_s) as reply:
                found = json.load(reply)["predictions"]
        except urllib.error.HTTPError as error:
            if error.code in (404, 500, 502, 503, 504):  # not up yet, or down
                return False
            raise RuntimeError(f"{self.target.url}: {error.code} {error.read()!r}") from None
        except OSError:
            return False
        lists = [one["alternatives"] if isinstance(one, dict) else one for one in found]
        if [len(labels) for labels in lists] != [TOP_K] * len(texts):
            raise RuntimeError(f"{self.target.url} does not give {TOP_K} labels a text: {found!r}")
        return True

    def wait(self, limit_s: float = START_LIMIT_S) -> None:
        """Until it answers; RuntimeError where it has ended or takes too long."""
        until = time.monotonic() + limit_s
        while not self.answers(["is it there"]):
            if self.program.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"It does not answer: {self.program.args!r}")
            time.sleep(POLL_S)

    def settle(self) -> None:
        """Until it has done what it was asked before: a client that goes does not stop a thread.
        RuntimeError where that takes too long."""
        until = time.monotonic() + SETTLE_LIMIT_S
        while self._cores() > IDLE_CORES:
            if time.monotonic() > until:
                raise RuntimeError(f"{self.target.url} is busy, and nobody asks it anything")

    def _cores(self) -> float:
        """How many cores it takes, for a moment."""
        family = self.family()
        before = sum(_cpu_seconds(process) for process in family)
        time.sleep(IDLE_LOOK_S)
        return (sum(_cpu_seconds(process) for process in family) - before) / IDLE_LOOK_S

    def replicas(self) -> list[psutil.Process]:
        """The processes of Serve's replicas."""
        return [each for each in self.family() if "ray::ServeReplica" in _title(each)]

    def family(self) -> list[psutil.Process]:
        """All that it has started and that still runs."""
        found = []
        for pid in memory.family(self.mark.encode()):
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.Error:
        return 0.0


@contextmanager
def running(side: str, setup: Setup, words: Sequence[str] | None = None) -> Iterator[Server]:
    """The side, once it answers; all that it started has ended afterwards.

    `words`: another command than its own.
    """
    mark = f"{_MARK}={uuid.uuid4().hex}"
    log = setup.folder / "logs" / f"{side}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("a") as file:
        program = subprocess.Popen(
            words or command(side, setup),
            cwd=ROOT,
            env=environment(mark),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    url = f"http://127.0.0.1:{setup.port}{ROUTES[side]}"
    server = Server(Target(url, KEY), mark, program)
    try:
        server.wait()
        server.start_s = round(time.monotonic() - began, 2)
        yield server
    finally:
        stop(server)


def command(side: str, setup: Setup) -> list[str]:
    bundle = [f"--bundle={setup.bundle}", f"--port={setup.port}"]
    if side == OURS:
        more = [f"--keys={setup.inputs.keys}", "--precision=auto", "--autoscaling.max_replicas=1"]
        # What it takes anyway, but for machines with more cores than are measured.
        more += [f"--threads={len(os.sched_getaffinity(0))}"]
        return [sys.executable, "-m", "serve.deploy", *bundle, *more]
    module = {SERVE: "serve_defaults", PIPELINE: "serve_pipeline"}[side]
    return [sys.executable, "-m", f"tests.benchmarks.{module}", *bundle]


def environment(mark: str) -> dict[str, str]:
    """Ray's own defaults, whatever is set here, but for the priority of its workers: they would
    give way to the load generator."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "RAY_ADDRESS" and not name.startswith("RAY_SERVE_")
    }
    name, value = mark.split("=")
    return kept | {name: value, "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def stop(server: Server) -> None:
    """Ends a side as Ctrl-C does; kills and names what is left of it then."""
    family = server.family()
    if server.program.poll() is None:
        server.program.send_signal(signal.SIGINT)
    _, left = psutil.wait_procs(family, timeout=STOP_LIMIT_S)
    for process in left:
        print(f"Left behind, killed: {process}", file=sys.stderr, flush=True)
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.program.wait()
