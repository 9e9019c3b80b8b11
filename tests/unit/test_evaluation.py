"""The figures of the contract."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from jobs import evaluation, printed
from jobs.classifier.predictor import Predictions

NAMES = ["mail", "network", "printing"]
SCORES = [[0.9, 0.05, 0.05], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3], [0.1, 0.1, 0.8]]
TRUTH = np.array([0, 1, 1, 2])


def answers(labels: list[int], abstained: list[bool]) -> Predictions:
    scores = np.array(SCORES, dtype=np.float32)
    return Predictions(
        np.array(labels), scores, np.array(abstained), np.zeros(4, dtype=bool), np.log(scores)
    )


@pytest.fixture
def found() -> dict[str, Any]:
    return evaluation.figures(TRUTH, answers([0, 1, 0, 2], [False, False, True, False]), NAMES)


def test_figures_are_worked_out_by_hand(found: dict[str, Any]) -> None:
    assert found["rows"] == 4
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["macro_f1"] == pytest.approx(f1_score(TRUTH, [0, 1, 0, 2], average="macro"))
    assert found["coverage"] == 0.75
    # Each row lies in a bin of its own.
    assert found["calibration_error"] == pytest.approx((0.1 + 0.5 + 0.4 + 0.2) / 4, abs=1e-6)
    assert found["per_class"]["network"] == pytest.approx(
        {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2}
    )
    assert list(found["per_class"]) == NAMES
    assert found["baselines"] == {}


def test_figures_are_written_as_json_without_a_converter(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_calibration_is_that_of_the_label_and_not_of_the_highest_score() -> None:
    # A decision offset made the second row's label the class with the score 0.3.
    moved = evaluation.figures(TRUTH, answers([0, 2, 0, 2], [False] * 4), NAMES)
    assert moved["calibration_error"] == pytest.approx((0.1 + 0.3 + 0.4 + 0.2) / 4, abs=1e-6)
    assert moved["coverage"] == 1.0
    assert moved["accuracy"] == 0.5


def test_columns_of_written_predictions_give_the_same_figures(found: dict[str, Any]) -> None:
    scores = np.array([0.9, 0.5, 0.4, 0.8], dtype=np.float32)
    columns = evaluation.from_columns(
        TRUTH, np.array([0, 1, 0, 2]), scores, np.array([False, False, True, False]), NAMES
    )
    assert columns == found


def test_no_rows_give_zeros_and_every_label() -> None:
    none = np.zeros(0, dtype=np.int64)
    empty = evaluation.from_columns(none, none, none.astype(float), none.astype(bool), NAMES)
    assert (empty["rows"], empty["accuracy"], empty["coverage"]) == (0, 0.0, 0.0)
    assert set(empty["per_class"]) == set(NAMES)
    json.dumps(empty, allow_nan=False)


def test_the_table_has_the_largest_class_first_and_the_baselines_below(
    found: dict[str, Any],
) -> None:
    majority = {"accuracy": 0.5, "macro_f1": 0.2222, "macro_recall": 0.3333}
    found |= {"baselines": {"majority": majority, "zero-shot": None}}
    lines = evaluation.table(found).split("\n")
    assert [line.split()[0] for line in lines[1:4]] == ["network", "mail", "printing"]
    assert lines[1].split() == ["network", "1.000", "0.500", "0.667", "2"]
    assert lines[-2].split() == ["this", "model", "0.7500", "0.7778", "0.8333"]
    assert lines[-1].split() == ["majority", "0.5000", "0.2222", "0.3333"]
    assert "zero-shot" not in "\n".join(lines)


def test_of_many_classes_the_table_shows_the_largest_and_the_smallest() -> None:
    names = [f"team-{number:02}" for number in range(43)]
    truth = np.repeat(np.arange(43), np.arange(43) + 1)
    found = evaluation.from_columns(
        truth, truth, np.ones(len(truth)), np.zeros(len(truth), dtype=bool), names
    )
    text = evaluation.table(found)
    lines = text.split("\n")
    shown = [line.split()[0] for line in lines if line.startswith("team-")]
    assert shown == [*reversed(names[28:]), *reversed(names[:15])]
    assert lines[16] == "… 13 more classes, all in metrics.json …"


def test_the_table_says_how_each_baseline_fares_in_a_paired_test(found: dict[str, Any]) -> None:
    majority = {"accuracy": 0.5, "macro_f1": 0.2, "macro_recall": 0.3}
    majority |= {"mcnemar": {"only_this_right": 41, "only_other_right": 20, "p_value": 0.00959}}
    lines = evaluation.table(found | {"baselines": {"majority": majority}}).split("\n")
    assert lines[-3].endswith("right where the other is wrong")
    assert lines[-1].endswith("0.3000  this 41, it 20: p = 0.010")


def test_the_rarest_third_is_that_of_the_prior_where_it_is_known() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 0, 2])
    rows = (truth, predicted, np.full(6, 0.5), np.zeros(6, np.bool_), NAMES)
    assert evaluation.from_columns(*rows)["rarest_third_recall"] == 1.0
    prior = [0.1, 0.5, 0.4]
    found = evaluation.from_columns(*rows, prior)
    assert found["rarest_third_recall"] == pytest.approx(2 / 3)


def test_classes_as_rare_as_the_rarest_third_belong_to_it() -> None:
    def rarest(*prior: float) -> list[int]:
        return np.flatnonzero(evaluation.rarest_third(prior)).tolist()

    assert rarest(0.5, 0.2, 0.3) == [1]
    assert rarest(0.1, 0.2, 0.3, 0.4, 0.5, 0.6) == [0, 1]
    assert rarest(0.1, 0.2, 0.2, 0.4, 0.5, 0.6) == [0, 1, 2]
    assert rarest(0.5, 0.5) == [0, 1]
    assert rarest(1.0) == [0]
    assert rarest() == []


def test_a_rarest_third_without_rows_has_no_recall() -> None:
    truth = np.array([0, 1])
    rows = (truth, truth, np.full(2, 0.5), np.zeros(2, np.bool_), NAMES)
    assert evaluation.from_columns(*rows, [0.5, 0.4, 0.1])["rarest_third_recall"] is None


def test_the_accuracy_of_the_answered_rows_leaves_out_those_for_a_human() -> None:
    abstained = [False, False, True, False]
    assert (
        evaluation.figures(TRUTH, answers([0, 1, 0, 2], abstained), NAMES)["answered_accuracy"]
        == 1.0
    )
    nobody = evaluation.figures(TRUTH, answers([0, 1, 0, 2], [True] * 4), NAMES)
    assert nobody["answered_accuracy"] is None
    everybody = evaluation.figures(TRUTH, answers([0, 1, 0, 2], [False] * 4), NAMES)
    assert everybody["answered_accuracy"] == everybody["accuracy"] == 0.75


def uncertain(found: dict[str, Any], predicted: list[int], abstained: list[bool]) -> dict[str, Any]:
    scores = np.array([0.9, 0.5, 0.4, 0.8], dtype=np.float32)
    columns = (TRUTH, np.array(predicted), scores, np.array(abstained))
    return found | evaluation.uncertainty(*columns, [0.4, 0.4, 0.2])


def test_what_is_uncertain_is_written_as_json_and_printed(found: dict[str, Any]) -> None:
    whole = uncertain(found, [0, 1, 0, 2], [False, False, True, False])
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert whole["bootstrap"] == {"resamples": 2000, "level": 0.95, "seed": 0}
    low, high = whole["intervals"]["accuracy"]
    assert low < 0.75 < high
    lines = printed.summary(whole).split("\n")
    assert lines[0].split() == ["value", "95%", "interval"]
    assert lines[1].split() == ["accuracy", "0.7500", f"{low:.4f}", "to", f"{high:.4f}"]
    assert lines[-1].startswith("answered accuracy")


def test_rows_without_a_mistake_are_said_to_be_no_proof() -> None:
    perfect = evaluation.figures(TRUTH, answers([0, 1, 1, 2], [False] * 4), NAMES)
    perfect = uncertain(perfect, [0, 1, 1, 2], [False] * 4)
    told = printed.summary(perfect).split("\n")[-1]
    assert told == (
        "All of 4 rows answered right: resamples of them cannot differ, but up to 75.0% of other "
        "rows may."
    )
    assert printed.too_sure({"rows": 9, "intervals": {"accuracy": [0.1, 0.2]}}) == ""
    assert printed.too_sure({}) == ""
