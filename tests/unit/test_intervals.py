"""Bootstrap intervals: the same as resampling rows, honest, repeatable, and whole at the edges."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from jobs import intervals
from jobs.classifier import metrics

RARE = np.array([False, False, True])


def answers(
    rows: int, *, right: float = 0.8, classes: int = 3, seed: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Truth and answers, unevenly many of each class; a wrong answer is any class."""
    rng = np.random.default_rng(seed)
    prior = 1.0 / np.arange(1, classes + 1)
    truth = rng.choice(classes, rows, p=prior / prior.sum())
    guess = rng.integers(0, classes, rows)
    return truth, np.where(rng.random(rows) < right, truth, guess)


def headline(
    truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], rare: npt.NDArray[np.bool_]
) -> dict[str, list[float]]:
    rng = np.random.default_rng(9)
    scores = rng.beta(6, 2, len(truth))
    return intervals.headline(truth, predicted, scores, scores < 0.5, rare)


def test_the_figures_of_many_resamples_are_those_of_each_alone() -> None:
    found = np.stack(
        [metrics.counts(*answers(40, right=0.4, classes=9, seed=k), 9) for k in range(20)], axis=1
    )
    rare = np.arange(9) > 5
    together = intervals.class_figures(found, rare)
    for k in range(20):
        alone = metrics.from_counts(found[:, k])
        assert {name: together[name][k] for name in alone} == pytest.approx(alone)
        there = rare & (found[2, k] > 0)
        recall = metrics.per_class(found[:, k])[1][there]
        expected = recall.mean() if len(recall) else math.nan
        assert together["rarest_third_recall"][k] == pytest.approx(expected, nan_ok=True)


def test_drawing_cells_spreads_the_figures_as_drawing_rows_does() -> None:
    truth, predicted = answers(150, right=0.6)
    draws = intervals._class_draws([truth, predicted], RARE)[0]
    rng = np.random.default_rng(5)
    picks = [rng.integers(0, 150, 150) for _ in range(3000)]
    counts = np.stack([metrics.counts(truth[p], predicted[p], 3) for p in picks], axis=1)
    for name, by_rows in intervals.class_figures(counts, RARE).items():
        resamples = draws[name][1:]
        assert len(resamples) == intervals.RESAMPLES
        assert resamples.mean() == pytest.approx(by_rows.mean(), abs=0.006), name
        assert resamples.std() == pytest.approx(by_rows.std(), rel=0.08), name


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for a simulation, which is of many samples."""
    monkeypatch.setattr(intervals, "RESAMPLES", 300)


@pytest.mark.usefixtures("few_resamples")
def test_intervals_of_accuracy_hold_the_truth_in_about_95_of_100_samples() -> None:
    held = 0
    for seed in range(400):
        truth, predicted = answers(300, right=0.7, seed=seed)
        # A wrong guess is right by chance once in three times.
        low, high = headline(truth, predicted, RARE)["accuracy"]
        held += low <= 0.7 + 0.3 / 3 <= high
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("promise", [0.0, 0.1])
def test_intervals_of_the_calibration_error_hold_the_truth_however_small_it_is(
    promise: float,
) -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        scores = rng.uniform(0.4, 1.0, 500)
        right = rng.random(500) < scores - promise
        low, high = intervals._calibration(scores, right)
        held += low <= promise <= high
    assert held / 200 >= 0.92


@pytest.mark.usefixtures("few_resamples")
def test_intervals_of_macro_f1_hold_the_truth_where_most_classes_have_few_rows() -> None:
    held = 0
    many = metrics.counts(*answers(1_000_000, right=0.7, classes=40, seed=1), 40)
    expected = metrics.from_counts(many)["macro_f1"]
    for seed in range(100):
        truth, predicted = answers(500, right=0.7, classes=40, seed=seed)
        draws = intervals._class_draws([truth, predicted], np.ones(40, np.bool_))[0]
        ends = intervals.interval("macro_f1", draws["macro_f1"])
        assert ends is not None
        assert ends[0] <= draws["macro_f1"][0] <= ends[1]
        held += ends[0] <= expected <= ends[1]
    assert held / 100 >= 0.88


def test_an_interval_stays_between_0_and_1_and_a_difference_between_both_ends() -> None:
    values = np.array([0.98, 0.5, 0.5, 0.5])
    assert intervals.interval("macro_f1", values) == [0.98, 1.0]
    assert intervals.interval("accuracy", values) == [0.5, 0.98]
    assert intervals.interval("macro_f1", -values, least=-1.0) == [-1.0, -0.98]
    assert intervals.interval("accuracy", np.array([0.5, np.nan])) is None


def test_the_interval_of_the_calibration_error_holds_the_error_itself() -> None:
    truth, predicted = answers(200)
    scores = np.random.default_rng(1).random(200)
    low, high = intervals._calibration(scores, truth == predicted)
    assert 0 <= low <= metrics.calibration_error(scores, truth == predicted) <= high


def test_intervals_hold_every_headline_figure_and_are_ordered() -> None:
    truth, predicted = answers(400)
    found = headline(truth, predicted, RARE)
    expected = metrics.from_counts(metrics.counts(truth, predicted, 3))
    assert set(found) == {
        *expected, "rarest_third_recall", "calibration_error", "coverage", "answered_accuracy"
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name][0] < value < found[name][1]


def test_intervals_are_the_same_each_time_and_in_any_order_of_the_rows() -> None:
    truth, predicted = answers(300)
    scores, never = np.full(300, 0.75), np.zeros(300, np.bool_)
    found = intervals.headline(truth, predicted, scores, never, RARE)
    assert intervals.headline(truth, predicted, scores, never, RARE) == found
    order = np.random.default_rng(2).permutation(300)
    again = intervals.headline(truth[order], predicted[order], scores, never, RARE)
    for name, interval in found.items():
        assert again[name] == pytest.approx(interval), name


def test_more_rows_give_narrower_intervals() -> None:
    widths = []
    for rows in (100, 1000, 10_000):
        low, high = headline(*answers(rows), RARE)["macro_f1"]
        widths.append(high - low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_a_class_without_rows_leaves_out_its_figure_alone() -> None:
    truth, predicted = answers(100, classes=2)
    found = headline(truth, predicted, RARE)
    assert "rarest_third_recall" not in found
    assert found["macro_f1"][0] < found["macro_f1"][1]


def test_one_row_has_intervals_without_width_and_no_rows_have_none() -> None:
    one = np.array([1])
    found = intervals.headline(one, one, np.array([0.9]), np.array([False]), RARE)
    assert found["accuracy"] == [1.0, 1.0]
    assert found["calibration_error"] == pytest.approx([0.1, 0.1])
    none = np.zeros(0, np.int64)
    assert intervals.headline(none, none, none, none.astype(bool), RARE) == {}
    assert intervals.difference(none, none, none, RARE) == {}


def test_where_every_row_is_abstained_on_answered_accuracy_has_no_interval() -> None:
    truth, predicted = answers(50)
    found = intervals.headline(truth, predicted, np.full(50, 0.2), np.ones(50, np.bool_), RARE)
    assert found["coverage"] == [0.0, 0.0]
    assert "answered_accuracy" not in found


def test_a_difference_is_of_the_same_resamples_and_so_narrower_than_its_parts() -> None:
    truth, ours = answers(500)
    theirs = ours.copy()
    theirs[:10] = (truth[:10] + 1) % 3
    low, high = intervals.difference(truth, ours, theirs, RARE)["accuracy"]
    lost = (ours[:10] == truth[:10]).sum() / 500
    assert 0 < low < lost < high
    alone = headline(truth, ours, RARE)["accuracy"]
    assert high - low < (alone[1] - alone[0]) / 2
    same = intervals.difference(truth, ours, ours, RARE)
    assert set(map(tuple, same.values())) == {(0.0, 0.0)}


def test_the_rows_of_every_resample_are_as_many_as_there_are() -> None:
    cells = np.array([3, 0, 90, 1, 6])
    draws = np.concatenate(list(intervals.resampled(cells)))
    assert draws.shape == (intervals.RESAMPLES, 5)
    assert set(draws.sum(axis=1)) == {100}
    assert draws.mean(axis=0) == pytest.approx(cells, abs=0.3)


def test_few_resamples_at_a_time_are_the_same_as_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = np.array([3, 90, 1, 6])
    whole = np.concatenate(list(intervals.resampled(cells)))
    monkeypatch.setattr(intervals, "_CHUNK", 28)
    parts = list(intervals.resampled(cells))
    assert len(parts) > 100
    assert np.concatenate(parts).tolist() == whole.tolist()
