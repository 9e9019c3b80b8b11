"""What a search finds for its epochs, what a trial costs beside training, and what a kill costs.

    python -m tests.benchmarks.tuning --banking FOLDER --folder NEW_OR_OLD_FOLDER

The first folder holds BANKING77's train.parquet (columns text and label); the test file is not
read. Of the 20 largest classes a long tail is cut as in tests.benchmarks.quality, with its training
and validation rows and the rows held out, another one for each seed. `tuning.search` runs on it
until a budget of epochs is spent, all trials together: with TPE and ASHA, by chance without early
stopping, and so with three times the budget (the same search, gone on with). The space is the
default one without its known points, which would give all sides the same good start. The best
trial by validation rows is judged on the rows held out, as its bundle answers.

`killed`: the driver is killed (SIGKILL) in the middle of the second trial, and the search resumed.
Every finished side is a line in FOLDER/lines.jsonl and is not run again; one that was cut off goes
on. `--tiny` is for a test: two short epochs a trial.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.classifier import metrics
from jobs.classifier.predictor import Predictor
from jobs.prepared import open_prepared
from tests.benchmarks import intents, lines, trial_costs
from tests.benchmarks.killed_search import killed
from tests.benchmarks.lines import Line
from tests.benchmarks.quality import long_tail, spread
from tests.benchmarks.rows import Rows
from tuning import space
from tuning.experiment import Folder

SIDES = {  # how it searches, and how many budgets it has
    "tpe-asha": (["--algorithm", "tpe", "--scheduler", "asha"], 1),
    "random": (["--algorithm", "random", "--scheduler", "none"], 1),
    "random-3x": (["--algorithm", "random", "--scheduler", "none"], 3),
}
KILLED = "killed"
BUDGET, CLASSES, SEEDS = 50, 20, 3
TIMEOUT_S = 3600
MOST_OVERHEAD_S = 3.0


@dataclass(frozen=True)
class Setup:
    """What all sides of a seed share."""

    banking: Path
    folder: Path
    classes: int
    model: str
    tiny: bool

    def words(self, seed: int, epochs: int | None = None) -> list[str]:
        """Of `tuning.search`, for every side; `epochs` of each trial, None: searched."""
        fixed = {
            "data": prepared(self, seed),
            "space": space_file(self),
            "model.name": self.model,
            "seed": seed,
            "train.seed": seed,
            "at-once": 1,
        }
        fixed |= {} if epochs is None else {"train.epochs": epochs}
        fixed |= {"model.max_tokens": 64} if self.tiny else {}
        return [f"--{key}={value}" for key, value in fixed.items()]


def prepared(setup: Setup, seed: int) -> Path:
    """Prepared data of a seed, made now if it is not there."""
    place = setup.folder / f"data-{setup.classes}-{seed}"
    if place.exists():
        return place
    texts, labels = (np.array(column) for column in intents.load(setup.banking, "train"))
    kept = [name for name, _ in Counter(labels.tolist()).most_common(setup.classes)]
    rows = np.flatnonzero(np.isin(labels, kept))
    _, ids = np.unique(labels[rows], return_inverse=True)
    nothing = Rows([], ids.astype(np.int32), np.zeros(0, np.uint64))
    parts = dict(
        zip(("train", "validation", "test"), long_tail(nothing, len(kept), seed), strict=True)
    )
    source = setup.folder / f"source-{setup.classes}-{seed}.parquet"
    chosen = [(texts[rows[k]], labels[rows[k]], name) for name, p in parts.items() for k in p]
    columns = zip(("text", "label", "split"), zip(*chosen, strict=True), strict=True)
    source.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: list(values) for name, values in columns}), source)
    said = lines.of_process(
        "jobs.prepare",
        [f"--source={source}", f"--output={place}"],
        log=setup.folder / "logs" / "prepare.log",
        timeout=TIMEOUT_S,
    )
    assert "failed" not in said, said
    return place


def space_file(setup: Setup) -> Path:
    """The default space without the points that are known to be good."""
    place = setup.folder / "space.toml"
    if not place.exists():
        place.write_text(space.DEFAULT.read_text().split("[[points]]")[0])
    return place


def run(setup: Setup, side: str, seed: int, budget: int) -> Line:
    """One side of one seed: the search, and what came of it."""
    words, times = SIDES[side]
    folder = Folder(str(setup.folder / "searches" / f"{side.removesuffix('-3x')}-{budget}-{seed}"))
    more = ["--resume"] if folder.exists() else []
    epochs = f"--epoch-budget={budget * times}"
    began = time.monotonic()
    said = lines.of_process(
        "tuning.search",
        [
            f"--output={folder.uri}",
            *setup.words(seed, 2 if setup.tiny else None),
            *words,
            epochs,
            *more,
        ],
        log=setup.folder / "logs" / f"{side}-{seed}.log",
        timeout=TIMEOUT_S,
    )
    if "failed" in said or said["bundle"] is None:
        return {"failed": said.get("failed", "no trial finished")}
    trials = folder.trials()
    return {
        "validation": said["macro_f1"],
        "held_out": held_out(said["bundle"], str(folder.record()["data"]["uri"])),
        "epochs": sum(len(trial.history) for trial in trials),
        "trials": said["trials"],
        "best": next(t.parameters for t in trials if t.number == said["best_trial"]),
        "seconds": round(time.monotonic() - began, 1),
    } | trial_costs.of(trials)


def held_out(bundle: str, data: str) -> float:
    """Macro-F1 of a bundle's answers on the rows that no search has seen."""
    predictor = Predictor(Path(bundle))
    found = open_prepared(data)
    texts, labels = found.rows("test")
    truth = found.labels.encode(labels, where="the rows held out")
    counts = metrics.counts(truth, predictor.predict(texts).labels, len(found.labels.names))
    return float(metrics.from_counts(counts)["macro_f1"])


def run_missing(setup: Setup, sides: Sequence[str], seeds: int, budget: int) -> list[Line]:
    """The lines of this budget, after those that were not there have been run."""
    place = setup.folder / "lines.jsonl"
    same = {"budget": budget, "classes": setup.classes, "model": setup.model}
    for seed in range(seeds):
        for side in sides:
            key = same | {"side": side, "seed": seed}
            if side == KILLED and seed > 0:
                continue
            if any(key.items() <= line.items() for line in finished(place)):
                continue
            if side == KILLED:
                # The tiny network has done five epochs before one has looked.
                words = setup.words(seed, 30 if setup.tiny else 5)
                found = killed(setup.folder / KILLED, words, setup.folder / "logs")
            else:
                found = run(setup, side, seed, budget)
            lines.append(place, key | found)
    return [line for line in finished(place) if same.items() <= line.items()]


def finished(place: Path) -> list[Line]:
    """What failed is run again."""
    return [line for line in lines.read(place) if "failed" not in line]


def tables(found: Sequence[Line]) -> list[str]:
    """For BENCHMARKS.md: mean ± standard deviation over the seeds."""
    written = [
        "| search | seeds | epochs | trials, of them finished | macro-F1, validation rows "
        "| macro-F1, rows held out | minutes | overhead a trial, median, most |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for side in SIDES:
        each = [line for line in found if line["side"] == side]
        if not each:
            continue
        cells = [
            str(len(each)),
            f"{mean(line['epochs'] for line in each):.0f}",
            f"{mean(sum(line['trials'].values()) for line in each):.1f}, "
            f"{mean(line['trials'].get('finished', 0) for line in each):.1f}",
            spread([line["validation"] for line in each]),
            spread([line["held_out"] for line in each]),
            f"{mean(line['seconds'] for line in each) / 60:.1f}",
            f"{median(line['overhead_s'] for line in each):.1f} s, "
            f"{max(line['most_overhead_s'] for line in each):.1f} s",
        ]
        written.append(f"| {side} | {' | '.join(cells)} |")
    return [*written, "", *differences(found), "", *targets(found)]


def differences(found: Sequence[Line]) -> list[str]:
    """TPE with ASHA less the others, seed by seed."""
    scores = {(line["side"], line["seed"]): line for line in found if line["side"] in SIDES}
    written = ["| TPE with ASHA less | rows | seed by seed |", "|---|---|---|"]
    for other in ("random", "random-3x"):
        for rows in ("validation", "held_out"):
            pairs = [
                scores["tpe-asha", seed][rows] - line[rows]
                for (side, seed), line in sorted(scores.items())
                if side == other and ("tpe-asha", seed) in scores
            ]
            name = rows.replace("_", " ")
            written.append(f"| {other} | {name} | {', '.join(f'{p:+.4f}' for p in pairs)} |")
    return written


def targets(found: Sequence[Line]) -> list[str]:
    met = {True: "met", False: "**missed**"}
    written = ["| | found | target |", "|---|---:|---|"]
    overheads = [line["overhead_s"] for line in found if "overhead_s" in line]
    if overheads:
        worst = max(overheads)
        written.append(
            f"| seconds of a trial beside training, validating and saving: the median of the worst "
            f"search | {worst:.1f} | at most {MOST_OVERHEAD_S:g}: {met[worst <= MOST_OVERHEAD_S]} |"
        )
    for line in found:
        if line["side"] == KILLED:
            written += [
                f"| from SIGKILL to the next finished trial, `--resume` | {line['seconds']:.1f} s "
                "| to be said |",
                f"| trials lost, trials repeated | {line['lost']}, {line['repeated']} "
                f"| 0, 0: {met[line['lost'] == line['repeated'] == 0]} |",
                f"| epochs of the trial cut off that were trained again | {line['trained_again']} "
                "| to be said |",
            ]
    return written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--banking", type=Path, required=True, help="BANKING77 as Parquet")
    parser.add_argument("--folder", type=Path, required=True, help="lines, logs and searches")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--budget", type=int, default=BUDGET, help="epochs, in all trials together")
    parser.add_argument("--sides", nargs="+", choices=[*SIDES, KILLED], default=[*SIDES, KILLED])
    parser.add_argument("--classes", type=int, default=CLASSES, help="the largest so many")
    parser.add_argument("--model", default=intents.MODEL, help="as model.name")
    parser.add_argument("--tiny", action="store_true", help="for a test")
    asked = parser.parse_args()
    setup = Setup(
        asked.banking.absolute(), asked.folder.absolute(), asked.classes, asked.model, asked.tiny
    )
    found = run_missing(setup, asked.sides, asked.seeds, asked.budget)
    print("\n".join(tables(found)))


if __name__ == "__main__":
    main()
