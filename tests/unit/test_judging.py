"""From the answers of two models to what the gate is asked: which rows count, by which names."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.classifier.bundle import About
from tuning import judging, promotion_card, unseen
from tuning.judging import Contender

DIGEST = "0123"


def about(labels: list[str], digest: str = DIGEST, **more: Any) -> About:
    even = [1 / len(labels)] * len(labels)
    values: dict[str, Any] = {"text_columns": ["text"], "natural_prior": even} | more
    return About(labels=labels, max_tokens=8, training_prior=None, manifest_digest=digest, **values)


def answers(label: str, ours: str, theirs: str, score: float = 0.5, times: int = 1) -> pa.Table:
    row = {
        "label": label,
        "predicted": ours,
        "score": score,
        "abstained": False,
        "predicted_against": theirs,
        "score_against": score,
    }
    return pa.Table.from_pylist([row] * times)


def numbered(*tables: pa.Table) -> pa.Table:
    rows = pa.concat_tables(tables)
    return rows.append_column("text_id", pa.array(np.arange(len(rows), dtype=np.uint64)))


def compared(rows: pa.Table, ours: About, theirs: About) -> dict[str, Any]:
    return judging.compared(rows, ours, Contender("/registry/router/versions/0001", theirs), DIGEST)


def test_both_are_compared_on_the_same_rows_and_calibration_is_the_champions() -> None:
    rows = numbered(
        answers("a", "a", "a", 0.75, times=3), answers("a", "b", "a", 0.75),
        answers("b", "b", "a", 0.25, times=2),
    )  # fmt: skip
    found = compared(rows, about(["a", "b"]), about(["a", "b"]))
    assert found["rows"] == 6
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["mcnemar"] == {"only_this_right": 2, "only_other_right": 1, "p_value": 1.0}
    # Four of them right at 0.75, none of two at 0.25.
    assert found["calibration_error"] == pytest.approx((4 * 0.25 + 2 * 0.25) / 6)
    assert (found["left_out"], found["only_candidate"], found["only_champion"]) == (0, [], [])


def test_rows_of_a_label_that_the_champion_does_not_know_are_no_ground_to_compare() -> None:
    rows = numbered(
        answers("a", "a", "a", times=4), answers("new", "new", "a", times=3),
        answers("b", "new", "b", times=2),
    )  # fmt: skip
    found = compared(rows, about(["a", "b", "new"]), about(["a", "b", "old"]))
    assert (found["rows"], found["left_out"], found["left_out_unknown"]) == (6, 3, 3)
    assert (found["only_candidate"], found["only_champion"]) == (["new"], ["old"])
    assert {row["label"]: row["recall_difference"] for row in found["classes"]} == {
        "a": 0.0, "b": -1.0
    }  # fmt: skip
    # Its answers "new" are errors, and no class of their own in the means.
    assert found["difference"]["macro_f1"]["value"] == pytest.approx(0.5 - 1.0)
    assert judging.left_out_in_words(found) == (
        "Left out of the comparison: 0 that the champion was trained on (it was trained on the "
        "same data) and 3 whose label the champion does not know."
    )


def test_a_label_that_was_renamed_since_is_the_same_label() -> None:
    ours = about(["network", "post"], data={"labels_map": {"mail": "post", "closed": ""}})
    rows = numbered(answers("post", "post", "mail", times=3), answers("network", "post", "closed"))
    found = compared(rows, ours, about(["closed", "mail", "network"]))
    assert found["rows"] == 4
    assert found["accuracy"] == 0.75
    assert (found["only_candidate"], found["only_champion"]) == ([], ["closed"])


def test_rows_that_the_champion_was_trained_on_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = numbered(
        answers("a", "a", "b", times=5), answers("b", "b", "b", times=3), answers("new", "a", "b")
    )

    def first_six(ids: Any, labels: Any, **known: Any) -> tuple[Any, str]:
        assert labels == rows["label"].to_pylist()
        assert known["renamed"] == {"x": "a"}
        return ids < 6, "by its dreams"

    monkeypatch.setattr(unseen, "trained_on", first_six)
    ours = about(["a", "b", "new"], data={"labels_map": {"x": "a"}})
    found = compared(rows, ours, about(["a", "b"], digest="4567"))
    assert (found["rows"], found["left_out"]) == (2, 7)
    assert (found["left_out_seen"], found["left_out_unknown"]) == (6, 1)
    assert found["absent_labels"] == ["a"]
    assert "6 that the champion was trained on (by its dreams) and 1" in (
        judging.left_out_in_words(found)
    )


def test_no_row_at_all_can_be_compared_without_a_fault() -> None:
    rows = numbered(answers("a", "a", "b", times=3))
    found = compared(rows, about(["a", "c"]), about(["b", "d"]))
    assert (found["rows"], found["left_out"], found["classes"]) == (0, 3, [])


def test_the_rarest_classes_are_those_of_the_candidates_data() -> None:
    labels = ["a", "b", "c", "d"]
    ours = about(labels, natural_prior=[0.6, 0.3, 0.05, 0.05])
    rows = numbered(*(answers(label, label, label) for label in labels))
    assert compared(rows, ours, about(["a", "b", "c"]))["rare_labels"] == ["c"]


def test_the_baseline_is_the_label_that_most_training_rows_have() -> None:
    ours = about(["a", "b"], natural_prior=[0.3, 0.7])
    rows = numbered(answers("a", "a", "b", times=6), answers("b", "b", "b", times=4))
    found = judging.alone(rows, ours)
    assert (found["rows"], found["accuracy"]) == (10, 1.0)
    assert found["baseline"]["accuracy"] == 0.4


# What is to be known beside the verdict.


def test_a_warning_comes_with_the_eleventh_use_of_the_same_test_rows() -> None:
    ours = Contender("/b", about(["a"]))
    assert promotion_card.warnings(ours, None, 10) == ()
    (told,) = promotion_card.warnings(ours, None, 11)
    assert "have been used 11 times" in told


def test_a_champion_that_reads_other_columns_is_told() -> None:
    ours = Contender("/b", about(["a"], text_columns=["title", "body"]))
    theirs = Contender("/c", about(["a"], text_columns=["title"]))
    (told,) = promotion_card.warnings(ours, theirs, 1)
    assert "was trained on title and reads title, body here" in told
