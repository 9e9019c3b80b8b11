"""Precision over coverage, and reliability: read by hand, ties together, drawn within bounds."""

import json

import numpy as np
import pytest

from jobs import score_charts, score_curves
from jobs.classifier import metrics

SCORES = np.array([0.95, 0.9, 0.9, 0.7, 0.6, 0.5, 0.4, 0.3], np.float32)
RIGHT = np.array([1, 1, 1, 1, 0, 1, 0, 0], np.bool_)


def test_the_curve_is_worked_out_by_hand_and_rows_of_one_score_stay_together() -> None:
    curve = score_curves.describe(SCORES, RIGHT)["coverage_curve"]
    assert [point["coverage"] for point in curve] == [1 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1]
    expected = [1, 1, 1, 4 / 5, 5 / 6, 5 / 7, 5 / 8]
    assert [point["precision"] for point in curve] == pytest.approx(expected)
    assert curve[1]["threshold"] == pytest.approx(0.9)


def test_readings_go_as_far_as_the_precision_holds() -> None:
    found = score_curves.describe(SCORES, RIGHT)
    by_precision = {row["precision"]: row for row in found["coverage_at_precision"]}
    assert by_precision[0.9]["coverage"] == 0.5
    assert by_precision[0.9]["threshold"] == pytest.approx(0.7)
    by_coverage = {row["coverage"]: row["precision"] for row in found["precision_at_coverage"]}
    assert by_coverage == pytest.approx({0.5: 1, 0.8: 5 / 7, 0.9: 5 / 8, 1.0: 5 / 8})


def test_the_threshold_of_a_point_answers_just_the_rows_it_says() -> None:
    rng = np.random.default_rng(0)
    scores = rng.beta(5, 2, 3000).astype(np.float32)
    right = rng.random(3000) < scores
    found = score_curves.describe(scores, right)
    assert len(found["coverage_curve"]) == 100
    for point in found["coverage_curve"]:
        answered = scores >= np.float32(point["threshold"])
        assert answered.mean() == pytest.approx(point["coverage"])
        assert right[answered].mean() == pytest.approx(point["precision"])
    json.dumps(found, allow_nan=False)


def test_a_precision_that_no_threshold_reaches_has_no_reading() -> None:
    found = score_curves.describe(np.array([0.9, 0.8]), np.array([False, False]))
    assert {row["coverage"] for row in found["coverage_at_precision"]} == {None}


def test_one_row_and_no_rows_have_a_curve_too() -> None:
    one = score_curves.describe(np.array([0.8]), np.array([True]))
    assert [point["coverage"] for point in one["coverage_curve"]] == [1.0]
    none = score_curves.describe(np.zeros(0), np.zeros(0, np.bool_))
    assert none["coverage_curve"] == []
    assert {row["precision"] for row in none["precision_at_coverage"]} == {None}
    assert sum(found["rows"] for found in none["reliability"]) == 0


def test_the_bins_are_those_of_the_calibration_error() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(500)
    right = rng.random(500) < 0.5
    bins = score_curves.reliability(scores, right)
    assert len(bins) == 15
    assert sum(found["rows"] for found in bins) == 500
    gaps = sum(found["rows"] * abs(found["accuracy"] - found["mean_score"]) for found in bins)
    assert gaps / 500 == pytest.approx(metrics.calibration_error(scores, right))


def test_the_charts_stay_within_their_bounds_and_leave_out_empty_bins() -> None:
    found = score_curves.describe(SCORES, RIGHT)
    drawn = score_charts.coverage(found["coverage_curve"], (0.5, 1.0))
    assert drawn["own"] == {"x": 50.0, "y": 0.0}
    assert drawn["up"][0] == (0.0, "60%")
    assert drawn["up"][-1] == (100.0, "100%")
    assert drawn["slots"][0]["x"] == 0
    assert drawn["slots"][-1]["x"] + drawn["slots"][-1]["width"] == pytest.approx(100)
    numbers = [float(word) for word in drawn["line"].replace("M", "").replace("L", "").split()]
    assert all(0 <= number <= 100 for number in numbers)
    bins = score_charts.reliability(found["reliability"])
    assert [mark["rows"] for mark in bins["marks"]] == [1, 1, 1, 1, 1, 2, 1]
    assert max(mark["height"] for mark in bins["marks"]) == 100


def test_an_unlucky_first_row_does_not_flatten_the_curve() -> None:
    points = [{"threshold": 0.9, "coverage": 0.01, "precision": 0.0}]
    points += [{"threshold": 0.5, "coverage": 1.0, "precision": 0.97}]
    drawn = score_charts.coverage(points, None)
    assert drawn["up"][0] == (0.0, "90%")
    assert drawn["line"] == "M1.0 100.0 L100.0 30.0"
    assert drawn["own"] is None
