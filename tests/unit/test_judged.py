"""From answers to figures: which rows are judged, and by which names two bundles are compared."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import DataError
from jobs import answers, baselines, judged
from jobs.classifier import bundle
from jobs.data_settings import Columns
from jobs.sources import open_source


def about(labels: list[str], **values: Any) -> bundle.About:
    even = [1 / len(labels)] * len(labels)
    known = {"text_columns": ["text"], "training_prior": None, "natural_prior": even} | values
    return bundle.About(labels=labels, max_tokens=8, **known)


# Someone swapped a and b: rows under today's names must not be swapped back.
RENAMED = about(
    ["a", "post"], data={"labels_map": {"mail": "post", "closed": "", "a": "b", "b": "a"}}
)


def batch(**columns: list[Any]) -> pa.Table:
    rows = len(next(iter(columns.values())))
    values = {
        "text": [str(k) for k in range(rows)],
        "predicted": ["post"] * rows,
        "score": pa.array([0.5] * rows, pa.float32()),
        "abstained": [False] * rows,
    }
    return pa.table(values | columns)


def test_old_names_of_labels_are_read_as_training_read_them() -> None:
    rows = batch(label=["mail", "closed", "a", "b", "post"])
    found = judged.contract(rows, Columns(), judged.renames(RENAMED))
    assert found.column_names == ["text", "label", "predicted", "score", "abstained"]
    assert found["text"].to_pylist() == ["0", "2", "3", "4"]
    assert found["label"].to_pylist() == ["post", "a", "a", "post"]


def test_the_answers_of_an_older_bundle_are_read_under_todays_names() -> None:
    theirs = ["mail", "closed", "a", None, "post"]
    rows = batch(label=["post", "post", "a", "a", None], predicted_against=theirs)
    found = judged.contract(rows, Columns(), judged.renames(RENAMED))
    assert found["predicted_against"].to_pylist() == ["post", "closed", "a", None]


def compared(other: bundle.About, **columns: list[Any]) -> dict[str, Any]:
    rows = judged.contract(batch(**columns), Columns(), judged.renames(RENAMED))
    return judged.against(rows, RENAMED, answers.Other("/runs/old", other, Columns()))


def test_a_renamed_label_is_known_and_a_new_one_is_an_error_of_the_other() -> None:
    columns = {
        "label": ["post", "post", "a", "a"],
        "predicted": ["post", "a", "a", "a"],
        "predicted_against": ["mail", "closed", "mail", None],
    }
    found = compared(about(["closed", "mail"]), **columns)
    assert (found["bundle"], found["rows"], found["accuracy"]) == ("/runs/old", 4, 0.25)
    assert found["unknown_labels"] == ["a"]
    assert (found["unknown_rows"], found["unanswered_rows"]) == (2, 1)
    assert found["mcnemar"]["only_this_right"] == 2
    assert found["mcnemar"]["only_other_right"] == 0


def test_a_bundle_is_no_better_than_itself() -> None:
    same = ["post", "a", "a", "post"]
    columns = {"label": ["post", "a", "post", "post"], "predicted": same}
    found = compared(RENAMED, **columns, predicted_against=same)
    assert found["unknown_labels"] == []
    assert found["mcnemar"]["p_value"] == 1.0
    assert found["difference"]["macro_f1"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert {row["recall_difference"] for row in found["classes"]} == {0.0}


@pytest.mark.parametrize(
    ("asked", "mine", "its", "expected"),
    [
        (None, ["title", "body"], ["body"], ("body",)),
        (None, ["title"], ["gone"], ("text",)),
        (("title",), ["body"], ["body"], ("title",)),
        (("title",), ["title"], ["gone"], ("title",)),
        (("title",), ["title"], ["body"], ("body",)),
    ],
)
def test_the_other_bundle_reads_its_own_columns_where_they_are_there(
    tmp_path: Path, asked: Any, mine: list[str], its: list[str], expected: tuple[str, ...]
) -> None:
    pq.write_table(
        pa.table({name: ["x"] for name in ("title", "body", "text", "label")}),
        tmp_path / "a.parquet",
    )
    source = open_source(str(tmp_path))
    columns = Columns() if asked is None else Columns(text=asked)
    found = answers.other_columns(
        source,
        columns,
        about(["a"], text_columns=mine),
        about(["a"], text_columns=its),
        key="source",
    )
    assert found.text == expected


def test_another_bundle_whose_texts_are_not_there_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["x"], "label": ["a"]}), tmp_path / "a.parquet")
    one, other = about(["a"], text_columns=["title"]), about(["a"], text_columns=["body"])
    with pytest.raises(DataError, match=r"text columns of the bundle \(body\) nor"):
        answers.other_columns(open_source(str(tmp_path)), Columns(), one, other, key="source")


def test_every_baseline_is_tested_against_the_model_row_by_row(
    tmp_path: Path, tiny_model: Path
) -> None:
    train = {
        "text": ["mail down", "mail error", "my mail", "vpn slow", "vpn down"],
        "label": ["mail"] * 3 + ["vpn"] * 2,
        "text_id": [1, 2, 3, 4, 5],
    }
    (tmp_path / "train").mkdir()
    pq.write_table(pa.table(train), tmp_path / "train" / "0.parquet")
    asked = {"text": ["mail slow", "vpn error"], "label": ["mail", "vpn"], "predicted": ["vpn"] * 2}
    pq.write_table(pa.table(asked), tmp_path / "asked.parquet")
    found = baselines.measure(
        str(tmp_path), ["mail", "vpn"], str(tiny_model), 16, str(tmp_path / "asked.parquet"), 0
    )
    assert len(found) == 3
    assert found["majority"]["mcnemar"] == {
        "only_this_right": 1, "only_other_right": 1, "p_value": 1.0
    }  # fmt: skip
    both_right = found["TF-IDF + logistic regression"]["mcnemar"]
    assert (both_right["only_this_right"], both_right["only_other_right"]) == (0, 1)
