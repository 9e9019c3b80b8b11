"""Tokenized rows in memory, for benchmarks: numpy and jobs.classifier alone, so that they also run
on a bare machine with an accelerator.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from jobs.classifier.encoding import TokenIds

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Rows in memory, in one shard, as `jobs.classifier.batches.Tokens` wants them."""

    tokens: list[TokenIds]
    labels: npt.NDArray[np.int32]
    text_ids: npt.NDArray[np.uint64]

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32]:
        return np.array([len(ids) for ids in self.tokens], dtype=np.int32)

    @property
    def shard_rows(self) -> list[int]:
        return [len(self.tokens)]

    def read(self, rows: Ints) -> list[TokenIds]:
        return [self.tokens[row] for row in rows]

    def take(self, rows: Ints) -> "Rows":
        """The given rows alone, in that order."""
        return Rows(self.read(rows), self.labels[rows], self.text_ids[rows])

    def counts(self, classes: int) -> Ints:
        """Rows of each class."""
        return np.bincount(self.labels, minlength=classes).astype(np.int64)


def random_rows(lengths: Iterable[int], *, classes: int, vocabulary: int, seed: int = 0) -> Rows:
    """Rows of the given lengths, with random token ids and labels: for speed alone."""
    rng = np.random.default_rng(seed)
    # The first thousand ids of BERT's vocabulary are special ones and letters.
    lowest = min(1000, vocabulary // 2)
    tokens = [rng.integers(lowest, vocabulary, n).astype(np.int32) for n in lengths]
    return Rows(
        tokens,
        rng.integers(0, classes, len(tokens)).astype(np.int32),
        rng.permutation(len(tokens)).astype(np.uint64),
    )
