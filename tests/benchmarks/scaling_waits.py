"""A part of tests.benchmarks.scaling: the waits, on the cluster that it runs on as a job.

    python -m tests.benchmarks.scaling_waits --folder FOLDER

Knows nothing of how the cluster came up.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from ray import serve

from cluster import ports, resources, session, sharing
from jobs import passes
from tests.benchmarks import load

# Core-seconds, from 10 M rows in 16.4 s on two cores (BENCHMARKS.md): half of them the first pass
# over 40 chunks, a third the second, the rest 10 ranges of keys.
FIRST_S, SECOND_S, SETTLE_S = 0.41, 0.27, 0.54
DECIDE_S = 0.05
CHUNKS, RANGES = 20, 5  # a node
SETTLED_BYTES = 40_000_000  # what a range of a million keys leaves in the object store
# 400 requests a second from a replica on two cores; a quarter of it leaves the machine idle.
RATES = (100, 400)
ROWS = 16  # of one pass of a replica
CONNECTIONS = 64  # a replica
LOAD_S = 6.0


def wait_for_chunk(number: int, seconds: float) -> dict[str, Any]:
    """A task of a pass: the wait, and the small message that the real one gives."""
    time.sleep(seconds)
    labels = [f"team {k}" for k in range(150)]
    return {"chunk": number, "offsets": list(range(40)), "labels": labels}


def settle(seconds: float) -> npt.NDArray[np.uint8]:
    time.sleep(seconds)
    return np.ones(SETTLED_BYTES, np.uint8)


def decide(settled: npt.NDArray[np.uint8], seconds: float) -> int:
    time.sleep(seconds)
    return int(settled[-1])


def preparation(nodes: int, slots: int) -> dict[str, float]:
    """`seconds` that the passes and ranges took, and `waits`: those that they waited for in it."""
    import ray

    claim = ray.remote(num_cpus=resources.TASK_CPUS)
    chunks, ranges = CHUNKS * nodes, RANGES * nodes
    for _ in passes.over(slots, wait_for_chunk, seconds=0.0):
        pass  # worker processes are there
    began = time.monotonic()
    for _ in passes.over(chunks, wait_for_chunk, seconds=FIRST_S):
        pass
    settled = sharing.spread(claim(settle), ((SETTLE_S,) for _ in range(ranges)))
    ray.wait(settled, num_returns=ranges, fetch_local=False)
    ray.get(sharing.spread(claim(decide), ((ref, DECIDE_S) for ref in settled)))
    for _ in passes.over(chunks, wait_for_chunk, seconds=SECOND_S):
        pass
    seconds = time.monotonic() - began
    turns = -(-chunks // slots), -(-ranges // slots)
    waits = turns[0] * (FIRST_S + SECOND_S) + turns[1] * (SETTLE_S + DECIDE_S)
    return {"seconds": round(seconds, 2), "waits": round(waits, 2)}


def transfer_ms() -> float | None:
    """Milliseconds to fetch what a range leaves from another node; None where there is none."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node["NodeID"] for node in session.nodes()]
    if len(nodes) < 2:
        return None
    on = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes[:2]]
    made = ray.remote(num_cpus=0)(settle).options(scheduling_strategy=on[0])
    timed = ray.remote(num_cpus=0)(_fetch).options(scheduling_strategy=on[1])
    found = []
    for _ in range(4):
        ref = made.remote(0.0)
        ray.wait([ref], fetch_local=False)
        found.append(ray.get(timed.remote([ref])))
    return round(1e3 * min(found[1:]), 1)


def _fetch(refs: list[Any]) -> float:
    import ray

    began = time.monotonic()
    ray.get(refs[0])
    return time.monotonic() - began


@serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1.5})
class Waits:
    """A replica whose passes are waits: one at a time, over those requests that wait for it."""

    def __init__(self, rate: float) -> None:
        self.seconds = 1.0 / rate
        self.waiting: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self.passes: asyncio.Task[None] | None = None

    async def __call__(self, _: Any) -> dict[str, str]:
        if self.passes is None:
            self.passes = asyncio.create_task(self.work())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait(done)
        await done
        return {"label": "mail"}

    async def work(self) -> None:
        ends = 0.0
        while True:
            taken = [await self.waiting.get()]
            while len(taken) < ROWS and not self.waiting.empty():
                taken.append(self.waiting.get_nowait())
            # Whoever asked may have gone: what the warm-up left is not worked off in measured time.
            taken = [done for done in taken if not done.done()]
            # From the end of the pass before, where it was waited for: timers are late by a little.
            now = time.monotonic()
            ends = max(ends, now - self.seconds) + len(taken) * self.seconds
            await asyncio.sleep(ends - now)
            for done in taken:
                if not done.done():
                    done.set_result(None)


def replicas(nodes: int, rate: int, folder: Path, port: int) -> dict[str, Any]:
    """The requests a second of as many replicas as nodes, each of which can do `rate`."""
    serve.run(Waits.options(num_replicas=nodes).bind(rate), route_prefix="/", name="waits")
    bodies = folder / "bodies.jsonl"
    bodies.write_text('{"texts": ["cannot log in to the VPN"]}\n')
    target = load.Target(f"http://127.0.0.1:{port}", "none")
    load.closed_loop(target, bodies, connections=CONNECTIONS * nodes, seconds=2)
    psutil.cpu_percent()
    found = load.closed_loop(target, bodies, connections=CONNECTIONS * nodes, seconds=LOAD_S)
    busy = psutil.cpu_percent() / 100
    serve.delete("waits")
    return {**found, "aim": nodes * rate, "busy": round(busy, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.scaling_waits", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for what is sent")
    folder = parser.parse_args().folder
    session.connect()
    session.streaming_context()
    nodes, slots = len(session.nodes()), sharing.at_once()
    found: dict[str, Any] = {"slots": slots, "tasks": preparation(nodes, slots)}
    found["transfer_ms"] = transfer_ms()
    port = ports.lasting_port()
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    found["replicas"] = [replicas(nodes, rate, folder, port) for rate in RATES]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
