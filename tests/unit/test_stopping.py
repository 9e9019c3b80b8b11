"""The best epoch, and the end of waiting for a better one."""

import math

import pytest

from jobs.classifier.stopping import Metric, Rule, best_epoch, is_over


def history(*scores: float, losses: tuple[float, ...] = ()) -> list[dict[str, float]]:
    """Epochs of these macro-F1; accuracy runs the other way; losses are equal unless given."""
    return [
        {"macro_f1": s, "accuracy": -s, "validation_loss": losses[k] if losses else 1.0}
        for k, s in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("found", "metric", "best"),
    [
        (history(), "macro_f1", 0),
        (history(0.1, 0.3, 0.2), "macro_f1", 2),
        (history(0.1, 0.3, 0.2), "accuracy", 1),
        (history(0.1, 0.3, 0.2, losses=(0.5, 0.4, 0.3)), "validation_loss", 3),
        (history(0.3, 0.3, 0.3), "macro_f1", 1),
        (history(0.3, 0.3, 0.3, losses=(0.5, 0.3, 0.4)), "macro_f1", 2),
        (history(math.nan, 0.1), "macro_f1", 2),
        (history(math.nan, math.nan), "macro_f1", 1),
    ],
)
def test_the_best_epoch_has_the_best_score_and_of_equals_the_lowest_loss(
    found: list[dict[str, float]], metric: Metric, best: int
) -> None:
    assert best_epoch(found, metric) == best


@pytest.mark.parametrize(
    ("found", "patience", "over"),
    [
        (history(), 1, False),
        (history(0.1), 1, False),
        (history(0.2, 0.1), 1, True),
        (history(0.2, 0.1), 2, False),
        (history(0.2, 0.1, 0.3), 1, False),
        (history(0.2, 0.1, 0.3, 0.2, 0.3), 2, True),
        (history(0.2, 0.1, 0.0), None, False),
    ],
)
def test_training_is_over_after_so_many_epochs_without_a_better_one(
    found: list[dict[str, float]], patience: int | None, over: bool
) -> None:
    assert is_over(found, Rule("macro_f1", patience)) is over


def test_a_lower_loss_alone_does_not_prolong_a_run_that_waits_for_a_score() -> None:
    found = history(1.0, 1.0, 1.0, losses=(0.5, 0.4, 0.3))
    assert is_over(found, Rule("macro_f1", 2))
    assert not is_over(found, Rule("validation_loss", 2))
    assert best_epoch(found, "macro_f1") == 3
