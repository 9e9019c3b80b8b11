"""Figures from counts, against scikit-learn."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from jobs.classifier import metrics
from tests.unit.memory import STEADY

CLASSES = 6
PAIRS = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60
)


def split(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = np.array(pairs, dtype=np.int64).T
    return truth, predicted


@STEADY
@given(PAIRS)
def test_figures_per_class_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = split(pairs)
    counts = metrics.counts(truth, predicted, CLASSES)
    expected = precision_recall_fscore_support(
        truth, predicted, labels=range(CLASSES), zero_division=0
    )
    for found, theirs in zip(metrics.per_class(counts), expected, strict=False):
        np.testing.assert_allclose(found, theirs, atol=1e-12)
    assert counts[2].tolist() == expected[3].tolist()


@STEADY
@given(PAIRS)
def test_headline_figures_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = split(pairs)
    found = metrics.from_counts(metrics.counts(truth, predicted, CLASSES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are called and have no rows
        balanced = balanced_accuracy_score(truth, predicted)
    expected = {"accuracy": accuracy_score(truth, predicted), "balanced_accuracy": balanced}
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, predicted, average=average, zero_division=0
        )
        assert f1 == f1_score(truth, predicted, average=average, zero_division=0)
        expected |= {
            f"{average}_precision": precision,
            f"{average}_recall": recall,
            f"{average}_f1": f1,
        }
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-12)


@STEADY
@given(PAIRS, st.integers(0, 60))
def test_counts_of_two_parts_add_up_to_those_of_the_whole(
    pairs: list[tuple[int, int]], cut: int
) -> None:
    truth, predicted = split(pairs)
    parts = [
        metrics.counts(truth[part], predicted[part], CLASSES)
        for part in (slice(None, cut), slice(cut, None))
    ]
    assert (parts[0] + parts[1]).tolist() == metrics.counts(truth, predicted, CLASSES).tolist()


@STEADY
@given(PAIRS)
def test_the_confusion_has_the_truth_in_its_rows(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = split(pairs)
    expected = confusion_matrix(truth, predicted, labels=range(CLASSES))
    assert metrics.confusion(truth, predicted, CLASSES).tolist() == expected.tolist()


def test_a_majority_vote_looks_good_by_accuracy_alone() -> None:
    truth, predicted = np.array([0] * 98 + [1, 2]), np.zeros(100, dtype=np.int64)
    found = metrics.from_counts(metrics.counts(truth, predicted, 3))
    assert found["accuracy"] == 0.98
    assert found["balanced_accuracy"] == pytest.approx(1 / 3)
    assert found["macro_f1"] == pytest.approx(2 * 98 / (98 + 100) / 3)


def test_a_class_without_rows_or_calls_does_not_pull_the_means_down() -> None:
    truth = np.array([0, 1, 1])
    found = metrics.from_counts(metrics.counts(truth, truth, 40))
    assert set(found.values()) == {1.0}


def test_no_rows_give_zeros_and_no_division_by_zero() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert set(metrics.from_counts(metrics.counts(none, none, 3)).values()) == {0.0}
    assert metrics.calibration_error(np.zeros(0), np.zeros(0, dtype=bool)) == 0.0


def test_the_class_table_names_every_label_in_plain_numbers() -> None:
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    table = metrics.class_table(metrics.counts(truth, predicted, 3), ["a", "b", "c"])
    assert table["a"] == pytest.approx({"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert table["b"] == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1})
    assert table["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert {type(row["support"]) for row in table.values()} == {int}
    assert {type(row["f1"]) for row in table.values()} == {float}


def test_the_calibration_error_is_the_gap_of_each_bin_weighted_by_its_rows() -> None:
    # Bins are 1/15 wide: 0.93 and 0.90 share [0.8667, 0.9333); 0.50 and 0.54 lie on either side
    # of 0.5333; 0.22 is alone.
    scores = np.array([0.93, 0.90, 0.50, 0.54, 0.22])
    right = np.array([True, False, True, False, False])
    # |1 - 1.83| + |1 - 0.50| + |0 - 0.54| + |0 - 0.22|
    assert metrics.calibration_error(scores, right) == pytest.approx(2.09 / 5)


def test_gaps_of_opposite_sign_in_different_bins_do_not_cancel_and_in_one_bin_they_do() -> None:
    apart = metrics.calibration_error(np.array([0.3, 0.7]), np.array([True, False]))
    assert apart == pytest.approx(0.7)
    together = metrics.calibration_error(np.array([0.5, 0.5]), np.array([True, False]))
    assert together == pytest.approx(0.0)


def test_full_certainty_falls_into_the_last_bin() -> None:
    found = metrics.calibration_error(np.array([1.0, 0.95]), np.array([False, True]))
    assert found == pytest.approx((1.95 - 1) / 2)
