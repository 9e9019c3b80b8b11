"""Speed of training steps on one accelerator: ours, padded and packed, beside transformers'.

    python -m tests.benchmarks.accelerator [--output FILE]
    python -m tests.benchmarks.accelerator --tiny

Needs torch, transformers, numpy and safetensors alone, no network and no Ray: BERTs with random
weights (MiniLM's shape and bert-base's), random tokens, texts as short as BANKING77's, of 32 to
128 tokens, and of 512. Prints each line as JSON when it is there, and a Markdown table at the end.
Lines in FILE are not measured again. `--tiny` tries everything at a tiny size, also on a CPU.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from math import log2
from pathlib import Path

import torch

from jobs.classifier.precision import resolve
from tests.benchmarks import bare, lines
from tests.benchmarks.bare import Case
from tests.benchmarks.lines import Line
from tests.benchmarks.measure import peak

BUDGETS = (4096, 16384, 65536)
TOKENS = 2_000_000
WARM = 40  # of graphs, most are made by then
TRAINER_ROWS = 32

# Targets.
UTILISATION = 0.5  # bert-base at 512 tokens
OVER_TRAINER = 2.0  # on short, unequal texts

NOTES = """
Real tokens, padding not counted. Utilisation: the share of the measured peak of matrix products
that went into real tokens (tests/benchmarks/measure.py has the formula). `trainer` is transformers
with bf16, group by length and fused AdamW, {by}; its size
is rows a batch: 32, and about as many as the token budgets of the others come to. On CUDA `packed`
runs as graphs; `compiled` is the layers through torch.compile (train.packed, train.compile).
"""

Found = dict[tuple[str, str, str, int], Line]


def main() -> None:
    asked = flags()
    device = bare.pick_device(asked.device)
    before = lines.read(asked.output) if asked.output else []
    found = {place_of(line): line for line in before if "side" in line}
    top = peak(resolve("auto", device), device, size=256 if asked.tiny else 0)
    say(asked.output, {"device": bare.name_of(device), "peak": top, "torch": torch.__version__})
    for case in cases(asked, device):
        if tuple(case.key.values()) not in found:
            line = bare.run(case, bare.rows_for(case, max(asked.budgets)), device)
            found[place_of(line)] = line
            say(asked.output, line)
    print("\n".join(report(found, top, device)))
    if any(line.get("failed", bare.OUT_OF_MEMORY) != bare.OUT_OF_MEMORY for line in found.values()):
        sys.exit(1)


def flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    full = [name for name in bare.MODELS if name != "tiny"]
    parser.add_argument("--output", type=Path, help="file that lines are added to")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--models", nargs="+", choices=bare.MODELS, default=full)
    parser.add_argument("--lengths", nargs="+", choices=bare.LENGTHS, default=[*bare.LENGTHS])
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="tokens a batch")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="timed, of each side")
    parser.add_argument("--warm", type=int, default=WARM, help="steps before those that are timed")
    parser.add_argument("--sides", nargs="+", choices=bare.SIDES, default=bare.SIDES)
    parser.add_argument("--tiny", action="store_true", help="only see that everything runs")
    asked = parser.parse_args()
    if asked.tiny:
        asked.models, asked.lengths, asked.budgets = ["tiny"], ["short", "128"], [1024]
        asked.tokens, asked.warm = 2000, 1
        torch.set_num_threads(1)  # where cores are shared, two threads wait for each other
    return asked


def cases(asked: argparse.Namespace, device: torch.device) -> Iterator[Case]:
    """All that is asked for and can be had."""
    # On a CPU packed rows attend one after the other: there it is only seen to run. Nor is
    # anything compiled: our dropout draws by numpy there, which torch.compile takes apart wrongly.
    here = {"trainer", "padded", *(["packed"] if asked.tiny else [])}
    sides = [side for side in asked.sides if device.type == "cuda" or side in here]
    for model in asked.models:
        for lengths in asked.lengths:
            rows = {TRAINER_ROWS} | {rows_of(budget, lengths) for budget in asked.budgets}
            for side in sides:
                for size in sorted(rows) if side == "trainer" else asked.budgets:
                    yield Case(side, model, lengths, size, asked.tokens, asked.warm)


def rows_of(budget: int, lengths: str) -> int:
    """About as many rows as hold `budget` tokens, a power of two."""
    return 1 << max(0, round(log2(budget / bare.mean_length(lengths))))


def place_of(line: Line) -> tuple[str, str, str, int]:
    return line["side"], line["model"], line["lengths"], line["size"]


def say(output: Path | None, line: Line) -> None:
    """Prints a line, or adds it to the file, which says it too."""
    if output is None:
        print(json.dumps(line), flush=True)
    else:
        lines.append(output, line)


def report(found: Found, top: float, device: torch.device) -> list[str]:
    by = {line["by"] for line in found.values() if "by" in line}
    return [
        "",
        f"{bare.name_of(device)}, torch {torch.__version__}; peak {top / 1e12:,.2f} TFLOP/s.",
        "",
        "| model | texts | side | size | real tokens/s | padding | utilisation | × 32 rows | GiB |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
        *(row(found, line, top) for line in found.values()),
        NOTES.format(by=f"by {' and '.join(sorted(by))}"),
        "| | found | target |",
        "|---|---:|---|",
        *targets(found, top),
    ]


def row(found: Found, line: Line, top: float) -> str:
    begin = f"| {line['model']} | {line['lengths']} | {line['side']} | {line['size']:,}"
    if "failed" in line:
        return f"{begin} | {line['failed']} | | | | |"
    over = speed(found, line["model"], line["lengths"], "trainer", TRAINER_ROWS)
    rate = line["tokens_per_second"]
    cells = [
        f"{rate:,.0f}",
        f"{line['padding']:.1%}",
        f"{line['flops_per_second'] / top:.1%}",
        f"{rate / over:.2f}" if over else "",
        f"{line['gib']:.1f}" if "gib" in line else "",
    ]
    return f"{begin} | {' | '.join(cells)} |"


def speed(found: Found, model: str, lengths: str, side: str, size: int = 0) -> float:
    """Tokens a second of the best size of a side, or of one; 0 where nothing has run.

    `side` "ours" is any of ours.
    """
    rates = [
        line["tokens_per_second"]
        for (by, of, texts, tokens), line in found.items()
        if (of, texts) == (model, lengths)
        and (by == side or (side == "ours" and by != "trainer"))
        and size in (0, tokens)
        and "failed" not in line
    ]
    return max(rates, default=0.0)


def targets(found: Found, top: float) -> list[str]:
    met = {True: "met", False: "**missed**"}
    return [
        f"| {what} | {value:.2f} | {met[value >= least]} |"
        for what, value, least in judged(found, top)
    ]


def judged(found: Found, top: float) -> Iterator[tuple[str, float, float]]:
    """(what, the value, the least that it should be) for all targets whose sides have run."""
    done = [line for line in found.values() if "failed" not in line and line["side"] != "trainer"]
    long = [x for x in done if (x["model"], x["lengths"]) == ("bert-base", "512")]
    if long:
        share = max(line["flops_per_second"] for line in long) / top
        yield f"utilisation of bert-base at 512 tokens, at least {UTILISATION}", share, UTILISATION
    for model in dict.fromkeys(line["model"] for line in done if line["model"] != "tiny"):
        ours = speed(found, model, "short", "ours")
        for size, which in ((TRAINER_ROWS, "at 32 rows"), (0, "at its best batch")):
            theirs = speed(found, model, "short", "trainer", size)
            if ours and theirs:
                what = f"{model}, short texts: ours over transformers' best flags {which}"
                yield f"{what}, at least {OVER_TRAINER:g}", ours / theirs, OVER_TRAINER


if __name__ == "__main__":
    main()
