"""A new champion under load: what a client that does not wait sees of it.

    python -m tests.benchmarks.serving_changes --banking FOLDER --folder NEW_FOLDER --rate 250

Requests of one text come by chance at `--rate` a second (half of the peak that
tests.benchmarks.serving finds). `--changes` times another version of the same size is promoted in
the registry, which each replica looks up every half second, and loads, checks and warms while it
answers. Latencies of the calm seconds before each promotion stand beside those from the promotion
until a second after the last replica was seen with the new version. Target: a p99 of at most twice
the calm one, and no request that fails. Servers and load share two cores.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cluster.registry import CHAMPION, Registry
from tests.benchmarks import open_loop
from tests.benchmarks.lines import Line
from tests.benchmarks.serving import CORES
from tests.benchmarks.serving_inputs import KEY, inputs, make_bundle
from tests.benchmarks.serving_sides import OURS, Setup, running

NAME = "tickets"
POLL_S, CALM_S, AFTER_S, LIMIT_S = 0.5, 8.0, 1.0, 60.0
LOOKS = 12  # in a row with the new version, whichever replica answers


@dataclass
class _Spans:
    """Between which moments (`time.monotonic`) it was calm, and a change under way."""

    calm: list[tuple[float, float]] = field(default_factory=list)
    change: list[tuple[float, float]] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--banking", type=Path, required=True, help="BANKING77 as Parquet")
    parser.add_argument("--folder", type=Path, required=True, help="registry, logs, the bundle")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--changes", type=int, default=5, help="promotions")
    parser.add_argument(
        "--replicas", type=int, nargs="+", default=[1, 2], help="one cluster for each number"
    )
    parser.add_argument("--model", default="minilm", help="of the bundle that is made")
    parser.add_argument("--port", type=int, default=8124)
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    folder = asked.folder.absolute()
    bundle = make_bundle(asked.banking.absolute(), folder, asked.model)
    setup = Setup(bundle, inputs(asked.banking.absolute(), folder), folder, asked.port)
    print(
        "| replicas | changes | calm p50, p99 | during p50, p99 | ratio of p99 | until everywhere "
        "| failed |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for replicas in asked.replicas:
        found = measure(setup, replicas, asked.rate, asked.changes)
        print(json.dumps(found), file=sys.stderr, flush=True)
        print(row(found), flush=True)


def measure(setup: Setup, replicas: int, rate: float, changes: int) -> Line:
    place = setup.folder / f"registry-{replicas}"
    shutil.rmtree(place, ignore_errors=True)
    registry = Registry(str(place))
    versions = [_publish(registry, setup, number) for number in range(2)]
    # A replica claims a CPU, and one is kept for jobs: claims, which hold no core.
    os.environ["RAY_OVERRIDE_RESOURCES"] = json.dumps({"CPU": replicas + 1})
    registry.point(NAME, CHAMPION, versions[0], expected=None, reason="the first")
    with running(OURS, setup, _command(setup, place, replicas)) as server:
        _until(lambda: len(server.replicas()) == replicas)
        texts = setup.inputs.one.read_text().splitlines()
        client, spans = open_loop.Client(server.target, texts), _Spans()
        ended = threading.Event()
        changer = threading.Thread(
            target=_change, args=(registry, versions, changes, setup.port, spans, ended)
        )
        changer.start()
        # Longer than the changes take; ended as soon as they are done.
        asyncio.run(_load(client, open_loop.due(rate, changes * (CALM_S + LIMIT_S), 0), ended))
        changer.join()
    if len(spans.change) != changes:
        raise RuntimeError(f"{len(spans.change)} of {changes} changes reached every replica")
    return {
        "replicas": replicas,
        "rate": rate,
        "changes": changes,
        "failed": client.errors,
        "seconds": [round(end - begin - AFTER_S, 2) for begin, end in spans.change],
        "calm": _figures(client.answers, spans.calm),
        "during": _figures(client.answers, spans.change),
    }


def _publish(registry: Registry, setup: Setup, number: int) -> str:
    """A version that differs in its bundle.json alone: what it holds besides is its labels."""
    copy = setup.folder / f"version-{number}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(setup.bundle, copy)
    about = json.loads((copy / "bundle.json").read_text())
    about["abstention_threshold"] = 0.001 * number
    (copy / "bundle.json").write_text(json.dumps(about))
    return registry.publish(NAME, copy, "bundle.json")


def _command(setup: Setup, registry: Path, replicas: int) -> list[str]:
    words = ["--registry", str(registry), "--registry.poll_s", str(POLL_S), "--name", NAME]
    words += ["--port", str(setup.port), "--keys", str(setup.inputs.keys)]
    words += [f"--autoscaling.{side}_replicas={replicas}" for side in ("min", "max")]
    words += [f"--threads={max(1, CORES // replicas)}"]
    return [sys.executable, "-m", "serve.deploy", *words]


async def _load(client: open_loop.Client, moments: Sequence[float], ended: threading.Event) -> None:
    load = asyncio.create_task(client.run(moments))
    while not ended.is_set():
        await asyncio.sleep(0.1)
    load.cancel()
    await asyncio.gather(load, return_exceptions=True)


def _change(
    registry: Registry,
    versions: Sequence[str],
    changes: int,
    port: int,
    spans: _Spans,
    ended: threading.Event,
) -> None:
    try:
        time.sleep(CALM_S)  # warms up
        for number in range(changes):
            begin = time.monotonic()
            time.sleep(CALM_S)
            now = time.monotonic()
            spans.calm.append((begin, now))
            version = versions[(number + 1) % 2]
            before = registry.aliases(NAME)[CHAMPION]
            registry.point(NAME, CHAMPION, version, expected=before, reason="a change")
            _until(lambda version=version: all(_version(port) == version for _ in range(LOOKS)))
            time.sleep(AFTER_S)
            spans.change.append((now, time.monotonic()))
    finally:
        ended.set()


def _version(port: int) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/info", headers={"Authorization": f"Bearer {KEY}"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return str(json.load(reply)["model"]["version"])


def _until(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > LIMIT_S:
            raise RuntimeError(f"not within {LIMIT_S:g} s")
        time.sleep(0.05)


def _figures(answers: Sequence[tuple[float, float]], spans: Sequence[tuple[float, float]]) -> Line:
    """Of the requests that were due in one of the spans."""
    within = [late for at, late in answers if any(begin <= at < end for begin, end in spans)]
    return open_loop.figures(within, [], 0, len(within))


def row(found: Line) -> str:
    calm, during, seconds = found["calm"], found["during"], found["seconds"]
    cells = [
        found["replicas"],
        found["changes"],
        f"{calm['p50_ms']:.0f} ms, {calm['p99_ms']:.0f} ms",
        f"{during['p50_ms']:.0f} ms, {during['p99_ms']:.0f} ms",
        f"{during['p99_ms'] / calm['p99_ms']:.2f}",
        f"{np.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})",
        found["failed"],
    ]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
