"""Load on an endpoint: wrk with so many connections, each of which waits for its answer.

Debian's wrk (its package `bombardier` is a game, not the load generator of that name). Such a
closed loop finds the highest rate; its latencies are those of a queue that is as long as there are
connections. Latencies at a given rate are for tests.benchmarks.open_loop.
"""

import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.lines import Line

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_S = 60
_SENT = re.compile(r"sent (\d+)")


@dataclass(frozen=True)
class Target:
    """Where requests go, with which key."""

    url: str
    key: str


def require() -> None:
    """Ends the program where there is no wrk."""
    if shutil.which("wrk") is None:
        sys.exit("There is no wrk here: apt-get install wrk.")


def closed_loop(target: Target, bodies: Path, *, connections: int, seconds: float) -> Line:
    """The figures of so many seconds; `bodies` holds one JSON body a line, sent in turn.

    `generator_cores`: how much of a core wrk itself took.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command(target, bodies, connections=connections, seconds=seconds),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return read(done.stdout) | {"generator_cores": round(used / seconds, 3)}


def counted(
    target: Target,
    bodies: Path,
    *,
    connections: int,
    requests: int,
    every: int,
    look: Callable[[int], None],
) -> Line:
    """The figures of so many requests, and some more; `look` is called after each `every` of them
    were sent, while the load goes on."""
    seconds = 24 * 3600  # it is told to stop
    words = command(target, bodies, connections=connections, seconds=seconds, every=every)
    began = time.monotonic()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        said = []
        try:
            for line in running.stdout:
                said.append(line)
                if (sent := _SENT.match(line)) is None:
                    continue
                look(int(sent[1]))
                if int(sent[1]) >= requests:
                    running.send_signal(signal.SIGINT)
        finally:
            running.kill()
    found = read("".join(said))
    return found | {"seconds": round(time.monotonic() - began, 1)}


def command(
    target: Target, bodies: Path, *, connections: int, seconds: float, every: int = 0
) -> list[str]:
    words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    words += ["--timeout", f"{TIMEOUT_S}s", "-s", str(SCRIPT), target.url]
    return [*words, "--", str(bodies), target.key, str(every)]


def read(said: str) -> Line:
    """The figures in what wrk printed; ValueError where there are none.

    `errors`: answers that are no success, requests that failed, and those that got none in time.
    """
    found = [line for line in said.splitlines() if line.startswith("{")]
    if not found:
        raise ValueError(f"wrk printed no figures: {said!r}")
    raw = json.loads(found[-1])
    errors = raw["refused"] + raw["broken"] + raw["late"]
    good = max(0, raw["requests"] - raw["refused"])
    return {
        "requests": raw["requests"],
        "requests_per_second": round(good / (raw["microseconds"] / 1e6), 2),
        "errors": errors,
        "p50_ms": raw["p50_us"] / 1e3,
        "p90_ms": raw["p90_us"] / 1e3,
        "p99_ms": raw["p99_us"] / 1e3,
        "most_ms": raw["most_us"] / 1e3,
    }
