"""Which epoch is the best, and when waiting for a better one ends.

Pure functions of the figures so far, so that every rank and every resumed run decides alike.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Metric = Literal["macro_f1", "accuracy", "validation_loss", "calibrated_loss"]


@dataclass(frozen=True)
class Rule:
    """The best epoch is that of the best `metric`; after `patience` epochs without a better one
    training ends (None: never before its last epoch)."""

    metric: Metric = "macro_f1"
    patience: int | None = None


def score(figures: Mapping[str, float], metric: Metric) -> float:
    """Higher is better; what is no number is worse than all others."""
    value = figures[metric]
    if math.isnan(value):
        return -math.inf
    return -value if metric.endswith("_loss") else value


def order(figures: Mapping[str, float], metric: Metric) -> tuple[float, float]:
    """For sorting: the better epoch is greater. Few validation rows give many equal scores; of
    those the lower loss is better."""
    return score(figures, metric), score(figures, "validation_loss")


def best_epoch(history: Sequence[Mapping[str, float]], metric: Metric) -> int:
    """The number of the best epoch, counted from one; of equals the first. 0 without history."""
    if not history:
        return 0
    return 1 + max(range(len(history)), key=lambda k: (order(history[k], metric), -k))


def is_over(history: Sequence[Mapping[str, float]], rule: Rule) -> bool:
    """Whether no epoch has had a better score for `rule.patience` epochs; a lower loss alone is
    no better score."""
    if rule.patience is None or not history:
        return False
    scores = [score(figures, rule.metric) for figures in history]
    return len(scores) - (scores.index(max(scores)) + 1) >= rule.patience
