"""From the endpoint's corrections to prepared data. On one local Ray."""

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import storage
from cluster.errors import DataError, StorageError
from jobs import feedback
from jobs.classifier.text import normalise
from jobs.feedback import open_feedback
from jobs.preparer import Prepare, prepare
from serve.feedback import Correction, FeedbackStore, require_writable
from tests.integration import s3
from tests.integration.conftest import read_rows, write_tickets
from tests.integration.test_preparation_depth import made, where, zipf

Rows = list[dict[str, object]]
SIDES = ("train", "validation", "test")


def correct(uri: str, *corrections: tuple[str, str]) -> None:
    """Gives (text, label) pairs to an endpoint's store, all in one commit and in this order."""

    async def session() -> None:
        store = FeedbackStore(uri, gather_s=0.0)
        given = (Correction(text, label, "r", "router", "7") for text, label in corrections)
        await asyncio.gather(*map(store.put, given))
        await store.close()

    require_writable(uri)
    asyncio.run(session())


def write_objects(folder: Path, lines: Sequence[str], objects: int) -> Path:
    folder.mkdir()
    for number in range(objects):
        text = "".join(f"{line}\n" for line in lines[number::objects])
        (folder / f"{number:03d}.jsonl").write_text(text, "utf-8")
    return folder


def prepared(out: Path) -> dict[str, list[tuple[object, object, object]]]:
    """(text, label, id) of the rows of each side, sorted."""
    return {
        side: sorted(
            ((row["text"], row["label"], row.get("id")) for row in read_rows(out / side)), key=str
        )
        for side in SIDES
    }


def test_what_callers_corrected_is_what_the_next_model_learns(
    tmp_path: Path, tickets: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": t["id"], "title": str(t["text"]), "body": f"body {t['id']}", "label": t["label"]}
        for t in tickets
    ]
    torn = [
        {"id": f"x{k}", "title": "torn", "body": "apart", "label": label}
        for k, label in enumerate(["network", "mail", None])
    ]
    source = write_tickets(tmp_path / "source", [*rows, *torn], files=2)
    names = tmp_path / "names.csv"
    names.write_text("Telex,\nPost,mail\n")
    place = tmp_path / "feedback"
    correct(
        str(place),
        ("torn\napart", "mail"),
        ("torn apart", "printing"),  # newer, and the same text
        (f"{rows[0]['title']}\n{rows[0]['body']}", "Post"),  # says what is so already
        (f"{rows[1]['title']}\n{rows[1]['body']}", "network"),
        (f"{rows[2]['title']}\n{rows[2]['body']}", "Telex"),  # a team that is gone
        ("never seen", "Post"),
        ("never seen either", "Telex"),
        (" ", "mail"),
    )
    out = tmp_path / "out"
    result = prepare(
        Prepare(
            source=str(source),
            output=str(out),
            feedback=str(place),
            columns={"text": ("title", "body"), "id": "id"},
            labels={"map": str(names)},
        )
    )
    found = json.loads((out / "manifest.json").read_text())
    assert found["corrections"] == {
        "objects": 1,
        "read": 8,
        "texts": 6,
        "changed": 3,
        "added": 1,
        "rejected": 2,
    }
    assert (result["corrections"], result["conflicts"]) == (6, 0)
    assert (
        "corrections: 8 read of 6 texts: 3 changed, 1 added; 2 rejected" in capsys.readouterr().out
    )
    here = {(text, label, key) for side in prepared(out).values() for text, label, key in side}
    assert {(label, key) for text, label, key in here if str(text).startswith("torn")} == {
        ("printing", f"x{k}") for k in range(3)
    }
    labels = {key: label for _, label, key in here}
    assert (labels[rows[0]["id"]], labels[rows[1]["id"]]) == ("mail", "network")
    assert rows[2]["id"] not in labels
    assert ("never seen", "mail", None) in here
    assert found["rows"] == len(here) == 48 + 3 - 1 + 1
    rejects = {
        (row["reason"], row["label"], str(row["source_file"]).rsplit(".", 1)[-1])
        for row in read_rows(out / "rejected")
    }
    assert rejects == {
        ("dropped label", "Telex", "parquet"),
        ("dropped label", "Telex", "jsonl"),
        ("empty text", "mail", "jsonl"),
    }
    assert found["rejected"] == {"dropped label": 2, "empty text": 1}
    size = sum(path.stat().st_size for path in place.rglob("*.jsonl"))
    assert found["sources"][-1] == {"path": str(place), "bytes": size}
    assert len(found["sources"]) == 3
    assert found["settings"]["feedback"] == str(place)
    assert "texts added that the source did not have" in (out / "report.html").read_text()


def test_corrected_data_is_split_like_data_that_was_right_from_the_start(tmp_path: Path) -> None:
    rows = zipf(800, 12)
    rng = random.Random(1)
    names = sorted({str(row["label"]) for row in rows})
    texts = sorted({normalise(str(row["text"])) for row in rows})
    chosen = [*rng.sample(texts, 150), *(f"new {k}" for k in range(40))]
    right = {text: rng.choice(names) for text in chosen}
    lines = [
        json.dumps({"text": text, "label": label, "at": f"2026-11-25T10:{at:02d}:00Z"})
        for text in chosen
        for at, label in ((0, rng.choice(names)), (1, right[text]))
    ]
    by_hand = [
        {**row, "label": right.get(normalise(str(row["text"])), row["label"])} for row in rows
    ]
    by_hand += [{"text": f"new {k}", "label": right[f"new {k}"]} for k in range(40)]
    split = {"validation": 0.15, "test": 0.2, "seed": 3}
    expected = made(write_tickets(tmp_path / "hand", by_hand), tmp_path / "expected", split=split)
    for run, files in enumerate((1, 4)):
        rng.shuffle(lines)
        rng.shuffle(rows)
        source = write_tickets(tmp_path / f"source-{run}", rows, files=files)
        place = write_objects(tmp_path / f"feedback-{run}", lines, 1 + 6 * run)
        out = tmp_path / f"out-{run}"
        found = made(source, out, feedback=str(place), split=split)
        for key in ("labels", "cuts", "rows", "conflicts", "duplicates", "rejected"):
            assert found[key] == expected[key], key
        assert prepared(out) == prepared(tmp_path / "expected")
        assert found["corrections"]["texts"] == 190
        assert found["corrections"]["added"] == 40


def test_a_corrected_text_keeps_its_side_when_data_grows(tmp_path: Path) -> None:
    rows = zipf(400, 6)
    source = write_tickets(tmp_path / "source", rows)
    place = tmp_path / "feedback"
    names = sorted({str(row["label"]) for row in rows})
    made(source, tmp_path / "before")
    before = where(tmp_path / "before")
    corrected = {text: names[k % 6] for k, text in enumerate(sorted(before)[::3])}
    added = {f"new {k}": names[k % 6] for k in range(60)}
    correct(str(place), *corrected.items(), *added.items())
    like = {"like": str(tmp_path / "before")}
    made(source, tmp_path / "after", feedback=str(place), split=like)
    after = where(tmp_path / "after")
    assert {text: after[text] for text in before} == before
    assert set(after) - set(before) == set(added)
    labels = {
        normalise(str(row["text"])): row["label"]
        for side in SIDES
        for row in read_rows(tmp_path / "after" / side)
    }
    assert {text: labels[text] for text in (corrected | added)} == corrected | added
    again = {"like": str(tmp_path / "after")}
    correct(str(place), *((text, names[0]) for text in added))
    made(source, tmp_path / "later", feedback=str(place), split=again)
    assert where(tmp_path / "later") == after


def test_a_text_of_the_test_source_is_corrected_there_and_not_learned(
    tmp_path: Path, tickets: Rows
) -> None:
    source = write_tickets(tmp_path / "source", tickets[5:])
    given = write_tickets(tmp_path / "given", tickets[:5])
    place = tmp_path / "feedback"
    correct(str(place), (str(tickets[0]["text"]), "network"), ("new", "network"))
    out = tmp_path / "out"
    found = made(source, out, feedback=str(place), test_source=str(given))
    sides = prepared(out)
    assert (tickets[0]["text"], "network", None) in sides["test"]
    assert len(sides["test"]) == 5
    assert "new" in {text for side in ("train", "validation") for text, _, _ in sides[side]}
    assert {key: found["corrections"][key] for key in ("changed", "added")} == {
        "changed": 1,
        "added": 1,
    }


def test_an_empty_folder_changes_nothing_and_is_said_and_a_missing_one_is_a_mistake(
    tmp_path: Path, tickets: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_tickets(tmp_path / "source", tickets)
    require_writable(str(tmp_path / "feedback"))
    out = tmp_path / "out"
    result = prepare(
        Prepare(source=str(source), output=str(out), feedback=str(tmp_path / "feedback"))
    )
    assert (result["rows"], result["corrections"]) == (48, 0)
    assert "corrections: 0 (the folder holds none yet)" in capsys.readouterr().out
    counts = json.loads((out / "manifest.json").read_text())["corrections"]
    assert set(counts.values()) == {0}
    with pytest.raises(DataError, match=r"--feedback .*missing does not exist"):
        made(source, tmp_path / "none", feedback=str(tmp_path / "missing"))
    assert not (tmp_path / "none").exists()


def test_corrections_in_object_storage_are_one_object_a_commit(tmp_path: Path) -> None:
    with s3.store() as bucket:
        place = storage.join(bucket, "deep", "feedback")
        require_writable(place)
        assert open_feedback(place).objects == ()
        correct(place, ("the vpn is down", "network"))
        correct(place, ("打印机", "printing"))
        found = open_feedback(place)
        assert len(found.objects) == 2
        assert all(size > 0 for _, size in found.objects)
        settled = feedback.read(found, {}, str(tmp_path / "out"), str(tmp_path))
        assert (settled.read, set(settled.corrections.names)) == (2, {"network", "printing"})
        there = np.zeros(2, np.bool_)
        added: Any = feedback.added(settled, there, None, str(tmp_path))
        assert {row["text"] for row in read_rows(Path(added.uri))} == {"the vpn is down", "打印机"}
        with pytest.raises(StorageError, match=r"feedback\.uri s3://no-such-bucket/f cannot be"):
            require_writable("s3://no-such-bucket/f")
        with pytest.raises(DataError, match="does not exist"):
            open_feedback(storage.join(bucket, "deep", "fedback"))
