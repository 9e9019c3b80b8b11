"""Speed of training: ours beside transformers' Trainer and a plain PyTorch loop, on all cores.

    python -m tests.benchmarks.training --banking FOLDER --folder NEW_OR_OLD_FOLDER
    python -m tests.benchmarks.training --banking FOLDER --folder NEW_OR_OLD_FOLDER --quality

The first folder holds BANKING77 as train.parquet and test.parquet (columns text and label); only
the training file is read. `--steps` steps a side are timed in `--rounds` rounds: in each the sides
take turns, each in a process of its own that first warms up, so that a machine whose speed changes
does it to all. Each finished turn is a line in FOLDER/lines.jsonl and is not run again. Prints the
tables for BENCHMARKS.md at the end.

`--quality` trains whole runs instead, Trainer with its best flags and ours, several seeds a side,
and judges them on a tenth of the training file (FOLDER/quality.jsonl).
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from tests.benchmarks import full_runs, lines, trainers
from tests.benchmarks.lines import Line
from tests.benchmarks.trainers import Setup

MODULE = "tests.benchmarks.training"
CORES = 2
STEPS, ROUNDS, WARM = 300, 3, 20
TIMEOUT_S = 1800

DEFAULTS = ("trainer-8", "trainer-32")
FLAGS = ("trainer-bf16-32", "trainer-bf16-grouped-32", "trainer-bf16-grouped-64")

# Targets.
OVER_DEFAULTS = 5.0
OVER_FLAGS = 1.3
WORKERS = {4096: 0.9, 1024: 0.8}  # two workers of one thread over one of two

NOTES = """
Real tokens, padding not counted; the mean of the rounds, the slowest and the fastest. Utilisation:
the share of the measured peak of matrix products in the side's own number format that went into
real tokens (tests/benchmarks/measure.py has the formula). "Defaults" are the faster of Trainer's
two sides in float32 (8 rows a batch are its own default), "best flags" the fastest of its three
in bf16. Rows of `ray-` are `jobs.train` itself, the second of two epochs.
"""

Table = dict[str, list[Line]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--banking", type=Path, required=True, help="BANKING77 as Parquet")
    parser.add_argument("--folder", type=Path, required=True, help="lines, logs and scratch")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a side, in all rounds")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of a side")
    parser.add_argument("--warm", type=int, default=WARM, help="steps before each turn")
    parser.add_argument("--sides", nargs="+", choices=trainers.SIDES, help="default: all")
    parser.add_argument("--again", action="store_true", help="also run what failed before")
    parser.add_argument("--quality", action="store_true", help="whole runs, judged")
    parser.add_argument("--epochs", type=int, default=full_runs.EPOCHS, help="of --quality")
    parser.add_argument("--seeds", type=int, default=3, help="of --quality")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.banking, asked.folder = asked.banking.absolute(), asked.folder.absolute()
    # The same cores for every side, also where there are more.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if asked.side:
        print(json.dumps(take_part(asked)), flush=True)
    elif asked.quality:
        run_quality(asked)
    else:
        run_speed(asked)


def take_part(asked: argparse.Namespace) -> Line:
    """One turn of one side, in its own process."""
    threads = len(os.sched_getaffinity(0))
    if asked.quality:
        return full_runs.run(asked.side, asked.banking, asked.number, asked.epochs, threads)
    steps, warm = asked.steps, asked.warm
    return trainers.run(
        asked.side, Setup(asked.banking, asked.folder, steps, warm, asked.number, threads)
    )


def run_speed(asked: argparse.Namespace) -> None:
    place = asked.folder / "lines.jsonl"
    steps = max(1, asked.steps // asked.rounds)
    for number in range(asked.rounds):
        for side in asked.sides or trainers.SIDES:
            key = {"side": side, "round": number, "steps_a_round": steps}
            run_missing(asked, place, key, ["--steps", str(steps), "--warm", str(asked.warm)])
    found = by_side([line for line in lines.read(place) if line["steps_a_round"] == steps])
    print("\n".join([*speed_table(found), NOTES, *target_table(found)]))


def run_quality(asked: argparse.Namespace) -> None:
    place = asked.folder / "quality.jsonl"
    for number in range(asked.seeds):
        for side in full_runs.SIDES:
            key = {"side": side, "round": number, "epochs": asked.epochs}
            run_missing(asked, place, key, ["--quality", "--epochs", str(asked.epochs)])
    found = by_side([line for line in lines.read(place) if line["epochs"] == asked.epochs])
    print("\n".join(full_runs.table(found)))


def run_missing(asked: argparse.Namespace, place: Path, key: Line, words: list[str]) -> None:
    """Runs one turn and writes its line down, unless that is there."""
    before = [line for line in lines.read(place) if key.items() <= line.items()]
    if before and not (asked.again and "failed" in before[-1]):
        return
    side, number = key["side"], key["round"]
    words = [*words, "--banking", str(asked.banking), "--folder", str(asked.folder)]
    found = lines.of_process(
        MODULE,
        [*words, "--side", side, "--number", str(number)],
        log=asked.folder / "logs" / f"{side}.log",
        timeout=TIMEOUT_S,
    )
    lines.append(place, key | found)


def by_side(found: list[Line]) -> Table:
    """The finished lines of each side, one a round."""
    rounds = {(line["side"], line["round"]): line for line in found}
    kept: Table = {}
    for (side, _), line in rounds.items():
        if "failed" not in line:
            kept.setdefault(side, []).append(line)
    return kept


def speed(found: Table, *sides: str) -> float | None:
    """Tokens a second of the fastest of some sides; None where none has run."""
    each = [mean(line["tokens_per_second"] for line in found[s]) for s in sides if s in found]
    return max(each, default=None)


def speed_table(found: Table) -> list[str]:
    written = [
        "| side | real tokens/s | range | padding | utilisation | × defaults | × best flags "
        "| first step after |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for side in trainers.SIDES:
        each = found.get(side, [])
        if side in trainers.PEAKS.values():
            continue
        written.append(speed_row(found, side) if each else f"| {side} | | | | | | | |")
    for dtype, side in trainers.PEAKS.items():
        if side in found:
            best = highest_peak(found, dtype)
            written += ["", f"Peak of matrix products in {dtype}: {best / 1e9:,.0f} GFLOP/s."]
    return written


def speed_row(found: Table, side: str) -> str:
    each = found[side]
    rates = [line["tokens_per_second"] for line in each]
    peak = highest_peak(found, each[0]["dtype"])
    share = mean(line["flops_per_second"] for line in each) / peak if peak else None
    padding = [line["padding"] for line in each if "padding" in line]
    first = [line["first_step_seconds"] for line in each if "first_step_seconds" in line]
    cells = [
        f"{mean(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{mean(padding):.1%}" if padding else "",
        f"{share:.1%}" if share else "",
        ratio(mean(rates), speed(found, *DEFAULTS)),
        ratio(mean(rates), speed(found, *FLAGS)),
        f"{mean(first):.1f} s" if first else "",
    ]
    return f"| {side} | {' | '.join(cells)} |"


def highest_peak(found: Table, dtype: str) -> float:
    each = found.get(trainers.PEAKS[dtype], [])
    return max((line["flops_per_second"] for line in each), default=0.0)


def ratio(value: float, over: float | None) -> str:
    return f"{value / over:.2f}" if over else ""


def target_table(found: Table) -> list[str]:
    met = {True: "met", False: "**missed**"}
    rows = [
        f"| {what} | {value:.2f} | {met[value >= least]} |" for what, value, least in judged(found)
    ]
    return ["| | found | target |", "|---|---:|---|", *rows]


def judged(found: Table) -> Iterator[tuple[str, float, float]]:
    """(what, the value, the least that it should be) for all targets whose sides have run."""
    defaults, flags = speed(found, *DEFAULTS), speed(found, *FLAGS)
    for tokens in sorted(WORKERS):
        ours = speed(found, f"ours-{tokens}")
        if ours and defaults:
            what = f"ours at {tokens:,} tokens over Trainer's defaults"
            yield f"{what}, at least {OVER_DEFAULTS:g}", ours / defaults, OVER_DEFAULTS
        if ours and flags:
            what = f"ours at {tokens:,} tokens over Trainer's best flags"
            yield f"{what}, at least {OVER_FLAGS:g}", ours / flags, OVER_FLAGS
    for tokens, least in WORKERS.items():
        pairs = [("bare", "ours-2-workers", "ours"), ("under Ray", "ray-2-workers", "ray-1-worker")]
        for where, two, one in pairs:
            both, alone = speed(found, f"{two}-{tokens}"), speed(found, f"{one}-{tokens}")
            if both and alone:
                what = f"two workers of one thread over one of two at {tokens:,} tokens, {where}"
                yield f"{what}, at least {least:g}", both / alone, least


if __name__ == "__main__":
    main()
