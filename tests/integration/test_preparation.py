"""Prepared data: the contract's folder, and what bad input gets. On one local Ray."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.errors import DataError, StorageError
from jobs.preparer import Prepare, prepare
from tests.integration.conftest import read_rows, write_tickets

Rows = list[dict[str, object]]


def sides(folder: Path) -> dict[str, set[tuple[object, object]]]:
    return {
        side: {(row["text"], row["label"]) for row in read_rows(folder / side)}
        for side in ("train", "validation", "test")
    }


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def test_the_folder_holds_what_the_contract_names(tmp_path: Path, tickets: Rows) -> None:
    source = write_tickets(tmp_path / "source", tickets)
    out = tmp_path / "prepared"
    result = prepare(Prepare(source=str(source), output=str(out), columns={"id": "id"}))
    assert result["rows"] == 48
    assert json.loads((out / "labels.json").read_text()) == ["mail", "network", "printing"]
    schema = pq.read_schema(next((out / "train").glob("*.parquet")))
    assert schema.names == ["text", "label", "text_id", "id"]
    assert str(schema.field("text_id").type) == "uint64"
    found = manifest(out)
    assert found["labels"]["printing"]["train"]["rows"] == 6
    assert found["labels"]["printing"]["validation"]["texts"] == 1
    assert found["labels"]["printing"]["test"]["texts"] == 1
    assert found["sources"][0]["bytes"] > 0
    assert (
        "<script" in (out / "report.html").read_text()
        or "<svg" in (out / "report.html").read_text()
    )
    everywhere = [row for side in sides(out).values() for row in side]
    assert sorted(everywhere) == sorted((t["text"], t["label"]) for t in tickets)


def test_the_split_does_not_depend_on_files_or_their_order(tmp_path: Path, tickets: Rows) -> None:
    shuffled = list(tickets)
    random.Random(3).shuffle(shuffled)
    one = write_tickets(tmp_path / "one", tickets)
    many = write_tickets(tmp_path / "many", shuffled, files=5)
    for source in (one, many):
        prepare(Prepare(source=str(source), output=str(tmp_path / f"{source.name}-out")))
    assert sides(tmp_path / "one-out") == sides(tmp_path / "many-out")
    assert manifest(tmp_path / "one-out")["cuts"] == manifest(tmp_path / "many-out")["cuts"]


def test_another_seed_splits_otherwise(tmp_path: Path, tickets: Rows) -> None:
    source = write_tickets(tmp_path / "source", tickets)
    for seed in (0, 1):
        prepare(
            Prepare(source=str(source), output=str(tmp_path / f"out{seed}"), split={"seed": seed})
        )
    assert sides(tmp_path / "out0") != sides(tmp_path / "out1")


def test_one_text_never_stands_on_two_sides(tmp_path: Path, tickets: Rows) -> None:
    spaced = [{**t, "text": f"  {str(t['text']).replace(' ', '   ')} "} for t in tickets]
    repeated = [{"id": f"r{k}", "text": "the same text", "label": "mail"} for k in range(300)]
    source = write_tickets(tmp_path / "source", [*tickets, *spaced, *repeated], files=3)
    out = tmp_path / "out"
    result = prepare(Prepare(source=str(source), output=str(out)))
    found = {
        side: {str(text).split() and " ".join(str(text).split()) for text, _ in rows}
        for side, rows in sides(out).items()
    }
    assert not found["train"] & found["validation"]
    assert not found["train"] & found["test"]
    assert not found["validation"] & found["test"]
    assert result["duplicates"] == 48 + 299


def test_texts_of_the_test_source_leave_training_as_leaks(tmp_path: Path, tickets: Rows) -> None:
    source = write_tickets(tmp_path / "source", tickets)
    given = write_tickets(tmp_path / "given", tickets[:5] + tickets[24:27])
    out = tmp_path / "out"
    result = prepare(Prepare(source=str(source), output=str(out), test_source=str(given)))
    found = sides(out)
    assert found["test"] == {(t["text"], t["label"]) for t in tickets[:5] + tickets[24:27]}
    assert not found["test"] & (found["train"] | found["validation"])
    rejected = read_rows(out / "rejected")
    assert [row["reason"] for row in rejected] == ["leak"] * 8
    assert result["rejected"] == 8


def test_rows_that_cannot_be_used_are_put_aside_with_the_reason(
    tmp_path: Path, tickets: Rows
) -> None:
    bad: Rows = [
        {"id": "a", "text": None, "label": "mail"},
        {"id": "b", "text": " \n ", "label": "mail"},
        {"id": "c", "text": "no label", "label": None},
        {"id": "d", "text": "blank label", "label": ""},
    ]
    source = write_tickets(tmp_path / "source", [*tickets, *bad])
    out = tmp_path / "out"
    prepare(Prepare(source=str(source), output=str(out)))
    assert manifest(out)["rejected"] == {
        "empty label": 1,
        "empty text": 1,
        "null label": 1,
        "null text": 1,
    }
    rejected = read_rows(out / "rejected")
    assert {row["reason"] for row in rejected} == set(manifest(out)["rejected"])
    assert all(str(row["source_file"]).endswith("part-0.parquet") for row in rejected)


def test_a_text_under_several_labels_follows_the_most_frequent(
    tmp_path: Path, tickets: Rows
) -> None:
    torn: Rows = [
        {"id": f"x{k}", "text": "torn between teams", "label": label}
        for k, label in enumerate(["network", "mail", "network"])
    ]
    source = write_tickets(tmp_path / "source", [*tickets, *torn])
    out = tmp_path / "out"
    result = prepare(Prepare(source=str(source), output=str(out)))
    assert result["conflicts"] == 1
    rows = read_rows(out / "conflicts")
    assert {(row["label"], row["rows"]) for row in rows} == {("mail", 1), ("network", 2)}
    holding = [
        side
        for side, found in sides(out).items()
        if any(text == "torn between teams" for text, _ in found)
    ]
    assert len(holding) == 1
    assert manifest(out)["labels"]["network"][holding[0]]["texts"] > 0


def test_several_text_columns_are_joined_by_a_newline(tmp_path: Path) -> None:
    rows: Rows = [
        {"title": f"title {k}", "body": None if k == 0 else f"body {k}", "team": k % 2}
        for k in range(20)
    ]
    source = write_tickets(tmp_path / "source", rows)
    out = tmp_path / "out"
    columns = {"text": ("title", "body"), "label": "team"}
    prepare(Prepare(source=str(source), output=str(out), columns=columns))
    texts = {text for found in sides(out).values() for text, _ in found}
    assert "title 3\nbody 3" in texts
    assert "title 0" in texts
    assert json.loads((out / "labels.json").read_text()) == ["0", "1"]


@pytest.mark.parametrize(
    ("rows", "columns", "sentence"),
    [
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "x"}], {}, "one label only, 'x'"),
        ([{"text": None, "label": "x"}], {}, "no usable row (1 × null text)"),
        ([{"text": "a", "label": "x"}], {"label": "team"}, "no column 'team'. It has: text, label"),
        ([{"text": "a", "label": "x"}], {"split": "fold"}, "no column 'fold'. It has: text, label"),
        ([{"text": "a", "label": 0.5}], {}, "the column 'label' holds double"),
    ],
)
def test_data_that_cannot_train_is_refused_and_nothing_is_written(
    tmp_path: Path, rows: Rows, columns: dict[str, str], sentence: str
) -> None:
    from cluster.errors import user_error_in

    source = write_tickets(tmp_path / "source", rows)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what Ray wraps is unwrapped below
        prepare(Prepare(source=str(source), output=str(tmp_path / "out"), columns=columns))
    known = user_error_in(caught.value)
    assert isinstance(known, DataError)
    assert sentence in str(known)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_test_label_that_training_never_saw_is_named(tmp_path: Path, tickets: Rows) -> None:
    source = write_tickets(tmp_path / "source", tickets)
    given = write_tickets(tmp_path / "given", [{"id": "1", "text": "new", "label": "legal"}])
    with pytest.raises(DataError, match="never seen: 'legal'"):
        prepare(Prepare(source=str(source), output=str(tmp_path / "out"), test_source=str(given)))
    assert not (tmp_path / "out").exists()


def test_a_missing_empty_or_foreign_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x.parquet").write_text("not parquet")
    for name, sentence in (
        ("missing", "does not exist"),
        ("empty", "holds no .parquet file"),
        ("foreign", "x.parquet is not a readable Parquet file"),
    ):
        with pytest.raises(DataError, match=sentence):
            prepare(Prepare(source=str(tmp_path / name), output=str(tmp_path / "out")))


def test_a_used_output_is_refused(tmp_path: Path, tickets: Rows) -> None:
    source = write_tickets(tmp_path / "source", tickets)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("keep me")
    with pytest.raises(StorageError, match="already holds files"):
        prepare(Prepare(source=str(source), output=str(tmp_path / "out")))
    assert (tmp_path / "out" / "precious.txt").read_text() == "keep me"


def test_a_file_without_a_column_is_refused_and_other_columns_do_not_matter(
    tmp_path: Path, tickets: Rows
) -> None:
    source = write_tickets(tmp_path / "source", [{**t, "path": "p"} for t in tickets], files=2)
    whole = pq.read_table(source / "part-0.parquet")
    pq.write_table(whole.append_column("more", whole["text"]), source / "part-0.parquet")
    prepare(Prepare(source=str(source), output=str(tmp_path / "fine")))
    assert manifest(tmp_path / "fine")["rows"] == len(tickets)
    pq.write_table(whole.drop_columns(["label"]), source / "z.parquet")
    with pytest.raises(DataError, match=r"z\.parquet has no column 'label'\. It has: id, text"):
        prepare(Prepare(source=str(source), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
