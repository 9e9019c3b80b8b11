"""The training loop: batches in, a better network and a report an epoch out.

It takes batches and a report function and does not know who feeds it or who listens: the same
loop serves Ray Train, a trial of a search, a test, and a benchmark on a bare accelerator. With
torch.distributed set up it trains data-parallel: gradients are those of the mean over the global
batch, whatever the share of each rank, and metrics come from counts summed over all ranks.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from cluster.errors import SettingError
from jobs.classifier import checkpoint, metrics, ranks, stopping
from jobs.classifier.batches import Batch
from jobs.classifier.checkpoint import Snapshot
from jobs.classifier.encoder_layers import as_written
from jobs.classifier.losses import cross_entropy_sum
from jobs.classifier.optimizer import rate_factor
from jobs.classifier.progress import Metrics, Position, Progress
from jobs.classifier.recipe import Recipe
from jobs.classifier.step import Step, logits_of

Take = Callable[[], Snapshot]
# True ends training; every rank has to say the same.
Report = Callable[[Metrics, Take], bool | None]
Save = Callable[[Take], None]
# From the logits [n, classes] and the truth int [n] of all validation rows, in float32.
Judge = Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], Metrics]
TO_THE_LAST_EPOCH = stopping.Rule()
# Reading a loss waits for the device that computes it.
LOOKS_EVERY = 16


class Feed(Protocol):
    """Where batches come from; every rank gets its own part of the same global batches."""

    def training_rows(self, epoch: int) -> int:
        """Rows of all ranks in an epoch."""
        ...

    def training(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on."""
        ...

    def validation(self) -> Iterator[Batch]:
        """Every validation row once."""
        ...


@dataclass(frozen=True)
class Saving:
    """Calls `save` after every `every_steps` steps of an epoch."""

    save: Save
    every_steps: int


@dataclass(frozen=True)
class Outcome:
    """What came of a run: the figures of every epoch, those before it was resumed included, and
    where this process began; when its first step was done, in seconds of time.time()."""

    history: tuple[Metrics, ...]
    began_at: Position
    first_step_at: float | None


def train(
    network: Any,
    feed: Feed,
    recipe: Recipe,
    *,
    report: Report,
    device: torch.device,
    seed: int = 0,
    class_weights: torch.Tensor | None = None,
    logit_offsets: torch.Tensor | None = None,
    focal_gamma: float = 0.0,
    judge: Judge | None = None,
    stop: stopping.Rule = TO_THE_LAST_EPOCH,
    saving: Saving | None = None,
    resume: Path | None = None,
) -> Outcome:
    """Trains in place for `recipe.epochs` epochs, or until `stop`, and reports once after each.

    `network` is a transformers sequence classifier on `device`. `report(metrics, take)`, and
    `saving.save(take)` within an epoch, are called by every rank, in step; `take()` copies what a
    checkpoint holds, at once or not at all. A report that is answered with True ends training.
    `seed` is that of dropout. Class weights, logit
    offsets and gamma (jobs.classifier.losses) shape the training loss alone. `judge`: see
    `validate`; what it says goes into the figures of each epoch. `resume` is the
    folder of a checkpoint: from there on everything is as it would have been.
    """
    step = Step(
        network,
        recipe,
        device=device,
        seed=seed,
        class_weights=class_weights,
        logit_offsets=logit_offsets,
        focal_gamma=focal_gamma,
    )
    progress = Progress()
    if resume is not None:
        progress = checkpoint.read(resume, network=network, optimizer=step.optimizer)
    began_at = progress.position

    def take(at: Progress) -> Take:
        return lambda: checkpoint.take(network, step.optimizer, at)

    def save(at: Progress) -> None:
        if saving is not None:
            saving.save(take(at))

    every = None if saving is None else saving.every_steps
    while progress.position.epoch < recipe.epochs and not stopping.is_over(progress.history, stop):
        network.train()
        progress = _train_epoch(step, feed, recipe, progress, device, every, save)
        found = _figures(progress)
        rows = feed.validation()
        with as_written() if recipe.compiled else nullcontext():
            found |= validate(network, rows, dtype=recipe.dtype, device=device, judge=judge)
        position, history = Position(progress.position.epoch + 1), (*progress.history, found)
        progress = Progress(position=position, history=history)
        if report(dict(found), take(progress)):
            break
    return Outcome(progress.history, began_at, step.first_at)


def _train_epoch(
    step: Step,
    feed: Feed,
    recipe: Recipe,
    before: Progress,
    device: torch.device,
    save_every: int | None,
    save: Callable[[Progress], None],
) -> Progress:
    """The rest of the epoch after `before`, whose sums go on: the figures are those of an epoch
    that was never interrupted."""
    epoch, start = before.position.epoch, before.position.batch
    rows_of_epoch = feed.training_rows(epoch)
    # What was summed before is rank 0's; loss, rows and real tokens of this rank come to it.
    first = (before.loss, before.rows, before.tokens) if ranks.rank() == 0 else (0.0, 0.0, 0.0)
    sums = torch.tensor(first, dtype=torch.float64)
    began = time.monotonic()

    def at(number: int) -> Progress:
        loss, rows, tokens = ranks.sum_over_ranks(sums.clone(), device).tolist()
        seconds = before.seconds + time.monotonic() - began
        position = Position(epoch, number)
        return Progress(position, loss, rows, tokens, seconds, before.history)

    losses: list[torch.Tensor] = []

    def look(done: int) -> None:
        """At the losses since the last look, which until then may still be computed."""
        for number, loss in enumerate(losses, done - len(losses) + 1):
            _refuse_what_is_no_number(float(loss), epoch, number)
            sums[0] += float(loss)
        losses.clear()

    done = start
    for batch in feed.training(epoch, start):
        middle = epoch + (batch.done_rows - batch.global_rows / 2) / rows_of_epoch
        rate = rate_factor(
            middle / recipe.epochs, warmup_ratio=recipe.warmup_ratio, schedule=recipe.schedule
        )
        losses.append(step(batch, epoch=epoch, number=done, rate=rate))
        done += 1
        sums += torch.tensor((0.0, float(batch.weights.sum()), batch.real_tokens)).double()
        if len(losses) == LOOKS_EVERY:
            look(done)
        if save_every is not None and done % save_every == 0:
            look(done)
            save(at(done))
    look(done)
    return at(done)


def _refuse_what_is_no_number(loss: float, epoch: int, step: int) -> None:
    if not math.isfinite(loss):
        raise SettingError(
            f"The loss is no longer a number in epoch {epoch + 1}, step {step}. Lower optim.lr or "
            "optim.head_lr, or train with --train.precision fp32."
        )


def _figures(trained: Progress) -> Metrics:
    """The figures of an epoch whose training has ended."""
    return {
        "train_loss": trained.loss / max(1.0, trained.rows),
        "tokens": trained.tokens,
        "steps": float(trained.position.batch),
        "tokens_per_second": trained.tokens / max(trained.seconds, 1e-9),
        "epoch": trained.position.epoch + 1.0,
        "epoch_seconds": trained.seconds,
    }


def validate(
    network: Any,
    rows: Iterator[Batch],
    *,
    dtype: torch.dtype,
    device: torch.device,
    judge: Judge | None = None,
) -> Metrics:
    """Figures over the rows of all ranks, from summed counts; the names of the contract.

    They are of the network's own argmax, unless a `judge` decides otherwise: its figures take
    their place. It is asked on rank 0, which holds the logits of all rows then, and every rank
    gets its answer.
    """
    network.eval()
    classes = int(network.config.num_labels)
    found = np.zeros((3, classes), dtype=np.int64)
    sums = torch.zeros(2, dtype=torch.float64)  # loss, rows
    kept: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]] = []
    with torch.inference_mode():
        for batch in rows:
            logits = logits_of(network, batch, dtype, device).float().cpu()
            sums[0] += cross_entropy_sum(logits, batch.labels, batch.weights).double()
            sums[1] += batch.weights.sum().double()
            counted = batch.weights.numpy() > 0
            answers, truth = logits.numpy()[counted], batch.labels.numpy()[counted]
            found += metrics.counts(truth, answers.argmax(-1), classes)
            if judge is not None:
                kept.append((answers, truth))
    found = ranks.sum_over_ranks(torch.from_numpy(found), device).numpy()
    loss_sum, count = ranks.sum_over_ranks(sums, device).tolist()
    figures = {"validation_loss": loss_sum / max(1.0, count)} | metrics.from_counts(found)
    return figures if judge is None else figures | _judged(judge, kept, classes)


def _judged(
    judge: Judge, kept: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]], classes: int
) -> Metrics:
    nothing = (np.zeros((0, classes), np.float32), np.zeros(0, np.int64))
    logits, truth = (np.concatenate(part) for part in zip(nothing, *kept, strict=True))
    everything = ranks.gathered((logits, truth))
    # One process says it for all: a figure that differed in its last bit would let ranks disagree
    # about the best epoch, and one of them stop.
    said = None
    if everything is not None:
        said = judge(*(np.concatenate(part) for part in zip(*everything, strict=True)))
    figures: Metrics = ranks.from_rank_zero(said)
    return figures
