"""How well it classifies: BANKING77 cut to a long tail, settings compared, and the last look.

    python -m tests.benchmarks.quality long-tail --banking FOLDER --folder FOLDER
    python -m tests.benchmarks.quality compare --banking FOLDER --folder FOLDER --set NAME \\
        --optim.lr 3e-4 …
    python -m tests.benchmarks.quality test --banking FOLDER --folder FOLDER

`long-tail`: every class keeps 20 rows of the training file for judging; of the others the k-th
largest class keeps n · 50^(-k/76), 15% of which are validation rows (at least one a class). Every
strategy of balancing (balanced-softmax is logit-adjustment) trains on the rest, for as many rows
as ten epochs without balancing have, three seeds of rows and of training. It is judged on the
20 · 77 rows, as the network answers, calibrated without a decision offset, and with the one that
is fitted on the validation rows for macro-F1; once as they are, and once with each row weighed so
that the classes have the shares of the training rows, as a desk would see it. The test file is not
read.
`compare`: settings as `jobs.train` takes them, on 80% of the training file, 5% of which choose the
epoch and fit the scores, and 15% of which judge.
`test`: the same on the whole of it, judged on the test file (one look a seed), with McNemar's test
against the frozen encoder with logistic regression on the same rows.
Every finished run is a line in FOLDER/<mode>.jsonl, and is not run again.
"""

import argparse
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cluster import command
from jobs import balance, baselines, comparison, evaluation
from jobs.classifier import calibration, decision, loop, metrics, network, stopping
from jobs.classifier.batches import batches, plan_in_order
from jobs.classifier.step import logits_of
from jobs.decisions import Judge
from jobs.settings import Balance
from jobs.training import Training, loss_of, recipe_of
from tests.benchmarks import intents, lines
from tests.benchmarks.rows import Ints, Rows

CPU = torch.device("cpu")
HELD_OUT = 20
RATIO = 50.0
VALIDATION = 0.15
SMALL_VALIDATION = 0.05
JUDGED = 0.15
Logits = npt.NDArray[np.float32]


def answers(trained: Any, rows: Rows) -> tuple[Logits, Ints]:
    """(logits [n, classes], truth [n]) in float32, the longest rows first."""
    trained.eval()
    found, truth = [], []
    with torch.inference_mode():
        for batch in batches(rows, plan_in_order(rows, batch_tokens=4096), pad_id=0):
            found.append(logits_of(trained, batch, torch.float32, CPU))
            truth.append(batch.labels)
    return torch.cat(found).numpy(), torch.cat(truth).numpy()


def train(settings: Training, training: Rows, validation: Rows, names: list[str]) -> Any:
    """The network of the best epoch, trained as `jobs.train` would, in this process."""
    seed = settings.train.seed
    trained = network.new_network(
        network.model_folder(settings.model.name), names, dropout=settings.model.dropout, seed=seed
    )
    network.freeze(trained, settings.model.freeze_layers)
    feed = intents.feed(
        training,
        validation,
        classes=len(names),
        batch_tokens=settings.train.batch_tokens,
        seed=seed,
        balanced=settings.balance,
    )
    counts = training.counts(len(names))
    prior = feed.balanced.prior
    best: dict[str, Any] = {}
    history: list[Any] = []

    def keep(figures: Any, _: Any) -> None:
        history.append(figures)
        if stopping.best_epoch(history, settings.stopping.metric) == len(history):
            best.update({name: value.clone() for name, value in trained.state_dict().items()})

    loop.train(
        trained,
        feed,
        recipe_of(settings, CPU),
        report=keep,
        device=CPU,
        seed=seed,
        stop=stopping.Rule(settings.stopping.metric, settings.stopping.patience),
        judge=Judge(
            settings.decide, (None if prior is None else prior.tolist(), counts / counts.sum())
        ),
        **loss_of(feed.balanced),
    )
    trained.load_state_dict(best)
    return trained, stopping.best_epoch(history, settings.stopping.metric)


def judged(labels: Ints, truth: Ints, natural: npt.NDArray[np.float64]) -> dict[str, float]:
    """Accuracy, macro-F1, the mean recall of the third of the classes that are rarest; and the
    first two with rows weighed to the natural shares."""
    counts = metrics.counts(truth, labels, len(natural))
    headline = metrics.from_counts(counts)
    _, recall, _ = metrics.per_class(counts)
    # In millionths, as counts are whole numbers.
    share = natural / np.maximum(counts[2], 1)
    of = [truth[labels == truth], None, truth]
    weighed = [
        np.bincount(labels if rows is None else rows, minlength=len(natural),
                    weights=share[truth if rows is None else rows])
        for rows in of
    ]  # fmt: skip
    mixed = metrics.from_counts((np.stack(weighed) * 1e6).round().astype(np.int64))
    return {
        "accuracy": headline["accuracy"],
        "macro_f1": headline["macro_f1"],
        "rarest_third_recall": float(recall[evaluation.rarest_third(natural)].mean()),
        "natural_accuracy": mixed["accuracy"],
        "natural_macro_f1": mixed["macro_f1"],
    }


def decided(
    trained: Any, validation: Rows, asked: Rows, prior: Any, natural: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """Figures on `asked` of the network as it is, calibrated, and with the decision offset."""
    fitted_on, truth = answers(trained, validation)
    found = calibration.fit(
        fitted_on, truth, training_prior=None if prior is None else prior.tolist(),
        natural_prior=natural,
    )  # fmt: skip
    strength = decision.offset_strength(found.log_scores(fitted_on), truth, natural, "macro_f1")
    offset = decision.offset(strength, natural).astype(np.float32)
    raw, right = answers(trained, asked)
    scores = found.log_scores(raw)
    labels = (scores + offset).argmax(1)
    return {
        "as trained": judged(raw.argmax(1), right, natural),
        "calibrated": judged(scores.argmax(1), right, natural),
        "offset": judged(labels, right, natural),
        "temperature": found.temperature,
        "prior_strength": found.prior_strength,
        "offset_strength": strength,
        "ece_before": error(raw, raw.argmax(1), right),
        "ece_after": error(scores, labels, right),
        "labels": labels.tolist(),
        "truth": right.tolist(),
    }


def error(logits: Logits, labels: Ints, truth: Ints) -> float:
    p = np.exp(calibration.log_softmax(logits.astype(np.float64)))
    return metrics.calibration_error(p[np.arange(len(p)), labels], labels == truth)


def long_tail(rows: Rows, classes: int, seed: int) -> tuple[Ints, Ints, Ints]:
    """(training, validation, judged) rows; see the module."""
    rng = np.random.default_rng([seed, 50])
    shuffled = [rng.permutation(np.flatnonzero(rows.labels == c)) for c in range(classes)]
    order = sorted(range(classes), key=lambda c: -len(shuffled[c]))
    decay = RATIO ** (-np.arange(classes) / (classes - 1))
    room = np.array([len(shuffled[c]) - HELD_OUT for c in order])
    wanted = np.maximum(2, np.round(min(room / decay) * decay)).astype(int)
    parts: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for c, n in zip(order, wanted, strict=True):
        mine = shuffled[c]
        checked = max(1, round(VALIDATION * n))
        parts[2].append(mine[:HELD_OUT])
        parts[1].append(mine[HELD_OUT : HELD_OUT + checked])
        parts[0].append(mine[HELD_OUT + checked : HELD_OUT + n])
    training, validation, asked = (np.sort(np.concatenate(part)) for part in parts)
    return training, validation, asked


def run_long_tail(rows: Rows, names: list[str], strategy: str, seed: int, epochs: int) -> Any:
    training, validation, asked = (rows.take(part) for part in long_tail(rows, len(names), seed))
    counts = training.counts(len(names))
    plan = balance.plan(Balance(strategy=strategy), counts)
    # As many rows for all: an epoch of oversampling holds four times those of one without.
    epochs = max(1, round(epochs * len(training.labels) / plan.rows))
    settings = Training.model_validate(
        {"balance": {"strategy": strategy}, "train": {"epochs": epochs, "seed": seed}}
    )
    prior = plan.prior
    began = time.monotonic()
    trained, best = train(settings, training, validation, names)
    seconds = time.monotonic() - began
    found = decided(trained, validation, asked, prior, counts / counts.sum())
    sizes = {
        "rows": len(training.labels),
        "largest": int(counts.max()),
        "rarest": int(counts.min()),
    }
    return found | sizes | {"epochs": epochs, "best_epoch": best, "seconds": round(seconds, 1)}


def run_split(settings: Training, rows: Rows, asked: Rows | None, names: list[str]) -> Any:
    """Trains on the rows; judged on `asked`, or without it on a part of them that is held out."""
    seed = settings.train.seed
    if asked is None:
        rest, held = intents.stratified(rows.labels, JUDGED, seed)
        rows, asked = rows.take(rest), rows.take(held)
    training, validation = (
        rows.take(part) for part in intents.stratified(rows.labels, SMALL_VALIDATION, seed)
    )
    counts = training.counts(len(names))
    prior = balance.plan(settings.balance, counts).prior
    began = time.monotonic()
    trained, best = train(settings, training, validation, names)
    seconds = time.monotonic() - began
    found = decided(trained, validation, asked, prior, counts / counts.sum())
    return found | {"best_epoch": best, "seconds": round(seconds, 1)}


def against_frozen(found: Any, texts: Any, asked: Any) -> Any:
    """McNemar's test between a run's labels and those of the frozen encoder on the same rows."""
    names = sorted(set(texts[1]))
    place = {name: number for number, name in enumerate(names)}
    # `answers` gave its rows by length: so are these.
    rows = intents.tokens_of(*asked, names)
    order = np.concatenate(list(plan_in_order(rows, batch_tokens=4096)))
    labels = np.array([place[name] for name in texts[1]])
    model = settings_of([]).model
    theirs = baselines.frozen(texts[0], labels, asked[0], model.name, model.max_tokens)[order]
    truth, ours = np.array(found["truth"]), np.array(found["labels"])
    assert (rows.labels[order] == truth).all()
    frozen_accuracy = float((theirs == truth).mean())
    return {"frozen_accuracy": frozen_accuracy} | comparison.mcnemar(ours == truth, theirs == truth)


def settings_of(words: list[str]) -> Training:
    """`--optim.lr 3e-4 …` as settings."""
    keys = [word.removeprefix("--") for word in words[::2]]
    nested: dict[str, Any] = {}
    for key, value in zip(keys, words[1::2], strict=True):
        group, name = key.split(".")
        nested.setdefault(group, {})[name] = value
    return Training.model_validate(nested)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["long-tail", "compare", "test"])
    parser.add_argument("--banking", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategies", default=",".join(balance.STRATEGIES[:-1]), help="long-tail")
    parser.add_argument("--set", default="default", help="compare: what the line is called")
    known, words = parser.parse_known_args()
    tail = known.mode == "long-tail"
    if tail and words:
        parser.error(f"long-tail does not take {' '.join(words)}")
    place = known.folder / f"{known.mode}.jsonl"
    done = {line["key"] for line in lines.read(place)}
    learned = intents.load(known.banking, "train")
    names = sorted(set(learned[1]))
    rows = intents.tokens_of(*learned, names)
    for seed in range(known.seeds):
        for name in known.strategies.split(",") if tail else (known.set,):
            settings = settings_of([*words, "--train.seed", str(seed)])
            key = f"{name} {seed} {known.epochs if tail else command.dotted(settings)}"
            if key in done:
                continue
            if tail:
                found = run_long_tail(rows, names, name, seed, known.epochs)
            elif known.mode == "compare":
                found = run_split(settings, rows, None, names)
            else:
                asked = intents.load(known.banking, "test")
                found = run_split(settings, rows, intents.tokens_of(*asked, names), names)
                found["against_frozen"] = against_frozen(found, learned, asked)
            lines.append(place, {"key": key, "name": name} | found)
    print("\n".join(table(lines.read(place))))


def table(found: list[Any]) -> list[str]:
    """Mean ± standard deviation over seeds, of each way to decide."""
    figures = {
        "accuracy": "accuracy",
        "macro_f1": "macro-F1",
        "rarest_third_recall": "recall, rarest third",
        "natural_accuracy": "accuracy, natural shares",
        "natural_macro_f1": "macro-F1, natural shares",
    }
    written = [
        f"| | decision | seeds | {' | '.join(figures.values())} | ECE before, after |",
        f"|---|---|---:|{'---:|' * len(figures)}---:|",
    ]
    for name in dict.fromkeys(line["name"] for line in found):
        runs = [line for line in found if line["name"] == name]
        for way in ("as trained", "calibrated", "offset"):
            cells = [spread([run[way][figure] for run in runs]) for figure in figures]
            errors = ", ".join(
                f"{mean(r[k] for r in runs):.3f}" for k in ("ece_before", "ece_after")
            )
            written.append(f"| {name} | {way} | {len(runs)} | {' | '.join(cells)} | {errors} |")
    return written


def spread(values: list[float]) -> str:
    around = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{around}"


if __name__ == "__main__":
    main()
