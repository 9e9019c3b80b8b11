"""The training loop: batches in, a better network and a report an epoch out.

It takes batches and a report function and does not know who feeds it or who listens: the same
loop serves Ray Train, a trial of a search, a test, and a benchmark on a bare accelerator. With
torch.distributed set up it trains data-parallel: gradients are those of the mean over the global
batch, whatever the share of each rank, and metrics come from counts summed over all ranks.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel

from cluster.errors import SettingError
from jobs.classifier import checkpoint, metrics
from jobs.classifier.batches import Batch
from jobs.classifier.checkpoint import Position
from jobs.classifier.losses import cross_entropy_sum
from jobs.classifier.optimizer import (
    Schedule,
    make_optimizer,
    parameters_of,
    rate_factor,
    set_rates,
)

Metrics = dict[str, float]
WriteCheckpoint = Callable[[Path], None]
Report = Callable[[Metrics, WriteCheckpoint], None]
# (logits, labels, rows that count) → the loss, summed over rows.
LossSum = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train, in plain values; their meaning and units stand in jobs.settings."""

    epochs: int
    lr: float
    head_lr: float | None = None
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    schedule: Schedule = "linear"
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    dtype: torch.dtype = torch.float32


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
    class_weights: torch.Tensor | None = None,
    logit_offsets: torch.Tensor | None = None,
    focal_gamma: float = 0.0,
    resume: Path | None = None,
) -> None:
    """Trains in place for `recipe.epochs` epochs and reports once after each.

    `network` is a transformers sequence classifier on `device`. `report(metrics, write)` is
    called by every rank, in step; `write(folder)` puts a checkpoint there. Class weights, logit
    offsets and gamma (jobs.classifier.losses) shape the training loss alone.
    """
    optimizer = _optimizer(network, recipe)
    at = Position()
    if resume is not None:
        at = checkpoint.read(resume, network=network, optimizer=optimizer)
    trained = DistributedDataParallel(network) if _world() > 1 else network
    loss_sum = partial(
        cross_entropy_sum,
        class_weights=None if class_weights is None else class_weights.to(device),
        logit_offsets=None if logit_offsets is None else logit_offsets.to(device),
        focal_gamma=focal_gamma,
        label_smoothing=recipe.label_smoothing,
    )
    for epoch in range(at.epoch, recipe.epochs):
        start = at.batch if epoch == at.epoch else 0
        began = time.monotonic()
        found = _train_epoch(trained, optimizer, feed, recipe, epoch, start, loss_sum, device)
        seconds = time.monotonic() - began
        found["tokens_per_second"] = found["tokens"] / max(seconds, 1e-9)
        found |= {"epoch": epoch + 1.0, "epoch_seconds": seconds, "resumed_epoch": float(at.epoch)}
        found |= validate(network, feed.validation(), dtype=recipe.dtype, device=device)
        position, figures = Position(epoch + 1), dict(found)

        def write(folder: Path, position: Position = position, figures: Metrics = figures) -> None:
            checkpoint.write(
                folder, network=network, optimizer=optimizer, position=position, metrics=figures
            )

        report(found, write)


def _train_epoch(
    network: Any,
    optimizer: torch.optim.Optimizer,
    feed: Feed,
    recipe: Recipe,
    epoch: int,
    start: int,
    loss_sum: LossSum,
    device: torch.device,
) -> Metrics:
    network.train()
    rows_of_epoch = feed.training_rows(epoch)
    sums = torch.zeros(3, dtype=torch.float64)  # loss, rows, real tokens of this rank
    steps = 0
    for batch in feed.training(epoch, start):
        progress = epoch + (batch.done_rows - batch.global_rows / 2) / rows_of_epoch
        factor = rate_factor(
            progress / recipe.epochs, warmup_ratio=recipe.warmup_ratio, schedule=recipe.schedule
        )
        set_rates(optimizer, factor)
        loss = _step(network, optimizer, batch, recipe, loss_sum, device)
        if not math.isfinite(loss.item()):
            raise SettingError(
                f"The loss is no longer a number in epoch {epoch + 1}, step {steps + 1}. Lower "
                "optim.lr or optim.head_lr, or train with --train.precision fp32."
            )
        sums += torch.tensor(
            [loss.item(), float(batch.weights.sum()), batch.real_tokens], dtype=torch.float64
        )
        steps += 1
    loss_sum, rows, real_tokens = _sum_over_ranks(sums, device).tolist()
    return {"train_loss": loss_sum / max(1.0, rows), "tokens": real_tokens, "steps": float(steps)}


def _step(
    network: Any,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    recipe: Recipe,
    loss_sum: LossSum,
    device: torch.device,
) -> torch.Tensor:
    """One update; the loss of this rank's rows, summed."""
    with _attention(device):
        logits = _logits(network, batch, recipe.dtype, device)
    loss = loss_sum(logits, batch.labels.to(device), batch.weights.to(device))
    # DDP divides the sum of gradients by the number of ranks; this makes it a mean over rows.
    torch.autograd.backward(loss * (_world() / batch.global_rows))
    torch.nn.utils.clip_grad_norm_(parameters_of(optimizer), recipe.clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """Which attention to train with: on CPUs the backward pass of torch's flash attention takes
    several times as long as plain matrix products at the lengths of tickets."""
    if device.type == "cpu":
        return cast("AbstractContextManager[None]", sdpa_kernel(SDPBackend.MATH))
    return nullcontext()


def step_for_timing(network: Any, recipe: Recipe, device: torch.device) -> Callable[[Batch], float]:
    """One whole training step as a function, for benchmarks and estimates; gives the loss."""
    optimizer = _optimizer(network, recipe)
    loss_sum = partial(cross_entropy_sum, label_smoothing=recipe.label_smoothing)
    network.train()
    return lambda batch: float(_step(network, optimizer, batch, recipe, loss_sum, device).item())


def _optimizer(network: Any, recipe: Recipe) -> torch.optim.AdamW:
    return make_optimizer(
        network,
        lr=recipe.lr,
        head_lr=recipe.head_lr,
        layer_decay=recipe.layer_decay,
        weight_decay=recipe.weight_decay,
    )


def _logits(network: Any, batch: Batch, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[rows, classes], computed in `dtype` where autocast finds that safe."""
    mixed = dtype is not torch.float32
    with torch.autocast(device.type, dtype=dtype if mixed else None, enabled=mixed):
        output = network(
            input_ids=batch.ids.to(device, non_blocking=True),
            attention_mask=batch.mask.to(device, non_blocking=True),
        )
    return torch.as_tensor(output.logits)


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
            logits = _logits(network, batch, dtype, device).float().cpu()
            sums[0] += cross_entropy_sum(logits, batch.labels, batch.weights).double()
            sums[1] += batch.weights.sum().double()
            counted = batch.weights.numpy() > 0
            found += metrics.counts(
                batch.labels.numpy()[counted], logits.argmax(-1).numpy()[counted], classes
            )
    found = _sum_over_ranks(torch.from_numpy(found), device).numpy()
    loss_sum, count = _sum_over_ranks(sums, device).tolist()
    return {"validation_loss": loss_sum / max(1.0, count)} | metrics.from_counts(found)


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _sum_over_ranks(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    if _world() == 1:
        return values
    # NCCL adds tensors on the GPU only.
    values = values.to(device)
    dist.all_reduce(values)
    return values.cpu()
