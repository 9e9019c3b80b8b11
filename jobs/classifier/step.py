"""One update of the network from one global batch, whatever the share of this rank.

Gradients are those of the mean over the rows of the global batch. What is random in a step
follows from (seed, epoch, number of the batch, rank) alone, so that a run which goes on from a
checkpoint draws what the undisturbed one would have drawn, and no random state has to be kept.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel

from jobs.classifier import ranks
from jobs.classifier.batches import Batch
from jobs.classifier.losses import cross_entropy_sum
from jobs.classifier.optimizer import make_optimizer, parameters_of, set_rates
from jobs.classifier.recipe import Recipe


class Step:
    """Trains `network` in place; holds its optimizer."""

    def __init__(
        self,
        network: Any,
        recipe: Recipe,
        *,
        device: torch.device,
        seed: int,
        class_weights: torch.Tensor | None = None,
        logit_offsets: torch.Tensor | None = None,
        focal_gamma: float = 0.0,
    ) -> None:
        self.optimizer = make_optimizer(
            network,
            lr=recipe.lr,
            head_lr=recipe.head_lr,
            layer_decay=recipe.layer_decay,
            weight_decay=recipe.weight_decay,
        )
        self._network = DistributedDataParallel(network) if ranks.world() > 1 else network
        self._recipe = recipe
        self._device = device
        self._seed = seed
        self._class_weights = None if class_weights is None else class_weights.to(device)
        self._logit_offsets = None if logit_offsets is None else logit_offsets.to(device)
        self._focal_gamma = focal_gamma

    def __call__(self, batch: Batch, *, epoch: int, number: int, rate: float) -> torch.Tensor:
        """One update at `rate` times the peak rates; the loss of this rank's rows, summed."""
        set_rates(self.optimizer, rate)
        _seed_dropout(self._seed, epoch, number, ranks.rank())
        with _attention(self._device):
            logits = logits_of(self._network, batch, self._recipe.dtype, self._device)
        loss = cross_entropy_sum(
            logits,
            batch.labels.to(self._device),
            batch.weights.to(self._device),
            class_weights=self._class_weights,
            logit_offsets=self._logit_offsets,
            focal_gamma=self._focal_gamma,
            label_smoothing=self._recipe.label_smoothing,
        )
        # DDP divides the sum of gradients by the number of ranks; this makes it a mean over rows.
        torch.autograd.backward(loss * (ranks.world() / batch.global_rows))
        torch.nn.utils.clip_grad_norm_(parameters_of(self.optimizer), self._recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def _seed_dropout(*position: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0]))


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """Which attention to train with: on CPUs the backward pass of torch's flash attention takes
    several times as long as plain matrix products at the lengths of tickets."""
    if device.type == "cpu":
        return cast("AbstractContextManager[None]", sdpa_kernel(SDPBackend.MATH))
    return nullcontext()


def step_for_timing(network: Any, recipe: Recipe, device: torch.device) -> Callable[[Batch], float]:
    """One whole training step as a function, for benchmarks and estimates; gives the loss."""
    network.train()
    step = Step(network, recipe, device=device, seed=0)
    return lambda batch: float(step(batch, epoch=0, number=0, rate=1.0).item())


def logits_of(network: Any, batch: Batch, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[rows, classes], computed in `dtype` where autocast finds that safe."""
    mixed = dtype is not torch.float32
    with torch.autocast(device.type, dtype=dtype if mixed else None, enabled=mixed):
        output = network(
            input_ids=batch.ids.to(device, non_blocking=True),
            attention_mask=batch.mask.to(device, non_blocking=True),
        )
    return torch.as_tensor(output.logits)
