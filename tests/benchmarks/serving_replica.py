"""Our replica for a while: its memory over many requests, and how soon it is there again when
it was killed."""

import signal
import sys
import time
from collections.abc import Sequence

import numpy as np
import psutil

from tests.benchmarks import load, memory
from tests.benchmarks.lines import Line
from tests.benchmarks.serving_sides import OURS, POLL_S, Server, Setup, running

CONNECTIONS = 64
WARM_SHARE = 0.25  # of the requests; what is grown until then is no leak
READY_LIMIT_S = 120
BARS = "▁▂▃▄▅▆▇█"


def watch_memory(setup: Setup, requests: int, every: int) -> Line:
    """`curve`: (requests sent, RSS, PSS) of the replica, in bytes, while it works."""
    with running(OURS, setup) as server:
        replica = only(server)
        curve: list[tuple[int, int, int]] = []

        def look(sent: int) -> None:
            curve.append((sent, replica.memory_info().rss, memory.pss(replica.pid)))
            if sent % (10 * every) == 0:
                print(f"{sent:,} requests", file=sys.stderr, flush=True)

        look(0)
        found = load.counted(
            server.target,
            setup.inputs.one,
            connections=CONNECTIONS,
            requests=requests,
            every=every,
            look=look,
        )
        same = only(server).pid == replica.pid
    return found | {"curve": curve, "same_process": same}


def growth(curve: Sequence[Sequence[int]]) -> tuple[float, float]:
    """(bytes per 1,000 requests, the rise over all that follows the warm-up as a share of what the
    line has at its beginning), of the least-squares line through the RSS after the warm-up."""
    points = np.array(curve, dtype=np.float64)
    points = points[points[:, 0] >= WARM_SHARE * points[-1, 0]]
    slope, start = np.polyfit(points[:, 0], points[:, 1], 1)
    first, last = start + slope * points[0, 0], start + slope * points[-1, 0]
    return float(slope * 1000), float((last - first) / first)


def drawn(values: Sequence[float]) -> str:
    """A curve in one line of text, from the least to the most of the values."""
    least, most = min(values), max(values)
    span = (most - least) or 1
    return "".join(BARS[int((v - least) / span * (len(BARS) - 1) + 0.5)] for v in values)


def kill_replica(setup: Setup, times: int) -> Line:
    """Seconds, for each SIGKILL: `outage`, from there to the next answer, and `ready`, from the
    start of the new replica's process to that answer (through the front, as a client sees it)."""
    outage, ready = [], []
    with running(OURS, setup) as server:
        start = server.start_s
        for number in range(times):
            lost, found = one_kill(server)
            outage.append(round(lost, 2))
            ready.append(round(found, 2))
            print(f"kill {number + 1}: {lost:.2f} s, {found:.2f} s", file=sys.stderr, flush=True)
    return {"outage": outage, "ready": ready, "start_s": start}


def one_kill(server: Server) -> tuple[float, float]:
    old = only(server)
    killed = time.time()
    old.send_signal(signal.SIGKILL)
    old.wait(timeout=READY_LIMIT_S)
    while not server.answers(["is it there"], limit_s=1):
        if time.time() - killed > READY_LIMIT_S:
            raise RuntimeError("no answer after the replica was killed")
        time.sleep(POLL_S)
    answered = time.time()
    # Where Ray had a process in store, the replica's start is not that process's.
    started = max(killed, only(server).create_time())
    return answered - killed, answered - started


def only(server: Server) -> psutil.Process:
    """The one replica; RuntimeError where there are others."""
    found = server.replicas()
    if len(found) != 1:
        raise RuntimeError(f"one replica was to be there, not {found}")
    return found[0]
