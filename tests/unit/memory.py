"""Tokenized rows in memory, and batches out of them: what tests of layer 0 train on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import HealthCheck, settings

from jobs.classifier import bundle
from jobs.classifier.batches import Batch, batches, plan_epoch, plan_in_order
from jobs.classifier.encoding import TokenIds
from jobs.classifier.network import new_network

# The same examples in every run, however slow the machine is just now.
STEADY = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)


@dataclass(frozen=True)
class MemoryTokens:
    """Rows in memory, as `jobs.classifier.batches.Tokens` wants them."""

    tokens: list[TokenIds]
    labels: npt.NDArray[np.int32]
    text_ids: npt.NDArray[np.uint64]
    shard_rows: Sequence[int]

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        return np.array([len(ids) for ids in self.tokens], dtype=np.int32)

    def read(self, rows: npt.NDArray[np.int64]) -> list[TokenIds]:
        return [self.tokens[row] for row in rows]

    def in_order(self, order: Sequence[int], shard_rows: Sequence[int]) -> "MemoryTokens":
        """The same rows in another order, cut into other shards."""
        picked = np.array(order, dtype=np.int64)
        return MemoryTokens(
            [self.tokens[row] for row in picked],
            self.labels[picked],
            self.text_ids[picked],
            shard_rows,
        )


def rows_of(
    lengths: Sequence[int], labels: Sequence[int] | None = None, *, shards: int = 1
) -> MemoryTokens:
    """Row k holds the token id k + 100, `lengths[k]` times; its text id is 7919 · k + 1."""
    count = len(lengths)
    cut = np.array_split(np.arange(count), shards)
    return MemoryTokens(
        [np.full(length, row + 100, dtype=np.int32) for row, length in enumerate(lengths)],
        np.array([0] * count if labels is None else labels, dtype=np.int32),
        np.arange(count, dtype=np.uint64) * np.uint64(7919) + np.uint64(1),
        [len(part) for part in cut],
    )


def separable(count: int, classes: int = 3, *, seed: int = 0) -> MemoryTokens:
    """Rows for the tiny model: one to eight tokens give the class away, the last is the row's own.

    Lengths differ, so that batches differ in their number of rows. At most 70 rows.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    tokens = [
        np.array([2, *[5 + label] * rng.integers(1, 9), 12 + row, 3], dtype=np.int32)
        for row, label in enumerate(labels)
    ]
    ids = np.arange(count, dtype=np.uint64) * np.uint64(104729) + np.uint64(17)
    return MemoryTokens(tokens, labels.astype(np.int32), ids, [count])


@dataclass(frozen=True)
class MemoryFeed:
    """The batches of one rank, as `jobs.classifier.loop.Feed` wants them."""

    rows: MemoryTokens
    validation_rows: MemoryTokens
    batch_tokens: int = 64
    seed: int = 0
    rank: int = 0
    world: int = 1

    def training_rows(self, epoch: int) -> int:
        return len(self.rows.tokens)

    def training(self, epoch: int, start: int) -> Iterator[Batch]:
        plan = plan_epoch(self.rows, seed=self.seed, epoch=epoch, batch_tokens=self.batch_tokens)
        return batches(self.rows, plan, pad_id=0, rank=self.rank, world=self.world, start=start)

    def validation(self) -> Iterator[Batch]:
        plan = plan_in_order(self.validation_rows, batch_tokens=self.batch_tokens)
        return batches(self.validation_rows, plan, pad_id=0, rank=self.rank, world=self.world)


def write_sharp_bundle(folder: Path, model: Path, **about: object) -> Path:
    """A bundle of three labels whose random weights are large: texts get answers far apart."""
    labels = ["mail", "network", "printing"]
    network = new_network(model, labels, dropout=0.1, seed=1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(20)
    values = {
        "labels": labels,
        "max_tokens": 16,
        "text_columns": ["text"],
        "training_prior": [1 / 3] * 3,
        "natural_prior": [1 / 3] * 3,
    } | about
    bundle.write(
        folder,
        network=network,
        tokenizer_folder=model,
        about=bundle.About(**values),
        metrics={},
        card="",
    )
    return folder
