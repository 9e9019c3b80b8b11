"""The decision offset and the abstention threshold, on rows of which the truth is known."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.classifier import decision, metrics
from jobs.classifier.decision import Metric, abstention, offset, offset_strength
from tests.unit.memory import STEADY

Floats = npt.NDArray[np.float64]


def zipf(classes: int, power: float = 1.2) -> Floats:
    shares = np.arange(1, classes + 1) ** -power
    return np.asarray(shares / shares.sum())


def calibrated(
    rows: int, prior: Floats, *, sharpness: float = 2.5, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(log-scores, truth): classes are unit vectors seen through noise, so that these are exact."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(prior), rows, p=prior)
    seen = sharpness * np.eye(len(prior))[truth] + rng.normal(size=(rows, len(prior)))
    return (sharpness * seen + np.log(prior)).astype(np.float32), truth


def figure(log_scores: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], name: str) -> float:
    labels = log_scores.argmax(axis=1)
    return metrics.from_counts(metrics.counts(truth, labels, log_scores.shape[1]))[name]


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy"])
def test_the_offset_raises_its_figure_on_rows_it_was_not_chosen_on(metric: Metric) -> None:
    prior = zipf(10, 2.0)
    log_scores, truth = calibrated(2000, prior, sharpness=1.5)
    strength = offset_strength(log_scores, truth, prior, metric)
    assert strength > 0.2
    fresh, truth = calibrated(20_000, prior, sharpness=1.5, seed=1)
    moved = (fresh + offset(strength, prior)).astype(np.float32)
    assert figure(moved, truth, metric) > figure(fresh, truth, metric) + 0.02


@pytest.mark.parametrize("classes", [5, 10, 20])
def test_where_none_is_needed_the_offset_costs_next_to_nothing(classes: int) -> None:
    prior = zipf(classes)
    log_scores, truth = calibrated(2000, prior, sharpness=3.0)
    found = offset(offset_strength(log_scores, truth, prior, "macro_f1"), prior)
    fresh, truth = calibrated(20_000, prior, sharpness=3.0, seed=1)
    moved = (fresh + found).astype(np.float32)
    assert figure(moved, truth, "macro_f1") > figure(fresh, truth, "macro_f1") - 0.005


def test_balanced_accuracy_wants_the_classes_as_if_they_were_equally_large() -> None:
    prior = zipf(10)
    log_scores, truth = calibrated(20_000, prior)
    assert offset_strength(log_scores, truth, prior, "balanced_accuracy") == pytest.approx(1, 0.2)


def test_accuracy_wants_no_offset() -> None:
    prior = zipf(20)
    log_scores, truth = calibrated(2000, prior)
    assert offset_strength(log_scores, truth, prior, "accuracy") == 0
    assert offset(0, prior).tolist() == [0] * 20


def test_equally_large_classes_get_no_offset() -> None:
    prior = np.full(10, 0.1)
    log_scores, truth = calibrated(2000, prior)
    assert offset_strength(log_scores, truth, prior, "macro_f1") == 0


def test_the_choice_is_the_same_every_time() -> None:
    prior = zipf(20)
    log_scores, truth = calibrated(700, prior)
    first = offset_strength(log_scores, truth, prior, "macro_f1")
    assert offset_strength(log_scores, truth, prior, "macro_f1") == first
    order = np.random.default_rng(3).permutation(700)
    again = offset_strength(log_scores[order], truth[order], prior, "macro_f1")
    assert again == first, "the order of the rows has no say"


def test_the_offset_lifts_rare_classes_and_keeps_the_mean_of_the_logits() -> None:
    found = offset(0.5, np.array([0.8, 0.15, 0.05]))
    assert (np.diff(found) > 0).all()
    assert found.mean() == pytest.approx(0, abs=1e-12)
    assert found[2] - found[0] == pytest.approx(0.5 * np.log(16))


@pytest.mark.parametrize(
    ("rows", "truth"), [(0, []), (1, [2]), (30, [0] * 30), (30, [1] * 30)], ids=str
)
def test_degenerate_rows_give_a_finite_offset(rows: int, truth: list[int]) -> None:
    prior = np.array([1 - 2e-9, 1e-9, 1e-9])
    log_scores = np.tile(np.array([2.0, 1.0, 0.0], dtype=np.float32), (rows, 1))
    strength = offset_strength(log_scores, np.array(truth, dtype=np.int64), prior, "macro_f1")
    assert 0 <= strength <= 1.5
    assert np.isfinite(offset(strength, prior)).all()


def answered(scores: list[float], value: float) -> list[int]:
    """The rows that the predictor would answer."""
    kept = np.array(scores, dtype=np.float32) >= np.float32(value)
    return np.flatnonzero(kept).tolist()


SCORES = [0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
RIGHT = [True, True, True, False, True, True, False, False, True, False]


@pytest.mark.parametrize(
    ("precision", "rows"),
    [
        (0.99, 3),  # 3 of 3
        (0.83, 6),  # 5 of 6
        (5 / 6, 6),
        (0.72, 6),  # 5 of 7 is 0.714
        (0.71, 7),
        (0.6, 10),  # 6 of 10, after 0.625 and 0.667
    ],
)
def test_a_precision_is_reached_with_as_many_answers_as_can_be(precision: float, rows: int) -> None:
    found = abstention(np.array(SCORES, np.float32), np.array(RIGHT), precision=precision)
    assert found.reached
    assert found.answered == rows
    assert answered(SCORES, found.value) == list(range(rows))


@pytest.mark.parametrize(
    ("coverage", "rows"), [(0.05, 1), (0.1, 1), (0.11, 3), (0.3, 3), (0.31, 4), (0.7, 7), (1, 10)]
)
def test_a_coverage_is_kept_with_the_highest_threshold_and_equal_scores_stay_together(
    coverage: float, rows: int
) -> None:
    found = abstention(np.array(SCORES, np.float32), np.array(RIGHT), coverage=coverage)
    assert found.reached
    assert answered(SCORES, found.value) == list(range(rows))


def test_a_precision_that_cannot_be_had_gives_the_highest_and_says_so() -> None:
    right = np.array([False, True, False, True, True, False, False, False, False, False])
    found = abstention(np.array(SCORES, np.float32), right, precision=0.9)
    assert not found.reached
    assert found.answered == 5
    assert answered(SCORES, found.value) == [0, 1, 2, 3, 4]


def test_a_precision_is_not_believed_on_a_handful_of_rows() -> None:
    scores = np.linspace(1, 0, 1000, dtype=np.float32)
    right = np.arange(1000) < 10
    found = abstention(scores, right, precision=0.9)
    assert not found.reached
    assert found.answered == 20


def test_without_a_wish_or_without_rows_all_are_answered() -> None:
    none = np.zeros(0, np.float32), np.zeros(0, bool)
    assert abstention(np.array(SCORES, np.float32), np.array(RIGHT)).value == 0
    assert abstention(*none, precision=0.9).value == 0
    assert abstention(*none, coverage=0.9).value == 0
    assert not abstention(*none, precision=0.9).reached


def test_scores_next_to_each_other_in_float32_are_told_apart() -> None:
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    scores = np.array([low, high], dtype=np.float32)
    found = abstention(scores, np.array([False, True]), precision=0.9)
    assert (scores >= np.float32(found.value)).tolist() == [False, True]


@STEADY
@given(
    st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
)
def test_no_other_threshold_would_have_done_better(
    rows: list[tuple[int, bool]], wanted: float
) -> None:
    scores = np.array([score / 30 for score, _ in rows], dtype=np.float32)
    right = np.array([hit for _, hit in rows])
    cuts = [scores >= value for value in np.unique(scores)]
    found = abstention(scores, right, coverage=wanted)
    kept = scores >= np.float32(found.value)
    assert kept.sum() == found.answered
    assert kept.mean() >= wanted
    assert not any(wanted <= cut.mean() < kept.mean() for cut in cuts)
    found = abstention(scores, right, precision=wanted)
    kept = scores >= np.float32(found.value)
    least = max(1, min(len(rows) // 10, decision._FEWEST_ANSWERS))
    enough = [cut for cut in cuts if cut.sum() >= least]
    if found.reached:
        assert right[kept].mean() >= wanted
        assert not any(right[c].mean() >= wanted and c.sum() > kept.sum() for c in enough)
    else:
        assert right[kept].mean() == max(right[cut].mean() for cut in enough) < wanted
