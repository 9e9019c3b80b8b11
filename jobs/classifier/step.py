"""One update of the network from one global batch, whatever the share of this rank.

Gradients are those of the mean over the rows of the global batch. What is random in a step
follows from (seed, epoch, number of the batch, rank) alone, so that a run which goes on from a
checkpoint draws what the undisturbed one would have drawn, and no random state has to be kept.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from jobs.classifier import ranks
from jobs.classifier.attention import use_plain_attention
from jobs.classifier.batches import Batch
from jobs.classifier.dropout import Draws, replace_dropout
from jobs.classifier.embedding import RowEmbedding
from jobs.classifier.encoder_layers import compile_layers, use_bf16_norms
from jobs.classifier.graphs import Graphs
from jobs.classifier.losses import cross_entropy_sum, disagreement_sum
from jobs.classifier.optimizer import Optimizer
from jobs.classifier.packed import Packed, answer, can_pack, pack, use_packed_attention
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
        self.first_at: float | None = None  # when the first step was done, by this machine's clock
        self._draws = Draws()
        if device.type == "cpu":
            _prepare_for_cpu(network, self._draws)
        elif recipe.dtype is torch.bfloat16:
            use_bf16_norms(network)
        self.optimizer = Optimizer(
            network,
            lr=recipe.lr,
            head_lr=recipe.head_lr,
            layer_decay=recipe.layer_decay,
            weight_decay=recipe.weight_decay,
            clip_norm=recipe.clip_norm,
        )
        self._packed = recipe.packed and can_pack(network)
        if self._packed:
            use_packed_attention(network)
        if recipe.compiled:
            compile_layers(network)
        self._network = network
        self._recipe = recipe
        self._device = device
        self._seed = seed
        self._class_weights = None if class_weights is None else class_weights.to(device)
        self._logit_offsets = None if logit_offsets is None else logit_offsets.to(device)
        self._focal_gamma = focal_gamma
        on_gpu = device.type == "cuda"
        self._graphs = Graphs(self.optimizer, device) if self._packed and on_gpu else None

    def __call__(self, batch: Batch, *, epoch: int, number: int, rate: float) -> torch.Tensor:
        """One update at `rate` times the peak rates; the loss of this rank's rows, summed."""
        self._seed_dropout(epoch, number)
        if not self._packed:
            total = self._step(batch, rate)
        elif self._graphs is None:
            self.optimizer.set_rates(rate)
            total = self._packed_step(pack(batch).to(self._device))
        else:
            total = self._graphs(self._packed_step, pack(batch, roomy=True, pin=True), rate)
        if self.first_at is None:
            self.first_at = time.time()
        return total

    def _step(self, batch: Batch, rate: float) -> torch.Tensor:
        self.optimizer.set_rates(rate)
        parts = list(_parts(batch, self._most_tokens()))
        total = torch.zeros((), device=self._device)
        for k, part in enumerate(parts, 1):
            loss = self._loss(part)
            if k == len(parts):
                self.optimizer.sums.expect()
            torch.autograd.backward(loss / batch.global_rows)
            total += loss.detach()
        self.optimizer.update()
        return total

    def _packed_step(self, packed: Packed) -> torch.Tensor:
        """The same of one rank alone, for rows on the device: nothing in it waits for them."""
        logits = answer(self._network, packed, self._recipe.dtype)
        loss = self._cross_entropy(logits, packed.labels, packed.row_weights)
        torch.autograd.backward(loss * packed.scale)
        self.optimizer.update()
        return loss.detach()

    def _loss(self, batch: Batch) -> torch.Tensor:
        labels = batch.labels.to(self._device, non_blocking=True)
        weights = batch.weights.to(self._device, non_blocking=True)
        weight = self._recipe.r_drop
        if weight == 0:
            return self._cross_entropy(self._answer(batch), labels, weights)
        twice = self._answer(_twice(batch))
        one, other = twice[: len(labels)], twice[len(labels) :]
        told = self._cross_entropy(one, labels, weights)
        told = told + self._cross_entropy(other, labels, weights)
        return told / 2 + weight * disagreement_sum(one, other, weights)

    def _most_tokens(self) -> int | None:
        most = self._recipe.micro_tokens
        return most if most is None or self._recipe.r_drop == 0 else most // 2

    def _answer(self, batch: Batch) -> torch.Tensor:
        return logits_of(self._network, batch, self._recipe.dtype, self._device)

    def _cross_entropy(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        return cross_entropy_sum(
            logits,
            labels,
            weights,
            class_weights=self._class_weights,
            logit_offsets=self._logit_offsets,
            focal_gamma=self._focal_gamma,
            label_smoothing=self._recipe.label_smoothing,
        )

    def _seed_dropout(self, epoch: int, number: int) -> None:
        position = (self._seed, epoch, number, ranks.rank())
        if self._device.type == "cpu":
            self._draws.seed(*position)
        else:
            state = np.random.SeedSequence(position).generate_state(1, np.uint64)
            torch.cuda.manual_seed(int(state[0]))


def _prepare_for_cpu(network: Any, draws: Draws) -> None:
    """Puts in what is faster on CPUs; the names and values of the weights stay."""
    replace_dropout(network, draws)
    use_plain_attention(network)
    embeddings = network.get_input_embeddings()
    table = embeddings.weight
    if isinstance(table, nn.Parameter) and table.requires_grad:
        network.set_input_embeddings(RowEmbedding(table))


def _twice(batch: Batch) -> Batch:
    """Every row two times, for two draws of dropout."""
    return replace(batch, ids=batch.ids.repeat(2, 1), mask=batch.mask.repeat(2, 1))


def _parts(batch: Batch, most_tokens: int | None) -> Iterator[Batch]:
    """The rows of a batch in parts of at most so many tokens, padding included."""
    rows, width = batch.ids.shape
    size = rows if most_tokens is None else max(1, most_tokens // width)
    for at in range(0, rows, size):
        taken = slice(at, at + size)
        yield replace(
            batch,
            ids=batch.ids[taken],
            mask=batch.mask[taken],
            labels=batch.labels[taken],
            weights=batch.weights[taken],
        )


def step_for_timing(network: Any, recipe: Recipe, device: torch.device) -> Callable[[Batch], float]:
    """One whole training step as a function, for benchmarks and estimates; gives the loss."""
    network.train()
    step = Step(network, recipe, device=device, seed=0)
    return lambda batch: float(step(batch, epoch=0, number=0, rate=1.0).item())


def logits_of(network: Any, batch: Batch, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[rows, classes], computed in `dtype` where autocast finds that safe."""
    mixed = dtype is not torch.float32
    # Without padding there is nothing to mask, and attention is cheaper for it.
    padded = bool((batch.mask == 0).any())
    with torch.autocast(device.type, dtype=dtype if mixed else None, enabled=mixed):
        output = network(
            input_ids=batch.ids.to(device, non_blocking=True),
            attention_mask=batch.mask.to(device, non_blocking=True) if padded else None,
        )
    return torch.as_tensor(output.logits)
