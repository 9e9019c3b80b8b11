"""What the training loop is fed with: sample and balance, epoch for epoch."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from jobs.balance import plan, sample, sampled
from jobs.feed import StoreFeed
from jobs.settings import Balance
from tests.unit.memory import rows_of

LABELS = [0] * 60 + [1] * 30 + [2] * 25
ROWS = rows_of([4] * 115, LABELS, shards=3)
COUNTS = np.array([60, 30, 25])


def feed(fraction: float = 1.0, **settings: Any) -> StoreFeed:
    kept = sampled(fraction, COUNTS)
    balanced = plan(Balance(**settings), kept)
    return StoreFeed(ROWS, rows_of([4] * 7), sample(ROWS, kept), balanced, 0, 64, 0, 0, 1)


def taken(given: StoreFeed, epoch: int) -> Counter[int]:
    """How often each row is in an epoch."""
    # Row k holds the token k + 100.
    return Counter(int(ids[0]) - 100 for b in given.training(epoch, 0) for ids in b.ids)


def of_class(rows: Counter[int]) -> list[int]:
    return [sum(n for row, n in rows.items() if LABELS[row] == label) for label in range(3)]


@pytest.mark.parametrize(
    ("settings", "fraction", "rows"),
    [
        ({}, 1.0, [60, 30, 25]),
        ({}, 0.5, [30, 15, 13]),
        ({"strategy": "undersample"}, 1.0, [25, 25, 25]),
        ({"strategy": "undersample", "min_rows": 1}, 0.5, [13, 13, 13]),
        ({"strategy": "oversample"}, 1.0, [60, 60, 60]),
        ({"strategy": "oversample", "max_ratio": 1.5}, 0.5, [30, 20, 20]),
        ({"strategy": "class-weights"}, 0.5, [30, 15, 13]),
    ],
)
def test_an_epoch_has_the_rows_of_the_plan(
    settings: dict[str, Any], fraction: float, rows: list[int]
) -> None:
    given = feed(fraction, **settings)
    for epoch in range(2):
        found = taken(given, epoch)
        assert of_class(found) == rows
        assert given.training_rows(epoch) == sum(rows)


@pytest.mark.parametrize("strategy", ["undersample", "oversample"])
def test_redraw_says_whether_epochs_take_other_rows(strategy: str) -> None:
    afresh, fixed = (feed(strategy=strategy, redraw=redraw) for redraw in (True, False))
    assert len({frozenset(taken(afresh, epoch).items()) for epoch in range(4)}) == 4
    assert len({frozenset(taken(fixed, epoch).items()) for epoch in range(4)}) == 1


def test_a_fixed_cut_still_comes_in_another_order_each_epoch() -> None:
    given = feed(strategy="undersample", redraw=False)
    first, second = ([b.ids[:, 0].tolist() for b in given.training(e, 0)] for e in (0, 1))
    assert first != second


def test_epochs_draw_from_one_and_the_same_sample() -> None:
    given = feed(0.5, strategy="undersample", min_rows=1)
    seen = set().union(*(taken(given, epoch) for epoch in range(20)))
    assert len(seen) == 30 + 15 + 13


def test_training_and_validation_rows_are_pinned_alike() -> None:
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor)
        return tensor

    given = replace(feed(), pin=pin)
    for made in (given.training(0, 0), given.validation()):
        pinned.clear()
        assert 4 * len(list(made)) == len(pinned) > 0


def test_validation_rows_are_all_there_once() -> None:
    given = feed(0.1, strategy="undersample")
    rows = [int(ids[0]) - 100 for batch in given.validation() for ids in batch.ids]
    assert sorted(rows) == list(range(7))
