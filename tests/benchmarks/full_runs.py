"""Whole runs for `tests.benchmarks.training --quality`: what each side makes of the same rows.

Trains on nine tenths of BANKING77's training file and judges on the rest, both sides by the same
function; the test file is not read. Trainer has its best flags (bf16 where the hardware computes
in it, group by length, 32 rows a batch), our learning rate, schedule, label smoothing and epochs;
ours has its default settings. Both report the last epoch and the best one, which is what
`jobs.train` keeps.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from jobs.classifier import loop, network, precision
from jobs.feed import StoreFeed
from jobs.settings import Model, Optim, Train
from tests.benchmarks import hugging, intents, trainers
from tests.benchmarks.lines import Line
from tests.benchmarks.rows import Rows

CPU = trainers.CPU
EPOCHS = Train().epochs
SPLIT_SEED = 0
SHARE = 0.1
FIGURES = ("macro_f1", "accuracy")


class Sides:
    """The two parts of the training file, the same for all sides and seeds."""

    def __init__(self, banking: Path) -> None:
        texts, labels = intents.load(banking, "train")
        self.names = sorted(set(labels))
        rows = intents.tokens_of(texts, labels, self.names)
        training, validation = intents.stratified(labels, SHARE, SPLIT_SEED)
        self.training: Rows = rows.take(training)
        self.validation: Rows = rows.take(validation)

    def feed(self, seed: int) -> StoreFeed:
        return intents.feed(
            self.training,
            self.validation,
            classes=len(self.names),
            batch_tokens=Train().batch_tokens,
            seed=seed,
        )


def trainer(data: Sides, seed: int, epochs: int) -> list[Mapping[str, float]]:
    """transformers' Trainer; the figures of each epoch."""
    from transformers import Trainer, TrainerCallback

    dtype = precision.resolve("auto", CPU)
    feed, found = data.feed(seed), list[Mapping[str, float]]()
    torch.manual_seed(seed)
    model = trainers.plain_network(data.names)

    class Judge(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            found.append(loop.validate(model, feed.validation(), dtype=dtype, device=CPU))
            model.train()

    with tempfile.TemporaryDirectory() as folder:
        chosen = hugging.arguments(
            folder,
            bf16=dtype is torch.bfloat16,
            grouped=True,
            device=CPU,
            per_device_train_batch_size=32,
            num_train_epochs=epochs,
            learning_rate=Optim().lr,
            lr_scheduler_type="linear",
            label_smoothing_factor=Optim().label_smoothing,
            seed=seed,
        )
        Trainer(
            model,
            chosen,
            data_collator=trainers.collator(),
            train_dataset=hugging.Examples(data.training),
            callbacks=[Judge()],
        ).train()
    return found


def ours(data: Sides, seed: int, epochs: int) -> list[Mapping[str, float]]:
    """Our loop with the default settings; the figures of each epoch."""
    found: list[Mapping[str, float]] = []
    model = network.new_network(
        network.model_folder(intents.MODEL), data.names, dropout=Model().dropout, seed=seed
    )
    loop.train(
        model,
        data.feed(seed),
        intents.default_recipe(epochs),
        report=lambda metrics, _: found.append(metrics),
        device=CPU,
        seed=seed,
    )
    return found


SIDES: dict[str, Callable[[Sides, int, int], list[Mapping[str, float]]]] = {
    "trainer": trainer,
    "ours": ours,
}


def run(side: str, banking: Path, seed: int, epochs: int, threads: int) -> Line:
    """One whole run of one side, in this process."""
    torch.set_num_threads(threads)
    data = Sides(banking)
    began = time.monotonic()
    found = SIDES[side](data, seed, epochs)
    best = max(found, key=lambda metrics: metrics["macro_f1"])
    return {
        "seconds": round(time.monotonic() - began, 1),
        "last": {name: round(found[-1][name], 5) for name in FIGURES},
        "best": {name: round(best[name], 5) for name in FIGURES},
        "best_epoch": found.index(best) + 1,
    }


def table(found: Mapping[str, Sequence[Line]]) -> list[str]:
    """Mean ± standard deviation of the seeds."""
    written = [
        "| side | seeds | macro-F1, last epoch | accuracy, last epoch | macro-F1, best epoch "
        "| accuracy, best epoch | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for side, runs in found.items():
        cells = [
            spread([r[which][name] for r in runs]) for which in ("last", "best") for name in FIGURES
        ]
        seconds = mean(r["seconds"] for r in runs)
        written.append(f"| {side} | {len(runs)} | {' | '.join(cells)} | {seconds:,.0f} |")
    return written


def spread(values: Sequence[float]) -> str:
    around = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{around}"
