"""What the tests of balancing share: the rows of three classes, plans, and rows in memory."""

from typing import Any

import numpy as np

from jobs.balance import plan
from jobs.settings import Balance
from tests.unit.memory import MemoryTokens, rows_of

COUNTS = np.array([400, 100, 20], dtype=np.int64)


def planned(counts: list[int], strategy: str, **settings: Any) -> Any:
    return plan(Balance(strategy=strategy, **settings), np.array(counts, dtype=np.int64))


def tokens_of(counts: list[int], *, shuffled: int | None = None) -> MemoryTokens:
    labels = np.repeat(np.arange(len(counts)), counts)
    if shuffled is not None:
        np.random.default_rng(shuffled).shuffle(labels)
    return rows_of([4] * len(labels), labels.tolist())


def per_class(tokens: MemoryTokens, copies: np.ndarray, classes: int) -> list[int]:
    return np.bincount(tokens.labels, weights=copies, minlength=classes).astype(int).tolist()
