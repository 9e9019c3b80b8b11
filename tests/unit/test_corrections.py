"""Corrections: which one counts, what it does to rows, and what is no correction at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import storage
from cluster.errors import DataError
from jobs import feedback
from jobs.classifier.text import text_ids
from jobs.corrections import newest
from jobs.data_settings import Columns
from jobs.feedback import Settled, open_feedback
from jobs.records import REASONS, Parsed, parse
from tests.unit.memory import STEADY

DAY = "2026-11-25T"


def line(text: object, label: object, at: object = f"{DAY}10:00:00.000Z", **more: object) -> str:
    return json.dumps({"text": text, "label": label, "at": at} | more, ensure_ascii=False)


def write(folder: Path, *objects: Sequence[str], day: str = "2026-11-25") -> Path:
    """Objects in the order of their names, below a folder of a day."""
    (folder / day).mkdir(parents=True, exist_ok=True)
    for number, lines in enumerate(objects):
        text = "".join(f"{entry}\n" for entry in lines)
        (folder / day / f"{number:04d}.jsonl").write_text(text, "utf-8", "surrogatepass")
    return folder


def settled(folder: Path, scratch: Path, **renamed: str) -> Settled:
    return feedback.read(open_feedback(str(folder)), renamed, str(scratch / "out"), str(scratch))


def labels(found: Settled, *texts: str) -> list[str | None]:
    """The corrected label of each text."""
    known = found.corrections
    at = dict(zip(known.ids.tolist(), known.codes.tolist(), strict=True))
    ids = [int(text_id) for text_id in text_ids(texts)]
    return [known.names[at[k]] if k in at else None for k in ids]


def rejected(scratch: Path) -> list[tuple[str, str]]:
    rows = pq.read_table(scratch / "out" / "rejected").to_pylist()
    return sorted((Path(row["source_file"]).name, row["reason"]) for row in rows)


def parsed(rows: Sequence[tuple[str | None, str | None]], **renamed: str) -> Parsed:
    texts, names = zip(*rows, strict=True)
    table = pa.table({"text": pa.array(texts, pa.string()), "label": pa.array(names, pa.string())})
    return parse(table, Columns(), renamed=renamed)


def shown(found: Parsed) -> list[tuple[str | None, str]]:
    """(label, reason) of each row."""
    reasons = [REASONS[code] for code in found.reasons]
    return list(zip(found.labels.to_pylist(), reasons, strict=True))


def test_the_newest_counts_then_the_later_object_then_the_later_line(tmp_path: Path) -> None:
    first = [
        line("by time", "newest", f"{DAY}12:00:00.001Z"),
        line("by line", "old"),
        line("by line", "new"),
        line("by object", "old"),
        line("by offset", "newest", f"{DAY}11:30:00-01:00"),
    ]
    second = [
        line("by time", "old", f"{DAY}12:00:00.000Z"),
        line("by object", "new"),
        line("by  offset\n", "old", f"{DAY}12:00:00"),
    ]
    found = settled(write(tmp_path / "f", first, second), tmp_path)
    assert labels(found, "by time", "by line", "by object", "by offset") == [
        "newest",
        "new",
        "new",
        "newest",
    ]
    assert (found.read, len(found.positions), found.rejected.total()) == (8, 4, 0)


@STEADY
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=40))
def test_the_newest_is_the_one_that_a_dictionary_would_keep(records: list[tuple[int, int]]) -> None:
    kept: dict[int, tuple[int, int]] = {}
    for place, (text, time) in enumerate(records):
        kept[text] = max(kept.get(text, (-1, -1)), (time, place))
    ids = np.array([text for text, _ in records], np.uint64)
    times = np.array([time for _, time in records], np.int64)
    assert newest(ids, times).tolist() == [kept[text][1] for text in sorted(kept)]


def test_all_rows_of_a_text_get_its_label_however_they_are_spelled_and_labelled(
    tmp_path: Path,
) -> None:
    said = [line("the vpn\nis down", "network"), line("other", "mail"), line("same", "mail")]
    found = settled(write(tmp_path / "f", said), tmp_path)
    rows = parsed(
        [
            ("the vpn is down", "mail"),
            (" the  vpn is down", "printing"),
            ("the vpn is down", None),
            ("the vpn is down", " "),
            ("the vpn is down", "closed"),
            ("same", "mail"),
            ("not corrected", None),
            ("not corrected", "printing"),
            (None, "mail"),
        ],
        closed="",
    )
    after, at, changed = found.corrections.apply(rows, rows.text_ids())
    assert shown(after) == [
        *[("network", "")] * 5,
        ("mail", ""),
        (None, "null label"),
        ("printing", ""),
        ("mail", "null text"),
    ]
    assert changed.tolist() == [True] * 5 + [False]
    assert sorted(set(at.tolist())) == sorted(
        found.corrections.ids.tolist().index(int(k)) for k in text_ids(["the vpn is down", "same"])
    )


def test_a_second_look_at_the_same_rows_gives_the_same(tmp_path: Path) -> None:
    found = settled(write(tmp_path / "f", [line("a b", "network")]), tmp_path)
    table = pa.table({"text": ["a  b", "c", ""], "label": pa.array([None, "mail", "mail"])})
    first = parse(table, Columns())
    ids = first.text_ids()
    once, _, _ = found.corrections.apply(first, ids)
    again = parse(table, Columns(), reasons=once.reasons)
    twice, _, _ = found.corrections.apply(again, ids)
    assert shown(twice) == shown(once) == [("network", ""), ("mail", ""), ("mail", "empty text")]


def test_without_a_corrected_text_rows_stay_as_they_are(tmp_path: Path) -> None:
    found = settled(write(tmp_path / "f", [line("other", "network")]), tmp_path)
    rows = parsed([("a", "mail"), ("", "mail")])
    after, at, changed = found.corrections.apply(rows, rows.text_ids())
    assert after is rows
    assert len(at) == len(changed) == 0


def test_the_label_map_renames_and_drops_what_corrections_say(tmp_path: Path) -> None:
    said = [line("a", "Fax"), line("b", "Telex"), line("c", "mail")]
    found = settled(write(tmp_path / "f", said), tmp_path, Fax="printing", Telex="", Gone="mail")
    assert labels(found, "a", "b", "c") == ["printing", "Telex", "mail"]
    assert found.renamed == {"Fax", "Telex"}
    assert found.rejected.total() == 0
    rows = parsed([("a", "mail"), ("b", "mail"), ("c", "mail")])
    after, _, _ = found.corrections.apply(rows, rows.text_ids())
    assert shown(after) == [("printing", ""), ("Telex", "dropped label"), ("mail", "")]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (line(None, "mail"), "null text"),
        (line("\t ", "mail"), "empty text"),
        (line("a", None), "null label"),
        ('{"text": "a", "at": "2026-11-25T10:00:00Z"}', "null label"),
        (line("a", "  "), "empty label"),
        (line("a", "mail", None), "correction without a time"),
        (line("a", "mail", "yesterday"), "correction without a time"),
        (line("a", "mail", 1764064800), "correction without a time"),
        (line("a", 7), "unreadable correction"),
        (line(["a"], "mail"), "unreadable correction"),
        ('{"text": "a", "label": "mail", "at"', "unreadable correction"),
        ('["a", "mail"]', "unreadable correction"),
        ("[" * 100_000, "unreadable correction"),
        ('{"text": "\\ud800", "label": "mail", "at": "2026-11-25"}', "unreadable correction"),
        ('{"text": "\udcff"}', "unreadable correction"),
    ],
)
def test_what_is_no_correction_is_put_aside_with_the_reason_and_harms_no_other(
    tmp_path: Path, entry: str, reason: str
) -> None:
    folder = write(tmp_path / "f", [line("a", "network")], ["", entry, line("b", "mail")])
    found = settled(folder, tmp_path)
    assert dict(found.rejected) == {reason: 1}
    assert rejected(tmp_path) == [("0001.jsonl", reason)]
    assert labels(found, "a", "b") == ["network", "mail"]
    assert found.read == 3


def test_a_line_that_no_newline_ends_counts(tmp_path: Path) -> None:
    folder = write(tmp_path / "f", [])
    (folder / "2026-11-25" / "x.jsonl").write_text(line("a", "mail"))
    assert labels(settled(folder, tmp_path), "a") == ["mail"]


def test_many_waves_say_the_same_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = [
        [line(f"text {(k * 7 + n) % 30}", f"label {k % 5}", f"{DAY}10:00:{(k * 11) % 60:02d}Z")]
        for k in range(40)
        for n in range(2)
    ]
    folder = write(tmp_path / "f", *objects)
    texts = [f"text {k}" for k in range(30)]
    one = settled(folder, tmp_path / "one")
    monkeypatch.setattr(feedback, "WAVE_OBJECTS", 3)
    many = settled(folder, tmp_path / "many")
    assert labels(many, *texts) == labels(one, *texts)
    assert many.positions.tolist() == one.positions.tolist()
    for found, scratch in ((one, "one"), (many, "many")):
        there = np.arange(len(found.positions)) % 3 == 0
        source = feedback.added(found, there, pa.int64(), str(tmp_path / scratch))
        assert source is not None
        rows = pq.read_table(source.uri).to_pylist()
        known = dict(zip(found.corrections.ids.tolist(), there.tolist(), strict=True))
        wanted = [text for text in texts if not known.get(int(text_ids([text])[0]), True)]
        assert sorted(row["text"] for row in rows) == sorted(wanted)
        assert [row["label"] for row in rows] == labels(found, *(row["text"] for row in rows))
        assert {row["id"] for row in rows} == {None}
        assert str(source.schema.field("id").type) == "int64"


def test_nothing_is_added_where_the_source_has_all_texts(tmp_path: Path) -> None:
    found = settled(write(tmp_path / "f", [line("a", "mail")]), tmp_path)
    assert feedback.added(found, np.array([True]), None, str(tmp_path)) is None


def test_an_empty_folder_holds_no_correction(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / ".probe").write_text("hidden")
    found = settled(tmp_path / "f", tmp_path)
    assert (found.read, len(found.positions)) == (0, 0)
    rows = parsed([("a", "mail")])
    assert found.corrections.apply(rows, rows.text_ids())[0] is rows


def test_a_place_that_is_none_of_corrections_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--feedback .*missing does not exist\. Give the feedback"):
        open_feedback(str(tmp_path / "missing"))
    (tmp_path / "data").mkdir()
    storage.write_bytes(str(tmp_path / "data" / "part-0.parquet"), b"")
    with pytest.raises(DataError, match=r"holds files, such as .*part-0\.parquet, and none of cor"):
        open_feedback(str(tmp_path / "data"))


def test_objects_are_listed_with_their_sizes_and_half_written_ones_passed_over(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "f", [line("a", "mail")])
    (folder / "2026-11-25" / ".0001.jsonl.abcdef01.partial").write_text("half")
    found: Any = open_feedback(str(folder))
    size = (folder / "2026-11-25" / "0000.jsonl").stat().st_size
    assert found.objects == ((str(folder / "2026-11-25" / "0000.jsonl"), size),)
    assert found.size == size
