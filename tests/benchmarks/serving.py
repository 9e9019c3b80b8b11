"""The endpoint beside Ray Serve's defaults, FastAPI with a pipeline, and the bare forward pass.

    python -m tests.benchmarks.serving --banking FOLDER --folder NEW_OR_OLD_FOLDER
    python -m tests.benchmarks.serving --banking FOLDER --folder … --only speed
    python -m tests.benchmarks.serving --banking FOLDER --folder … --only memory ready

The first folder holds BANKING77 as train.parquet (columns text and label). Servers and load share
two cores. Needs wrk (apt-get install wrk) and no Ray cluster: each side starts its own, and ends.

speed: in each round the sides take turns. A turn starts the server, warms it up, and takes
`--seconds` each of 1 text a request on 64 connections, 32 texts on 16, 1 text on one, and for ours
1 text at half of the rate just found, at moments drawn by chance. memory: `--requests` of them
on 64 connections, the replica's memory as they go. ready: the replica is killed again and again.

Each finished turn is a line in FOLDER/lines.jsonl and is not run again; one that failed is. Prints
the tables for BENCHMARKS.md at the end.
"""

import argparse
import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import lines, load, open_loop, serving_replica, serving_tables
from tests.benchmarks.lines import Line
from tests.benchmarks.serving_inputs import inputs, make_bundle
from tests.benchmarks.serving_sides import OURS, SIDES, Server, Setup, running
from tests.benchmarks.serving_tables import CEILING, KINDS

CORES = 2
ROUNDS, SECONDS, WARM_S = 3, 15.0, 5.0
REQUESTS, LOOKS, KILLS = 200_000, 40, 5
TIMEOUT_S = 1800
# Of a figure of the ceiling, of which there are eighteen, beside one of a server.
CEILING_SHARE = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--banking", type=Path, required=True, help="BANKING77 as Parquet")
    parser.add_argument("--folder", type=Path, required=True, help="lines, logs, the bundle")
    parser.add_argument("--bundle", type=Path, help="local folder; default: one is made")
    parser.add_argument("--model", default="minilm", help="of the bundle that is made")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--sides", nargs="+", choices=[*SIDES, CEILING], default=[*SIDES, CEILING])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of a side")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each figure of a server")
    parser.add_argument("--warm", type=float, default=WARM_S, help="seconds before each turn")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of memory")
    parser.add_argument("--kills", type=int, default=KILLS, help="of ready")
    parser.add_argument("--port", type=int, default=8123)
    asked = parser.parse_args()
    asked.banking, asked.folder = asked.banking.absolute(), asked.folder.absolute()
    load.require()
    # A shell's background jobs are born deaf to Ctrl-C, and so would the servers be.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The same cores for everything, also where there are more.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    bundle = asked.bundle or make_bundle(asked.banking, asked.folder, asked.model)
    given = inputs(asked.banking, asked.folder)
    setup = Setup(bundle.absolute(), given, asked.folder, asked.port)
    found = run(asked, setup)
    print("\n".join(tables(found)))


def run(asked: argparse.Namespace, setup: Setup) -> list[Line]:
    """The lines that were asked for, after those that were not there have been run."""
    wanted = []
    if "speed" in asked.only:
        for number in range(asked.rounds):
            for side in asked.sides:
                key = {"what": "speed", "side": side, "round": number, "seconds": asked.seconds}
                wanted.append((key, _turn(asked, setup, side)))
    if "memory" in asked.only:
        every = max(1, asked.requests // LOOKS)
        key = {"what": "memory", "requested": asked.requests}
        wanted.append((key, lambda: serving_replica.watch_memory(setup, asked.requests, every)))
    if "ready" in asked.only:
        key = {"what": "ready", "kills": asked.kills}
        wanted.append((key, lambda: serving_replica.kill_replica(setup, asked.kills)))
    place = asked.folder / "lines.jsonl"
    found = [once(place, key | {"bundle": str(setup.bundle)}, work) for key, work in wanted]
    return [line for line in found if "failed" not in line]


def once(place: Path, key: Line, work: Callable[[], Line]) -> Line:
    """The line of this key: the one that is there, or what the work gives, written down."""
    for line in lines.read(place):
        if key.items() <= line.items() and "failed" not in line:
            return line
    try:
        found = key | work()
    except Exception as error:  # the other turns are worth having
        found = key | {"failed": f"{type(error).__name__}: {error}"}
    lines.append(place, found)
    return found


def _turn(asked: argparse.Namespace, setup: Setup, side: str) -> Callable[[], Line]:
    """One turn of one side, to be run."""
    if side == CEILING:
        seconds = CEILING_SHARE * asked.seconds
        words = [f"--banking={asked.banking}", f"--bundle={setup.bundle}", f"--seconds={seconds}"]
        log = setup.folder / "logs" / "ceiling.log"
        module = "tests.benchmarks.serving_ceiling"
        return lambda: lines.of_process(module, words, log=log, timeout=TIMEOUT_S)

    def turn() -> Line:
        with running(side, setup) as server:
            return {"start_s": server.start_s} | loads(
                server, setup, side, seconds=asked.seconds, warm=asked.warm
            )

    return turn


def loads(server: Server, setup: Setup, side: str, *, seconds: float, warm: float) -> Line:
    """All figures of a server that runs."""
    given, target = setup.inputs, server.target
    load.closed_loop(target, given.many, connections=16, seconds=warm / 2)
    load.closed_loop(target, given.one, connections=64, seconds=warm / 2)
    found: Line = {}
    for part, (bodies, connections) in {
        "single": (given.one, 64),
        "many": (given.many, 16),
        "one": (given.one, 1),
    }.items():
        server.settle()
        found[part] = load.closed_loop(target, bodies, connections=connections, seconds=seconds)
    server.settle()
    if side == OURS:
        texts = given.one.read_text().splitlines()
        rate = found["single"]["requests_per_second"] / 2
        found["half"] = open_loop.run(target, texts, rate=rate, seconds=seconds, seed=0)
    return found


def tables(found: list[Line]) -> list[str]:
    written = []
    for line in found:
        if line["what"] == "memory":
            written += serving_tables.memory(line)
        elif line["what"] == "ready":
            written += serving_tables.ready(line)
    turns = [line for line in found if line["what"] == "speed"]
    return [
        *(serving_tables.speed(turns) if turns else []),
        *written,
        *serving_tables.targets(found),
    ]


if __name__ == "__main__":
    main()
