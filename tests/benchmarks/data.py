"""Speed and size of data preparation, beside Ray's own split and DuckDB, all on two cores.

    python -m tests.benchmarks.data --folder NEW_FOLDER --sizes 1000000 3000000 10000000

Each side runs in a process of its own and adds a line to FOLDER/results.jsonl when it is done; a
side that has its line is not run again, so that an interrupted run goes on. Prints the tables for
BENCHMARKS.md at the end. Linux only: memory is read from /proc.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tests.benchmarks import rivals
from tests.benchmarks.memory import MIB, Watch

ROOT = Path(__file__).resolve().parents[2]
SIZES = (1_000_000, 3_000_000, 10_000_000)
AT_EACH_SIZE = ("prepare", "prepare-command", "ray-split", "duckdb", "duckdb-plain")
TOKEN_ROWS = 600_000
IDLE = "switchyard benchmark: idle"
MARK = "SWITCHYARD_BENCHMARK"
LEAVE = 1 << 30  # bytes of memory that a side must leave to the machine

# Targets, by rows where they hold at some sizes alone.
MOST_MIB = 4096
RAY_AT_LEAST = {1_000_000: 4, 10_000_000: 6}
DUCKDB_AT_MOST = {10_000_000: 4}
LINEAR = 1.25
TOKENS_AT_LEAST = 0.8

NOTES = """
Warm processes, each on the same two cores; the two commands alone include their start, and their
memory is all of theirs. `prepare` is the rows' part of `jobs.prepare`: all that the others do, with
conflicts and rejected rows written; `prepare-command` is the whole, with the figures of the report
(100,000 texts are tokenized for it, whatever the size). `ray-split` is
`train_test_split(stratify=)` after the same normalising, both sides written: texts that stand there
several times are not found out, since Ray Data has no operation for it, two sides are made and not
three, and no ids are kept, all in its favour.
`duckdb` does all of our work in one process; `duckdb-plain` too, but normalises every text, where
`duckdb` first looks whether there is anything to do.
"""

Result = dict[str, Any]
Key = tuple[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="data, logs and results")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="rows")
    parser.add_argument("--token-rows", type=int, default=TOKEN_ROWS, help="rows of side tokens")
    names = [*AT_EACH_SIZE, "synthesize", "tokens"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="sides")
    parser.add_argument("--again", action="store_true", help="also run what failed before")
    parser.add_argument("--timeout", type=float, default=1200, help="seconds of a side")
    parser.add_argument("--side", choices=rivals.SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    if asked.side:
        take_part(asked.side, folder, asked.sizes[0])
        return
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    # Everything on the same two cores, also where there are more.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: rivals.CPUS])
    for side, rows in plan(asked.sizes, asked.token_rows, asked.only):
        if to_do(folder, side, rows, asked.again):
            keep(folder, run(folder, side, rows, asked.timeout))
    found = results(folder)
    print("\n".join([*table(found), NOTES, *targets(found)]))


def plan(sizes: Sequence[int], token_rows: int, only: Sequence[str]) -> Iterator[Key]:
    """Sides in their order, the source before those that read it."""
    for rows in sorted(sizes):
        wanted = [side for side in AT_EACH_SIZE if side in only]
        for side in ["source", *wanted] if wanted else []:
            yield side, rows
    if "synthesize" in only:
        yield "synthesize", max(sizes)
    if "tokens" in only:
        yield "source", token_rows
        yield "tokens", token_rows


def to_do(folder: Path, side: str, rows: int, again: bool) -> bool:
    line = results(folder).get((side, rows))
    if side == "source" and not rivals.tickets(folder, rows).exists():
        return True
    return line is None or (again and "failed" in line)


def results(folder: Path) -> dict[Key, Result]:
    """The last line of each side."""
    place = folder / "results.jsonl"
    lines = place.read_text().splitlines() if place.exists() else []
    found = [json.loads(line) for line in lines]
    return {(line["side"], line["rows"]): line for line in found}


def keep(folder: Path, result: Result) -> None:
    line = json.dumps(result)
    print(line, file=sys.stderr, flush=True)
    with (folder / "results.jsonl").open("a") as file:
        file.write(line + "\n")


def take_part(side: str, folder: Path, rows: int) -> None:
    """One side, in its own process: warms up, waits until its idle memory is known, works."""
    work = rivals.SIDES[side](folder, rows)
    print(IDLE, flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    found = work()
    print(json.dumps({"seconds": time.monotonic() - began} | found), flush=True)


def run(folder: Path, side: str, rows: int, timeout: float) -> Result:
    """The line of one side; `failed` says what came instead of seconds."""
    if side == "source":
        rivals.empty(rivals.tickets(folder, rows))
    mark = uuid.uuid4().hex
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {MARK: mark}
    place = folder / "logs" / f"{side}-{rows}.log"
    os.sync()  # the files of the side before
    began, idle, answer = time.monotonic(), 0, {}
    with place.open("w") as log:
        program = start(command(folder, side, rows), environment, log)
        watch = Watch(program, mark, seconds=timeout, leave=LEAVE)
        watch.start()
        try:
            for line in program.stdout or ():
                log.write(line)
                if line.strip() == IDLE:
                    idle = watch.idle()
                    tell(program)
                elif line.startswith("{"):
                    answer = json.loads(line)
            code = program.wait()
        finally:
            watch.stop()
    took = time.monotonic() - began
    line: Result = {"side": side, "rows": rows}
    if watch.failed or code:
        return line | {"failed": watch.failed or f"ended with {code}: {last_line(place)}"}
    line["seconds"] = round(answer.pop("seconds", took), 2)
    line |= {"idle_mib": idle // MIB, "peak_mib": max(0, watch.peak - idle) // MIB}
    answer.pop("output", None)
    return line | {"answer": answer} if answer else line


def command(folder: Path, side: str, rows: int) -> list[str]:
    if side == "prepare-command":
        output = rivals.empty(folder / "prepared")
        words = ["jobs.prepare", "--source", str(rivals.tickets(folder, rows))]
        return [*words, "--output", str(output)]
    if side == "synthesize":
        output = rivals.empty(folder / "synthesized")
        return ["jobs.synthesize", "--rows", str(rows), "--output", str(output)]
    return ["tests.benchmarks.data", "--side", side, "--sizes", str(rows), "--folder", str(folder)]


def start(words: list[str], environment: dict[str, str], log: IO[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )


def tell(program: "subprocess.Popen[str]") -> None:
    """Lets a side that is idle begin."""
    if program.stdin is not None:
        with suppress(BrokenPipeError):  # ended meanwhile, which its line will say
            program.stdin.write("go\n")
            program.stdin.flush()


def last_line(place: Path) -> str:
    lines = place.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "no word"


def table(found: dict[Key, Result]) -> list[str]:
    lines = [
        "| side | rows | seconds | rows/s | seconds per million | PSS above idle, MiB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for (side, rows), line in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        if "failed" in line:
            lines.append(f"| {side} | {rows:,} | failed: {line['failed']} | | | |")
        elif side not in ("source", "tokens"):
            seconds, whole = line["seconds"], "" if line["idle_mib"] else " in all"
            lines.append(
                f"| {side} | {rows:,} | {seconds:,.1f} | {rows / seconds:,.0f} "
                f"| {seconds / rows * 1e6:.2f} | {line['peak_mib']:,}{whole} |"
            )
    return lines


def targets(found: dict[Key, Result]) -> list[str]:
    met = {True: "met", False: "**missed**", None: ""}
    lines = [f"| {what} | {value} | {met[good]} |" for what, value, good in judged(found)]
    return ["| | found | target |", "|---|---:|---|", *lines]


def judged(found: dict[Key, Result]) -> Iterator[tuple[str, str, bool | None]]:
    """(what, the value, whether the target is met); None where there is no target."""
    done = {key: line for key, line in found.items() if "failed" not in line}
    ours = {rows: line for (side, rows), line in sorted(done.items()) if side == "prepare"}
    for rows, line in ours.items():
        peak = line["peak_mib"]
        yield (
            f"PSS above idle at {rows:,} rows, under {MOST_MIB:,} MiB",
            f"{peak:,}",
            peak < MOST_MIB,
        )
    for rows, line in ours.items():
        least, ray = RAY_AT_LEAST.get(rows), found.get(("ray-split", rows), {})
        what = f"Ray's time over ours at {rows:,} rows{f', at least {least}' if least else ''}"
        if "failed" in ray:
            yield what, f"Ray {ray['failed']}", None
        elif ray:
            factor = ray["seconds"] / line["seconds"]
            yield what, f"{factor:.2f}", factor >= least if least else None
    for rows, line in ours.items():
        for side, most in (("duckdb", DUCKDB_AT_MOST.get(rows)), ("duckdb-plain", None)):
            if (side, rows) in done:
                factor = line["seconds"] / done[side, rows]["seconds"]
                what = f"our time over that of {side} at {rows:,} rows"
                what += f", at most {most}" if most else ""
                yield what, f"{factor:.2f}", factor <= most if most else None
    if len(ours) > 1:
        each = [line["seconds"] / rows for rows, line in ours.items()]
        what = f"seconds a row at {max(ours):,} over those at {min(ours):,} rows, at most {LINEAR}"
        yield what, f"{each[-1] / each[0]:.2f}", each[-1] / each[0] <= LINEAR
    for (side, _), line in done.items():
        if side == "tokens":
            store, bare = line["answer"]["store_rate"], line["answer"]["bare_rate"]
            share = store / bare
            what = f"token store over bare tokenizer ({store:,} over {bare:,} rows/s a core)"
            what += f", at least {TOKENS_AT_LEAST}"
            yield what, f"{share:.2f}", share >= TOKENS_AT_LEAST


if __name__ == "__main__":
    main()
