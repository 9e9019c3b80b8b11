"""Prepared data in depth: exact against SQL, growth, given splits, conflicts, what people have."""

import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import publishing, storage
from cluster.errors import DataError, SettingError, StorageError, user_error_in
from jobs import preparation, sources
from jobs.classifier.text import normalise
from jobs.preparer import Prepare, prepare
from tests.integration import s3
from tests.integration.conftest import S3_PORT, read_rows, write_tickets
from tests.unit import oracle

Rows = list[dict[str, object]]
SIDES = ("train", "validation", "test")


def made(source: Path | str, out: Path | str, **more: Any) -> dict[str, Any]:
    """The manifest of newly prepared data."""
    prepare(Prepare(source=str(source), output=str(out), **more))
    found: dict[str, Any] = storage.read_json(f"{out}/manifest.json")
    return found


def where(out: Path) -> dict[str, str]:
    """Normalised text → split; an error if one stands in two."""
    found: dict[str, str] = {}
    for side in SIDES:
        for row in read_rows(out / side):
            assert found.setdefault(normalise(str(row["text"])), side) == side
    return found


def refused(match: str, source: Path, out: Path, **more: Any) -> None:
    """Expects a mistake of the user's, and nothing left behind."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what Ray wraps is unwrapped below
        made(source, out, **more)
    known = user_error_in(caught.value)
    assert known is not None, caught.value
    assert match in str(known)
    assert not list(out.parent.glob(f"*{out.name}*"))


def zipf(rows: int, classes: int, seed: int = 0) -> Rows:
    """Rows of unequal classes with repeated, respelled and conflicting texts."""
    rng = random.Random(seed)
    labels = [f"Tëam {k} 係" for k in range(classes)]
    weights = [1 / (k + 1) for k in range(classes)]
    made: Rows = []
    for k in range(rows):
        text, label = f"ticket {k} é", rng.choices(labels, weights)[0]
        if made and rng.random() < 0.2:
            text = str(rng.choice(made)["text"]).replace(" ", "  ").replace("é", "e\u0301")
        made.append({"text": text, "label": label})
    return made


def test_the_split_is_the_one_that_sql_finds_whatever_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = zipf(1500, 40)
    source = write_tickets(tmp_path / "source", rows)
    expected = oracle.sides(
        [(str(r["text"]), str(r["label"])) for r in rows], validation=0.15, test=0.2, seed=3
    )
    split = {"validation": 0.15, "test": 0.2, "seed": 3}
    first = made(source, tmp_path / "one", split=split)
    assert where(tmp_path / "one") == expected
    # Now in another order, in many files and small row groups, chunks and ranges.
    random.Random(1).shuffle(rows)
    many = write_tickets(tmp_path / "many", rows, files=4)
    for path in many.iterdir():
        pq.write_table(pq.read_table(path), path, row_group_size=37)
    monkeypatch.setattr(sources, "CHUNK_ROWS", 100)
    monkeypatch.setattr(preparation, "RANGE_KEYS", 300)
    second = made(many, tmp_path / "two", split=split)
    assert where(tmp_path / "two") == expected
    for key in ("labels", "cuts", "rejected", "duplicates", "conflicts", "rows"):
        assert first[key] == second[key], key
    assert Counter(map(str, read_rows(tmp_path / "one" / "conflicts"))) == Counter(
        map(str, read_rows(tmp_path / "two" / "conflicts"))
    )


def test_three_thousand_labels_and_one_text_ten_thousand_times(tmp_path: Path) -> None:
    rows: Rows = [{"text": f"t{k}", "label": k % 3000} for k in range(9000)]
    rows += [{"text": "again", "label": 7}] * 10_000
    source = write_tickets(tmp_path / "source", rows)
    found = made(source, tmp_path / "out")
    assert len(found["labels"]) == 3000
    texts = Counter(
        tuple(label[side]["texts"] for side in SIDES) for label in found["labels"].values()
    )
    assert texts == {(1, 1, 1): 2999, (2, 1, 1): 1}
    assert found["duplicates"] == 9999
    side = where(tmp_path / "out")["again"]
    assert found["labels"]["7"][side]["rows"] in (10_000, 10_001)


def test_no_text_changes_sides_when_data_grows(tmp_path: Path) -> None:
    rows = zipf(600, 12)
    # Two texts of a label: too few for a test text. Later there are many.
    small: Rows = [{"text": f"small {k}", "label": "small"} for k in range(2)]
    made(write_tickets(tmp_path / "before", rows + small), tmp_path / "one", split={"seed": 5})
    # New rows turn the majority of old texts as well.
    turned: Rows = [{**row, "label": "Tëam 0 係"} for row in rows[:40] for _ in range(5)]
    new: Rows = [{"text": f"new {k}", "label": f"Tëam {k % 3} 係"} for k in range(900)]
    new += [{"text": f"small {k}", "label": "small"} for k in range(2, 100)]
    new += [{"text": f"brand new {k}", "label": "brand new"} for k in range(100)]
    grown = write_tickets(tmp_path / "after", rows + small + turned + new)
    like = {"like": str(tmp_path / "one")}
    found = made(grown, tmp_path / "two", split=like)
    before, after = where(tmp_path / "one"), where(tmp_path / "two")
    assert {text: after[text] for text in before} == before
    assert {after["small 0"], after["small 1"]} == {"train"}
    assert [found["labels"]["small"][side]["texts"] for side in SIDES] == [80, 10, 10]
    assert [found["labels"]["brand new"][side]["texts"] for side in SIDES] == [80, 10, 10]
    old = json.loads((tmp_path / "one" / "manifest.json").read_text())["cuts"]
    assert {name: found["cuts"][name] for name in old if name != "small"} == {
        name: cut for name, cut in old.items() if name != "small"
    }
    assert found["seed"] == 5
    # A label that is away for a while keeps its cuts.
    made(write_tickets(tmp_path / "less", new), tmp_path / "three", split=like)
    assert json.loads((tmp_path / "three" / "manifest.json").read_text())["cuts"].keys() >= (
        old.keys()
    )
    with pytest.raises(SettingError, match=r"seed is 1, but the data in .* was split with 5"):
        made(grown, tmp_path / "four", split=like | {"seed": 1})
    with pytest.raises(SettingError, match=r"test is 0\.2, but the data in .* was split with 0\.1"):
        made(grown, tmp_path / "four", split=like | {"test": 0.2})
    with pytest.raises(DataError, match="with no split given, and here test rows given"):
        made(grown, tmp_path / "four", split=like, test_source=str(tmp_path / "less"))
    settings = json.loads((tmp_path / "two" / "manifest.json").read_text())["settings"]
    assert settings["split.seed"] == 5


def test_a_label_whose_new_texts_all_fall_into_the_test_is_put_aside(tmp_path: Path) -> None:
    old: Rows = [{"text": f"{label} {k}", "label": label} for label in "abc" for k in range(50)]
    made(write_tickets(tmp_path / "old", old), tmp_path / "one")
    tested = [text for text, side in where(tmp_path / "one").items() if side == "test"]
    kept = [row for row in old if row["label"] != "c" or row["text"] in tested]
    found = made(
        write_tickets(tmp_path / "new", kept), tmp_path / "two", split={"like": f"{tmp_path}/one"}
    )
    assert list(found["labels"]) == ["a", "b"]
    assert found["rejected"] == {"label without a text to train on": 5}
    assert found["dropped_labels"] == ["c"]
    # It keeps its cuts for the day when it has texts to train on again.
    assert "c" in found["cuts"]


def test_a_label_that_was_rare_for_a_while_has_its_old_cuts_again(tmp_path: Path) -> None:
    rows: Rows = [{"text": f"{label} {k}", "label": label} for label in "ab" for k in range(40)]
    first = made(write_tickets(tmp_path / "r1", rows), tmp_path / "one")
    few = [row for row in rows if row["label"] == "a" or str(row["text"])[2:] in "12345"]
    like = {"like": f"{tmp_path}/one", "min_rows": 10}
    made(write_tickets(tmp_path / "r2", few), tmp_path / "two", split=like)
    like = {"like": f"{tmp_path}/two", "min_rows": 10}
    third = made(write_tickets(tmp_path / "r3", rows), tmp_path / "three", split=like)
    assert third["cuts"] == first["cuts"]


def test_labels_with_few_texts_follow_the_rule(tmp_path: Path, tickets: Rows) -> None:
    rare: Rows = [{"id": f"r{k}", "text": f"rare {k % 4}", "label": "rare"} for k in range(9)]
    source = write_tickets(tmp_path / "source", tickets + rare)
    kept = made(source, tmp_path / "keep", split={"min_rows": 5})
    assert kept["labels"]["rare"]["train"] == {"rows": 9, "texts": 4}
    assert kept["labels"]["rare"]["test"]["rows"] == 0
    assert kept["labels"]["printing"]["test"]["rows"] == 1
    assert kept["rare"] == {"rule": "keep-in-train", "labels": ["rare"]}
    dropped = made(source, tmp_path / "drop", split={"min_rows": 5, "rare": "drop"})
    assert "rare" not in dropped["labels"]
    assert dropped["rejected"] == {"rare label": 9}
    assert dropped["dropped_labels"] == ["rare"]
    refused(
        "1 label has ('rare') fewer than split.min_rows = 5 distinct texts",
        source,
        tmp_path / "error",
        split={"min_rows": 5, "rare": "error"},
    )


@pytest.fixture
def torn(tmp_path: Path, tickets: Rows) -> Path:
    """Tickets, and one text three times: twice under network, once under mail."""
    rows: Rows = [
        {"id": f"x{k}", "text": "torn " * (k % 2 + 1), "label": label}
        for k, label in enumerate(["network", "mail", "network"])
    ]
    rows += [{"id": "y", "text": "torn", "label": "legal"}]
    return write_tickets(
        tmp_path / "torn", tickets + [{**row, "text": "torn  apart"} for row in rows]
    )


def test_conflicting_labels_are_kept_majority_labelled_or_dropped(
    tmp_path: Path, torn: Path
) -> None:
    def labels(out: Path) -> dict[str, int]:
        rows = [row for side in SIDES for row in read_rows(out / side)]
        return Counter(str(r["label"]) for r in rows if r["text"] == "torn  apart")

    expected = [("legal", 1), ("mail", 1), ("network", 2)]
    kept = made(torn, tmp_path / "keep")
    # Nothing could teach a label that no text counts under.
    assert labels(tmp_path / "keep") == {"network": 2, "mail": 1}
    assert kept["rejected"] == {"label without a text of its own": 1}
    assert list(kept["labels"]) == ["mail", "network", "printing"]
    most = made(torn, tmp_path / "majority", split={"conflicts": "majority"})
    assert labels(tmp_path / "majority") == {"network": 4}
    assert most["rejected"] == {}
    dropped = made(torn, tmp_path / "drop", split={"conflicts": "drop"})
    assert labels(tmp_path / "drop") == {}
    assert dropped["rejected"] == {"conflicting labels": 4}
    assert sum(dropped["labels"]["network"][side]["texts"] for side in SIDES) == 16
    for name, found in (("keep", kept), ("majority", most), ("drop", dropped)):
        assert found["conflicts"] == 1
        rows = read_rows(tmp_path / name / "conflicts")
        assert [(row["label"], row["rows"]) for row in rows] == expected
        assert {row["text"] for row in rows} == {"torn  apart"}


def test_a_split_column_is_honoured_and_its_leaks_leave(tmp_path: Path) -> None:
    rows: Rows = [
        {"text": f"{side} {k}", "label": "ab"[k % 2], "split": side}
        for side, count in (("train", 60), ("dev", 10), ("TEST", 10))
        for k in range(count)
    ]
    rows += [{"text": "dev  3", "label": "b", "split": "train"}] * 3
    rows += [{"text": "dev 4", "label": "a", "split": "test"}]
    source = write_tickets(tmp_path / "source", rows)
    found = made(source, tmp_path / "out")
    assert found["given_splits"] == ["validation", "test"]
    assert found["rejected"] == {"leak": 4}
    side_of = where(tmp_path / "out")
    assert Counter(side_of.values()) == {"train": 60, "validation": 9, "test": 11}
    assert side_of["dev 3"] == "validation"
    assert side_of["dev 4"] == "test"
    # Where the column names no validation rows, they are cut from those for training.
    some = write_tickets(tmp_path / "some", [row for row in rows if row["split"] != "dev"])
    made(some, tmp_path / "cut", split={"validation": 0.2})
    assert Counter(where(tmp_path / "cut").values()) == {"train": 49, "validation": 12, "test": 11}
    # It is a column like any other where nobody wants it.
    made(source, tmp_path / "without", columns={"split": None})
    assert len(where(tmp_path / "without")) == 80
    refused(
        "holds 'holdout'; it may hold train, validation and test",
        write_tickets(tmp_path / "odd", [*rows, {**rows[0], "split": "holdout"}]),
        tmp_path / "odd-out",
    )
    refused(
        "--test-source gives another",
        source,
        tmp_path / "both",
        test_source=str(write_tickets(tmp_path / "given", rows[:2])),
    )
    part = write_tickets(tmp_path / "part", rows)
    write_tickets(part / "more", [{"text": "no split", "label": "a"}])
    refused("some files have the column 'split'", part, tmp_path / "part-out")
    late: Rows = [{"text": "late", "label": "c", "split": "test"}]
    refused(
        "labels that training has never seen: 'c'",
        write_tickets(tmp_path / "late", rows + late),
        tmp_path / "late-out",
    )


def test_renamed_merged_and_closed_teams(tmp_path: Path, tickets: Rows) -> None:
    source = write_tickets(tmp_path / "source", tickets)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"mail": "messaging", "network": "messaging", "gone": "x"}))
    more: Rows = [{"id": "z", "text": f"z{k}", "label": "legal"} for k in range(5)]
    write_tickets(tmp_path / "source" / "more", more)
    found = made(source, tmp_path / "merged", labels={"map": str(names)})
    assert list(found["labels"]) == ["legal", "messaging", "printing"]
    assert found["labels_map"]["network"] == "messaging"
    names.write_text("old,new\nlegal,\n")
    found = made(source, tmp_path / "closed", labels={"map": str(names)})
    assert list(found["labels"]) == ["mail", "network", "printing"]
    assert found["rejected"] == {"dropped label": 5}
    assert {row["label"] for row in read_rows(tmp_path / "closed" / "rejected")} == {"legal"}
    # Cuts of earlier data are found again under the new name.
    made(source, tmp_path / "earlier")
    names.write_text('{"mail": "post"}')
    later = made(
        source,
        tmp_path / "later",
        labels={"map": str(names)},
        split={"like": str(tmp_path / "earlier")},
    )
    before = json.loads((tmp_path / "earlier" / "manifest.json").read_text())["cuts"]
    assert later["cuts"]["post"] == before["mail"]
    assert where(tmp_path / "later") == where(tmp_path / "earlier")


def test_files_that_cannot_be_read_end_the_work_or_are_counted(
    tmp_path: Path, tickets: Rows
) -> None:
    source = write_tickets(tmp_path / "source", tickets, files=2)
    long = [{"id": f"L{k}", "text": f"long text {k} " * 20, "label": "mail"} for k in range(4000)]
    broken = source / "broken.parquet"
    pq.write_table(pa.Table.from_pylist(long), broken, row_group_size=500, compression="zstd")
    data = bytearray(broken.read_bytes())
    # Whole at both ends, so that only reading it to its end shows it.
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    broken.write_bytes(bytes(data))
    (source / "cut.parquet").write_bytes((source / "part-0.parquet").read_bytes()[:-9])
    (source / "foreign.parquet").write_text("not parquet")
    skipped = made(source, tmp_path / "skip", on_bad_file="skip")
    bad = {Path(item["path"]).name: item["error"] for item in skipped["bad_files"]}
    assert sorted(bad) == ["broken.parquet", "cut.parquet", "foreign.parquet"]
    assert bad["broken.parquet"].startswith("cannot be read to its end")
    assert skipped["rows"] == len(tickets)
    assert [Path(item["path"]).name for item in skipped["sources"]] == [
        "part-0.parquet",
        "part-1.parquet",
    ]
    refused("cut.parquet is not a readable Parquet file", source, tmp_path / "fail")
    for name in ("cut.parquet", "foreign.parquet"):
        (source / name).unlink()
    refused("broken.parquet cannot be read to its end", source, tmp_path / "fail")


def test_a_column_that_cannot_be_understood_makes_a_file_bad(tmp_path: Path, tickets: Rows) -> None:
    source = write_tickets(tmp_path / "source", tickets, files=3)
    plain = pq.read_table(source / "part-2.parquet")
    latin = pa.array(["caf\u00e9".encode("latin-1")] * plain.num_rows, pa.binary())
    wrong = pa.Array.from_buffers(pa.string(), len(latin), latin.buffers())
    plain = plain.set_column(0, "id", pa.array(range(plain.num_rows)))
    pq.write_table(plain.set_column(1, "text", wrong), source / "x-latin.parquet")
    lists = pa.array([["a"]] * plain.num_rows)
    pq.write_table(plain.set_column(1, "text", lists), source / "x-lists.parquet")
    other = pa.array([f"{k}x" for k in range(plain.num_rows)])
    for name in ("part-0", "part-1", "part-2"):
        table = pq.read_table(source / f"{name}.parquet")
        ids = pa.array(range(table.num_rows))
        pq.write_table(table.set_column(0, "id", ids), source / f"{name}.parquet")
    pq.write_table(plain.set_column(0, "id", other), source / "words.parquet")
    pq.write_table(plain.drop_columns(["id"]), source / "without.parquet")
    found = made(source, tmp_path / "out", on_bad_file="skip", columns={"id": "id"})
    assert [Path(item["path"]).name for item in found["bad_files"]] == [
        "without.parquet",
        "words.parquet",
        "x-latin.parquet",
        "x-lists.parquet",
    ]
    assert found["rows"] == len(tickets)
    refused("x-latin.parquet holds a column that cannot be read", source, tmp_path / "fail")


def test_csv_json_lines_folders_and_globs_give_the_same_split(
    tmp_path: Path, tickets: Rows
) -> None:
    parquet = write_tickets(tmp_path / "parquet", tickets)
    table = pq.read_table(parquet)
    table.to_pandas().to_csv(tmp_path / "tickets.csv", index=False)
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "a.jsonl").write_text("\n".join(map(json.dumps, tickets)))
    pq.write_to_dataset(table, tmp_path / "folders", partition_cols=["label"])
    coded = table.set_column(2, "label", table["label"].dictionary_encode())
    write = tmp_path / "coded" / "2026"
    write.mkdir(parents=True)
    pq.write_table(coded, write / "a.parquet")
    made(parquet, tmp_path / "expected", columns={"id": "id"})
    for number, source in enumerate(
        ("tickets.csv", "lines", "folders", "coded", "coded/20*/*.parquet")
    ):
        out = tmp_path / f"out{number}"
        made(tmp_path / source, out, columns={"id": "id"})
        assert where(out) == where(tmp_path / "expected"), source
        assert {r["id"] for s in SIDES for r in read_rows(out / s)} == {t["id"] for t in tickets}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3.store(S3_PORT) as uri:
        yield uri


def test_object_storage_holds_source_and_result(tmp_path: Path, tickets: Rows, bucket: str) -> None:
    local = write_tickets(tmp_path / "local", [*tickets, {**tickets[0], "label": "network"}])
    publishing.upload(local, f"{bucket}/in", "part-0.parquet")
    made(local, tmp_path / "expected")
    found = made(f"{bucket}/in/*.parquet", f"{bucket}/out")
    assert found["conflicts"] == 1
    storage.download(f"{bucket}/out", tmp_path / "copy")
    assert where(tmp_path / "copy") == where(tmp_path / "expected")
    assert not storage.exists(f"{bucket}/out/.scratch")
    assert not storage.exists(f"{bucket}/out/{publishing.SIGN}")
    with pytest.raises(StorageError, match="already holds files"):
        made(f"{bucket}/in", f"{bucket}/out")
    # What fails half-way leaves nothing.
    with pytest.raises(DataError):
        made(f"{bucket}/in", f"{bucket}/half", split={"min_rows": 99, "rare": "error"})
    assert not storage.exists(f"{bucket}/half/manifest.json")
    assert storage.list_files(f"{bucket}/half") == []


class _Harm:
    """What a harmful file would run when its metadata is unpickled."""

    def __init__(self, witness: str) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.witness, "w"))


def test_metadata_of_a_parquet_file_is_never_unpickled(tmp_path: Path, tickets: Rows) -> None:
    """CVE-2026-41486: Ray's tensor types may carry a pickle in the schema of a file."""
    witness = tmp_path / "witness"
    source = tmp_path / "source"
    source.mkdir()
    count = len(tickets)
    storage_type = pa.list_(pa.int8())
    fields = [
        pa.field(
            f"tensor{number}",
            storage_type,
            metadata={
                "ARROW:extension:name": name,
                "ARROW:extension:metadata": pickle.dumps(_Harm(str(witness))),
            },
        )
        for number, name in enumerate(
            (
                "ray.data.arrow_tensor",
                "ray.data.arrow_tensor_v2",
                "ray.data.arrow_variable_shaped_tensor",
            )
        )
    ]
    plain = pa.Table.from_pylist(tickets)
    columns = [pa.array([[1]] * count, storage_type)] * len(fields)
    schema = pa.schema([*plain.schema, *fields])
    table = pa.Table.from_arrays([*plain.columns, *columns], schema=schema)
    pq.write_table(table, source / "a.parquet")
    refused("pickled", source, tmp_path / "out")
    assert not witness.exists()
    # The file is as harmful as it looks where loading is switched on.
    read = "import sys, ray.data, pyarrow.parquet as pq; pq.read_schema(sys.argv[1])"
    loading = os.environ | {"RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA": "1"}
    subprocess.run(
        [sys.executable, "-c", read, source / "a.parquet"],
        env=loading,
        capture_output=True,
        check=False,
    )
    assert witness.exists()
