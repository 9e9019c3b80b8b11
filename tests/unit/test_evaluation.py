"""The figures of the contract."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score

from jobs import evaluate, evaluation
from jobs.classifier import bundle
from jobs.classifier.predictor import Predictions
from jobs.settings import Columns

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


def test_old_names_of_labels_are_read_as_training_read_them() -> None:
    about = bundle.About(
        labels=["a", "post"],
        max_tokens=8,
        text_columns=["text"],
        training_prior=None,
        natural_prior=[0.5, 0.5],
        # Someone swapped a and b: rows under today's names must not be swapped back.
        data={"labels_map": {"mail": "post", "closed": "", "a": "b", "b": "a"}},
    )
    batch = pa.table(
        {
            "text": ["1", "2", "3", "4", "5"],
            "label": ["mail", "closed", "a", "b", "post"],
            "predicted": ["post"] * 5,
            "score": pa.array([0.5] * 5, pa.float32()),
            "abstained": [False] * 5,
        }
    )
    judged = evaluate._contract(batch, Columns(), evaluate._renamed(about))
    assert judged.column_names == ["text", "label", "predicted", "score", "abstained"]
    assert judged["text"].to_pylist() == ["1", "3", "4", "5"]
    assert judged["label"].to_pylist() == ["post", "a", "a", "post"]
