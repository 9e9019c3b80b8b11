"""Corrections: what is durable when, who learns of what, and what the objects look like."""

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster import durable
from cluster.errors import SettingError, StorageError
from serve.errors import NotStored, Overloaded, RequestError
from serve.feedback import Correction, FeedbackStore, object_name, require_writable

ROOT = Path(__file__).resolve().parents[2]
AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NEVER_S = 3600.0  # nothing is committed before the store is closed


def correction(text: object, label: str = "network") -> Correction:
    return Correction(str(text), label, f"request-{text}", "router", "7")


def objects(folder: Path) -> list[list[dict[str, Any]]]:
    """What each object holds, by name."""
    return [
        [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
        for path in sorted(folder.glob("*/*.jsonl"))
    ]


def stored(folder: Path) -> list[str]:
    """The texts of all objects."""
    return [row["text"] for rows in objects(folder) for row in rows]


class SlowDisk:
    """A disk that writes only while the test lets it."""

    def __init__(self) -> None:
        self.faults: dict[int, Exception] = {}  # by number of the write
        self.writes = 0
        self._begun = threading.Semaphore(0)
        self._may_end = threading.Semaphore(0)

    def write(self, uri: str, data: bytes) -> None:
        number = self.writes
        self.writes += 1
        self._begun.release()
        assert self._may_end.acquire(timeout=30)
        if number in self.faults:
            raise self.faults[number]
        durable.write(uri, data)

    async def begins(self) -> None:
        """Waits until the next write has begun, without holding the loop."""
        with ThreadPoolExecutor(1) as thread:
            begun = lambda: self._begun.acquire(timeout=30)  # noqa: E731
            assert await asyncio.get_running_loop().run_in_executor(thread, begun)

    def let(self, writes: int) -> None:
        """Lets so many writes end."""
        self._may_end.release(writes)


def run(
    folder: Path,
    work: Callable[[FeedbackStore], Awaitable[None]],
    *,
    gather_s: float = 0.0,
    **more: Any,
) -> None:
    async def session() -> None:
        store = FeedbackStore(str(folder), gather_s=gather_s, **more)
        async with asyncio.timeout(60):
            await work(store)
            await store.close()

    asyncio.run(session())


def test_an_answered_correction_is_a_line_of_an_object_of_its_day(tmp_path: Path) -> None:
    text = 'the "Drucker"\nis \u2028 down 打印机'

    async def work(store: FeedbackStore) -> None:
        await store.put(Correction(text, "Tëam 係", "r-1", "router", "7"))
        (row,) = objects(tmp_path)[0]
        assert AT.fullmatch(row.pop("at"))
        assert row == {
            "text": text,
            "label": "Tëam 係",
            "request_id": "r-1",
            "model_name": "router",
            "model_version": "7",
        }

    run(tmp_path, work)
    (path,) = tmp_path.rglob("*.jsonl")
    day, name = path.parts[-2:]
    assert re.fullmatch(r"\d{8}T\d{9}Z-[0-9a-f]{12}\.jsonl", name)
    assert day.replace("-", "") == name[:8]
    assert "打印机".encode() in path.read_bytes()


def test_names_sort_by_time_and_no_two_are_the_same() -> None:
    times = [datetime(2026, 11, 25, 23, 59, 59, 998_000, tzinfo=UTC)]
    times += [times[0] + timedelta(milliseconds=k) for k in range(1, 5)]
    names = [object_name(now) for now in times]
    assert names == sorted(names)
    assert names[0].startswith("2026-11-25/20261125T235959998Z-")
    assert names[2].startswith("2026-11-26/20261126T000000000Z-")
    assert len({object_name(times[0]) for _ in range(1000)}) == 1000


def test_duckdb_reads_the_folder_as_it_is(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")

    async def work(store: FeedbackStore) -> None:
        await asyncio.gather(*(store.put(correction(k)) for k in range(5)))
        await store.put(correction(5))

    run(tmp_path, work)
    rows = duckdb.sql(
        f'SELECT text::INTEGER, label, "at" < now() + INTERVAL 1 DAY '
        f"FROM read_json('{tmp_path}/*/*.jsonl') ORDER BY 1"
    ).fetchall()
    assert rows == [(k, "network", True) for k in range(6)]


def test_five_hundred_at_once_are_few_objects_and_each_is_there_once(tmp_path: Path) -> None:
    async def work(store: FeedbackStore) -> None:
        await asyncio.gather(*(store.put(correction(k)) for k in range(500)))
        assert sorted(map(int, stored(tmp_path))) == list(range(500))

    run(tmp_path, work)
    assert len(objects(tmp_path)) == 1
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]


def test_while_one_commit_is_written_the_next_gathers(tmp_path: Path) -> None:
    disk = SlowDisk()

    async def work(store: FeedbackStore) -> None:
        first = asyncio.create_task(store.put(correction("first")))
        await disk.begins()
        others = [asyncio.create_task(store.put(correction(k))) for k in range(20)]
        await asyncio.sleep(0)
        disk.let(1)
        await first
        await disk.begins()
        assert not any(task.done() for task in others)
        disk.let(1)
        await asyncio.gather(*others)

    run(tmp_path, work, write=disk.write)
    assert [[row["text"] for row in rows] for rows in objects(tmp_path)] == [
        ["first"],
        [str(k) for k in range(20)],
    ]


def test_a_failed_write_is_told_to_those_of_its_commit_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = SlowDisk()
    disk.faults = {1: StorageError("the disk is full."), 2: ValueError("bad: secret text")}

    async def work(store: FeedbackStore) -> None:
        for commit in ("sound", "secret text", "secret text too", "sound again"):
            tasks = [asyncio.create_task(store.put(correction(f"{commit} {k}"))) for k in range(3)]
            await disk.begins()
            disk.let(1)
            found = await asyncio.gather(*tasks, return_exceptions=True)
            if commit.startswith("sound"):
                assert found == [None] * 3
                continue
            for error in found:
                assert isinstance(error, NotStored)
                assert (error.status, error.kind) == (503, "not_stored")
                assert error.headers == {"Retry-After": "1"}

    with caplog.at_level(logging.ERROR):
        run(tmp_path, work, write=disk.write)
    assert stored(tmp_path) == [
        f"{commit} {k}" for commit in ("sound", "sound again") for k in range(3)
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "3 corrections were not stored: the disk is full.",
        "3 corrections were not stored: ValueError",
    ]
    assert "secret" not in caplog.text


def test_a_caller_that_goes_away_takes_no_other_correction_along(tmp_path: Path) -> None:
    disk = SlowDisk()

    async def work(store: FeedbackStore) -> None:
        first = asyncio.create_task(store.put(correction("first")))
        await disk.begins()
        gathering = [asyncio.create_task(store.put(correction(k))) for k in range(3)]
        await asyncio.sleep(0)
        for gone in (first, gathering[1]):
            gone.cancel()
        disk.let(2)
        found = await asyncio.gather(first, *gathering, return_exceptions=True)
        assert [type(answer) for answer in found] == [
            asyncio.CancelledError,
            type(None),
            asyncio.CancelledError,
            type(None),
        ]

    run(tmp_path, work, write=disk.write)
    assert {"0", "2"} <= set(stored(tmp_path))


def test_more_than_may_wait_is_refused_until_there_is_room(tmp_path: Path) -> None:
    disk = SlowDisk()

    async def work(store: FeedbackStore) -> None:
        held = [asyncio.create_task(store.put(correction(k))) for k in range(3)]
        await disk.begins()
        with pytest.raises(Overloaded, match="3 corrections are being stored, and 3 may") as caught:
            await store.put(correction("one too many"))
        assert caught.value.status == 429
        disk.let(2)
        await asyncio.gather(*held)
        await store.put(correction("later"))

    run(tmp_path, work, write=disk.write, most_held=3)
    assert stored(tmp_path) == ["0", "1", "2", "later"]


def test_room_comes_back_after_a_failed_write(tmp_path: Path) -> None:
    disk = SlowDisk()
    disk.faults = {0: StorageError("no."), 1: StorageError("no.")}
    disk.let(10)

    async def work(store: FeedbackStore) -> None:
        for _ in range(2):
            with pytest.raises(NotStored):
                await store.put(correction("lost"))
        await store.put(correction("kept"))

    run(tmp_path, work, write=disk.write, most_held=1)
    assert stored(tmp_path) == ["kept"]


def test_closing_stores_what_waits_and_takes_no_more(tmp_path: Path) -> None:
    async def work(store: FeedbackStore) -> None:
        waiting = [asyncio.create_task(store.put(correction(k))) for k in range(4)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*waiting)
        with pytest.raises(NotStored, match="shutting down"):
            await store.put(correction("too late"))

    run(tmp_path, work, gather_s=NEVER_S)
    assert stored(tmp_path) == ["0", "1", "2", "3"]


def test_half_a_character_is_refused_and_harms_no_other(tmp_path: Path) -> None:
    async def work(store: FeedbackStore) -> None:
        found = await asyncio.gather(
            store.put(correction("whole")),
            store.put(correction("half \ud800")),
            return_exceptions=True,
        )
        assert found[0] is None
        assert isinstance(found[1], RequestError)
        assert found[1].status == 422
        assert "surrogate" in str(found[1])

    run(tmp_path, work)
    assert stored(tmp_path) == ["whole"]


KILLED = """
import asyncio, sys
from serve.feedback import Correction, FeedbackStore

async def caller(store, name):
    for number in range(10_000):
        await store.put(Correction(f"{name}-{number}", "network", "r", "router", "7"))
        print(f"{name}-{number}", flush=True)

async def main():
    store = FeedbackStore(sys.argv[1], gather_s=0.001)
    await asyncio.gather(*(caller(store, name) for name in range(20)))

asyncio.run(main())
"""


def test_a_killed_process_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    try:
        answered = [process.stdout.readline().strip() for _ in range(200)]
    finally:
        process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split("\n")
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    answered += rest[:-1]  # what follows the last end of a line was cut off
    found = stored(tmp_path)
    assert len(answered) >= 200
    assert set(answered) <= set(found)
    assert len(found) == len(set(found))


def test_a_place_for_corrections_is_made_and_left_empty(tmp_path: Path) -> None:
    require_writable(str(tmp_path / "new" / "feedback"))
    assert (tmp_path / "new" / "feedback").is_dir()
    assert list((tmp_path / "new" / "feedback").iterdir()) == []


def test_a_place_that_cannot_be_written_is_named_before_anything_is_lost(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"feedback\.uri .*file cannot be written \(.*\), so"):
        require_writable(str(tmp_path / "file"))
    with pytest.raises(SettingError, match=r"feedback\.uri is 'hf://a/b': hf:// can only be read"):
        require_writable("hf://a/b")
