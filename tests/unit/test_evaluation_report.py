"""The report of an evaluation: figures with their intervals, classes, confusions, baselines, the
comparison with another bundle, and when to ask a human."""

import json
import math
from typing import Any

import pytest

from jobs import comparison
from tests.unit.reporting import HOSTILE, LABELS, METRICS, evaluation, uncertain


def many(size: int) -> tuple[dict[str, Any], list[list[int]], list[str]]:
    """The heaviest report of `size` classes: every cell of the matrix holds rows."""
    labels = [
        f"{position} a rather long name of a team, écrit en détail" for position in range(size)
    ]
    row = {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    per_class = {label: {**row, "support": size - at} for at, label in enumerate(labels)}
    return {**METRICS, "per_class": per_class}, [[123] * size for _ in labels], labels


def test_every_headline_figure_is_the_one_given() -> None:
    tiles = " | ".join(evaluation().tiles)
    for figure in ("0.693 Macro F1", "77.3% Accuracy", "71.7% Balanced", "91.2% Coverage"):
        assert figure in tiles
    assert "0.031 Calibration error" in tiles
    assert "1,150 Rows in 3 classes" in tiles
    assert evaluation().body("Average") == [
        ["over classes (macro)", "0.676", "0.717", "0.693"],
        ["over rows (weighted)", "0.784", "0.773", "0.777"],
    ]


def test_every_class_has_its_row_and_the_largest_comes_first() -> None:
    assert evaluation().body("Class") == [
        ["cards", "100", "0.860", "0.800", "0.829", "0.801"],
        ["payments", "40", "0.667", "0.750", "0.706", "–"],
        [HOSTILE, "10", "0.500", "0.600", "0.545", "–"],
    ]


def test_the_baselines_stand_beside_the_model_with_its_lead() -> None:
    page = evaluation()
    assert page.body("") == [
        ["this model", "77.3%", "0.693", "0.717", ""],
        ["tf-idf", "75.0%", "0.643", "–", "+5.0"],
        ["majority", "66.7%", "0.267", "0.333", "+42.7"],
        ["zero-shot (not measured)", "–", "–", "–", ""],
    ]
    assert "The model leads the best baseline" in page.html


def test_a_model_behind_its_baseline_is_said_to_trail() -> None:
    baselines = {"tf-idf": {"accuracy": 0.8, "macro_f1": 0.7135}}
    page = evaluation({**METRICS, "baselines": baselines})
    assert "The model trails the best baseline" in page.html
    assert page.body("")[1][-1] == "-2.0"


def test_the_top_confusions_are_counted_and_shared_over_the_true_class() -> None:
    assert evaluation().body("True class") == [
        ["cards", "payments", "15", "15.0%"],
        ["payments", "cards", "9", "22.5%"],
        ["cards", HOSTILE, "5", "5.0%"],
        [HOSTILE, "cards", "4", "40.0%"],
        ["payments", HOSTILE, "1", "2.5%"],
    ]


def test_no_more_than_fifteen_confusions_are_listed() -> None:
    assert len(evaluation(*many(20)).body("True class")) == 15


def test_a_model_without_mistakes_has_no_confusions() -> None:
    page = evaluation(confusion=[[10, 0, 0], [0, 100, 0], [0, 0, 40]])
    assert "every row was given its own class" in page.html


def test_the_heatmap_gets_the_whole_matrix_in_the_order_of_the_table() -> None:
    page = evaluation()
    matrix = json.loads(next(script for script in page.scripts if script.startswith("{")))
    assert matrix["labels"] == ["cards", "payments", HOSTILE]
    assert matrix["cells"] == [[0, 80, 1, 15, 2, 5], [0, 9, 1, 30, 2, 1], [0, 4, 2, 6]]


def test_the_small_classes_have_a_mean_of_their_own() -> None:
    tiles = " | ".join(evaluation().tiles)
    assert "0.829 Largest classes 1 class, 100 rows" in tiles
    assert "0.545 Smallest classes 1 class, 10 rows" in tiles


@pytest.mark.parametrize("size", [2, 77, 300])
def test_a_report_of_few_or_many_classes_is_whole_and_light(size: int) -> None:
    page = evaluation(*many(size))
    assert len(page.body("Class")) == size
    assert len(page.html.encode()) < 1_500_000


def test_figures_that_are_missing_or_not_finite_are_dashes() -> None:
    page = evaluation({"macro_f1": math.nan, "per_class": {"cards": {"f1": None}}})
    assert page.tiles[0].startswith("– Macro F1")
    assert ["cards", "100", "–", "–", "–"] in page.body("Class")


def test_figures_stand_with_their_intervals() -> None:
    found = uncertain()
    page = evaluation(found)
    low, high = found["intervals"]["macro_f1"]
    assert f"Macro F1 {low:.3f} to {high:.3f}; every class" in page.tiles[0]
    low, high = found["intervals"]["weighted_recall"]
    assert page.body("Average")[1][2] == f"0.773 ({low:.3f} to {high:.3f})"
    assert "95% intervals of 2,000 resamples" in page.html
    tiles = " | ".join(page.tiles)
    assert "60.0% Recall of the rarest third" in tiles
    assert f"{found['answered_accuracy']:.1%} Accuracy where answered" in tiles


def test_metrics_of_an_earlier_version_have_a_report_without_intervals_and_curves() -> None:
    page = evaluation()
    for word in ("resamples", "Against another bundle", "When to ask a human", "rarest third"):
        assert word not in page.html


def test_the_comparison_is_told_and_every_class_that_was_tested_is_there() -> None:
    found = uncertain()
    page = evaluation(found)
    assert comparison.sentence(found["against"]["mcnemar"]) in page.html
    assert "does not know 1 label of these rows" in page.html
    assert "Of 3 classes tested together" in page.html
    figures = {row[0]: row[1:] for row in page.body("Figure")}
    assert list(figures) == ["Accuracy", "Balanced accuracy", "Macro F1", "Rarest third recall"]
    ours, theirs = found["accuracy"], found["against"]["accuracy"]
    assert figures["Accuracy"][:3] == [f"{ours:.3f}", f"{theirs:.3f}", f"{ours - theirs:+.3f}"]
    classes = page.body("Class compared")
    assert {row[0] for row in classes} == set(LABELS)
    best = found["against"]["classes"][0]
    assert classes[0][:4] == [
        best["label"], str(best["support"]), f"{best['recall']:.3f}", f"{best['other_recall']:.3f}"
    ]  # fmt: skip


def test_a_baseline_stands_with_its_paired_test() -> None:
    page = evaluation(uncertain())
    assert page.body("")[0][-1] == ""
    assert page.body("")[1][-1] == "41 to 20, p = 0.010"
    assert "Row by row: This bundle is right on 41 rows where the other is wrong" in page.html


def test_the_curve_of_precision_over_coverage_has_readings_and_the_own_threshold() -> None:
    found = uncertain()
    page = evaluation(found)
    readings = page.body("When this share is answered")
    assert [row[0] for row in readings] == ["50%", "80%", "90%", "100%"]
    assert readings[-1][1] == "77.3%"
    wanted = page.body("To have this share right")
    assert [row[0] for row in wanted] == ["90%", "95%", "98%", "99%"]
    none = [{"precision": 0.9, "coverage": None, "threshold": None}]
    unreached = evaluation(found | {"coverage_at_precision": none})
    assert unreached.body("To have this share right") == [["90%", "never reached", "–"]]
    answered = page.titles[[t.startswith("scores of") for t in page.titles].index(True)]
    assert "answered" in answered
    assert ">the bundle's threshold<" in page.html.replace("&#39;", "'")
    bins = [row for row in found["reliability"] if row["rows"]]
    assert [row[1] for row in page.body("Score")] == [str(row["rows"]) for row in bins]
    everybody = evaluation(found | {"abstention_threshold": 0.0, "coverage": 1.0})
    assert ">no threshold<" in everybody.html
    assert "Accuracy where answered" not in everybody.html


def test_a_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="not 3 by 3"):
        evaluation(confusion=[[1, 0], [0, 1]])
