"""What balancing tells a person: keys that a strategy does not use, a histogram, small classes."""

from typing import Any

import numpy as np
import pytest

from jobs.balance import histogram, idle, kept_whole
from jobs.settings import Balance
from tests.unit.balancing import COUNTS


@pytest.mark.parametrize(
    ("strategy", "useless"),
    [
        ("none", ["beta", "gamma", "max_ratio", "min_rows", "redraw", "tau"]),
        ("undersample", ["beta", "gamma", "tau"]),
        ("oversample", ["beta", "gamma", "min_rows", "tau"]),
        ("class-weights", ["gamma", "max_ratio", "min_rows", "redraw", "tau"]),
        ("focal", ["beta", "max_ratio", "min_rows", "redraw", "tau"]),
        ("logit-adjustment", ["beta", "gamma", "max_ratio", "min_rows", "redraw"]),
        ("balanced-softmax", ["beta", "gamma", "max_ratio", "min_rows", "redraw"]),
    ],
)
def test_keys_that_a_strategy_does_not_use_are_named_if_they_were_given(
    strategy: Any, useless: list[str]
) -> None:
    assert idle(Balance(strategy=strategy)) == []
    given = Balance(
        strategy=strategy, max_ratio=1, min_rows=20, redraw=True, beta=None, gamma=2, tau=1
    )
    assert idle(given) == useless


def test_the_histogram_shows_the_largest_class_first_with_what_is_kept() -> None:
    lines = histogram(
        ["rare", "common", "middle"], COUNTS[[2, 0, 1]], np.array([20, 20, 20])
    ).split("\n")
    assert [line.split()[0] for line in lines[1:]] == ["common", "middle", "rare"]
    assert [line.split()[1:3] for line in lines[1:]] == [["400", "20"], ["100", "20"], ["20", "20"]]
    assert [(line.count("█"), line.count("░")) for line in lines[1:]] == [(2, 38), (2, 8), (2, 0)]


def test_the_histogram_shows_what_is_repeated() -> None:
    lines = histogram(["common", "rare"], np.array([400, 20]), np.array([400, 200])).split("\n")
    marks = [(line.count("█"), line.count("░"), line.count("▓")) for line in lines[1:]]
    assert marks == [(40, 0, 0), (2, 0, 18)]


def test_small_classes_are_named() -> None:
    said = kept_whole(Balance(strategy="undersample"), ["legal", "tax"])
    assert said == "Under balance.min_rows (20), so kept whole: legal, tax"
