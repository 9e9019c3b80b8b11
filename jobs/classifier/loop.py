"""The training loop: batches in, a better network and a report an epoch out.

It takes batches and a report function and does not know who feeds it or who listens: the same
loop serves Ray Train, a trial of a search, a test, and a benchmark on a bare accelerator. With
torch.distributed set up it trains data-parallel: gradients are those of the mean over the global
batch, whatever the share of each rank, and metrics come from counts summed over all ranks.
"""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from cluster.errors import SettingError
from jobs.classifier import checkpoint, metrics, ranks
from jobs.classifier.batches import Batch
from jobs.classifier.checkpoint import Position
from jobs.classifier.losses import cross_entropy_sum
from jobs.classifier.optimizer import rate_factor
from jobs.classifier.recipe import Recipe
from jobs.classifier.step import Step, logits_of

Metrics = dict[str, float]
WriteCheckpoint = Callable[[Path], None]
Report = Callable[[Metrics, WriteCheckpoint], None]


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
    resume: Path | None = None,
) -> None:
    """Trains in place for `recipe.epochs` epochs and reports once after each.

    `network` is a transformers sequence classifier on `device`. `report(metrics, write)` is
    called by every rank, in step; `write(folder)` puts a checkpoint there. `seed` is that of
    dropout. Class weights, logit offsets and gamma (jobs.classifier.losses) shape the training
    loss alone.
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
    at = Position()
    if resume is not None:
        at = checkpoint.read(resume, network=network, optimizer=step.optimizer)
    for epoch in range(at.epoch, recipe.epochs):
        start = at.batch if epoch == at.epoch else 0
        began = time.monotonic()
        network.train()
        found = _train_epoch(step, feed, recipe, epoch, start, device)
        seconds = time.monotonic() - began
        found["tokens_per_second"] = found["tokens"] / max(seconds, 1e-9)
        found |= {"epoch": epoch + 1.0, "epoch_seconds": seconds, "resumed_epoch": float(at.epoch)}
        found |= validate(network, feed.validation(), dtype=recipe.dtype, device=device)
        position, figures = Position(epoch + 1), dict(found)

        def write(folder: Path, position: Position = position, figures: Metrics = figures) -> None:
            checkpoint.write(
                folder,
                network=network,
                optimizer=step.optimizer,
                position=position,
                metrics=figures,
            )

        report(found, write)


def _train_epoch(
    step: Step, feed: Feed, recipe: Recipe, epoch: int, start: int, device: torch.device
) -> Metrics:
    rows_of_epoch = feed.training_rows(epoch)
    sums = torch.zeros(3, dtype=torch.float64)  # loss, rows, real tokens of this rank
    steps = 0
    for number, batch in enumerate(feed.training(epoch, start), start):
        progress = epoch + (batch.done_rows - batch.global_rows / 2) / rows_of_epoch
        rate = rate_factor(
            progress / recipe.epochs, warmup_ratio=recipe.warmup_ratio, schedule=recipe.schedule
        )
        loss = float(step(batch, epoch=epoch, number=number, rate=rate).item())
        if not math.isfinite(loss):
            raise SettingError(
                f"The loss is no longer a number in epoch {epoch + 1}, step {number + 1}. Lower "
                "optim.lr or optim.head_lr, or train with --train.precision fp32."
            )
        sums += torch.tensor(
            [loss, float(batch.weights.sum()), batch.real_tokens], dtype=torch.float64
        )
        steps += 1
    loss_sum, rows, real_tokens = ranks.sum_over_ranks(sums, device).tolist()
    return {"train_loss": loss_sum / max(1.0, rows), "tokens": real_tokens, "steps": float(steps)}


def validate(
    network: Any, rows: Iterator[Batch], *, dtype: torch.dtype, device: torch.device
) -> Metrics:
    """Figures over the rows of all ranks, from summed counts; the names of the contract."""
    network.eval()
    classes = int(network.config.num_labels)
    found = np.zeros((3, classes), dtype=np.int64)
    sums = torch.zeros(2, dtype=torch.float64)  # loss, rows
    with torch.inference_mode():
        for batch in rows:
            logits = logits_of(network, batch, dtype, device).float().cpu()
            sums[0] += cross_entropy_sum(logits, batch.labels, batch.weights).double()
            sums[1] += batch.weights.sum().double()
            counted = batch.weights.numpy() > 0
            found += metrics.counts(
                batch.labels.numpy()[counted], logits.argmax(-1).numpy()[counted], classes
            )
    found = ranks.sum_over_ranks(torch.from_numpy(found), device).numpy()
    loss_sum, count = ranks.sum_over_ranks(sums, device).tolist()
    return {"validation_loss": loss_sum / max(1.0, count)} | metrics.from_counts(found)
