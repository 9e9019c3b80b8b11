"""Corrections that an endpoint has stored: JSON lines in objects below one folder, read by prepare.

Each line holds text, label and `at` (ISO 8601; without an offset in UTC), beside what prepare does
not need. With several text columns the text is the joined one, as the endpoint got it. Of a text
the newest correction counts: by `at`, then the name of the object, then the line.

Objects are read once, on the driver, in waves of some 300 MB of memory; what stays there is numbers
(measured: 80 bytes a correction at the peak) and the listing (some 300 bytes an object), so that a
few million are no matter. Texts wait in scratch files until it is known which of them the source
does not have.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import DataError
from jobs import keys, splits
from jobs.corrections import Corrections, settle
from jobs.data_settings import Columns
from jobs.keys import Reading
from jobs.part_files import GROUP_ROWS, write_part
from jobs.records import DROPPED_LABEL, FIT, REASONS, parse
from jobs.sides import REJECTED
from jobs.sources import Source, open_source

SUFFIX = ".jsonl"
UNREADABLE = "unreadable correction"
NO_TIME = "correction without a time"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Rejects = list[tuple[str, str, str | None, str | None]]  # rows of REJECTED
# A wave is what is read before it is looked at: many small objects, or one large one.
WAVE_OBJECTS = 4096
WAVE_BYTES = 32 << 20
READERS = 16  # object storage takes some ten milliseconds a small object
WAITING = "corrections"  # scratch: every usable correction
ADDED = "added"  # scratch: corrections of texts that the source does not have
COLUMNS = Columns(id=None, split=None)
FIELDS = pa.schema({"text": pa.string(), "label": pa.string(), "object": pa.string()})


@dataclass(frozen=True)
class Feedback:
    """The objects below a URI: (path inside its filesystem, bytes), in the order of their names."""

    uri: str
    objects: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        return sum(size for _, size in self.objects)


@dataclass(frozen=True)
class Settled:
    """What all objects say: the newest corrections, and what became of the others.

    `positions` int64 [texts]: which of the usable corrections is the newest of each text.
    `renamed`: old names of the label map that occur. `rejected`: lines that were put aside.
    """

    corrections: Corrections
    positions: splits.Ints
    read: int
    renamed: set[str]
    rejected: Counter[str]


def open_feedback(uri: str, *, key: str = "feedback") -> Feedback:
    """The objects at `uri`, which may be none yet; DataError where it is no such place."""
    if not storage.exists(uri):
        raise DataError(
            f"--{key} {uri} does not exist. Give the feedback.uri of the endpoint, which makes it "
            "when it is deployed."
        )
    found = storage.list_files(uri)
    objects = tuple((path, size) for path, size in found if path.endswith(SUFFIX))
    if found and not objects:
        raise DataError(
            f"--{key} {uri} holds files, such as {found[0][0]}, and none of corrections "
            f"({SUFFIX}). Give the feedback.uri of the endpoint."
        )
    return Feedback(uri, objects)


def read(feedback: Feedback, renamed: Mapping[str, str], folder: str, scratch: str) -> Settled:
    """Reads all objects: lines that are no use go to rejected/, others wait in scratch files."""
    columns: list[tuple[Any, ...]] = [tuple(np.zeros(0, kind) for kind in ("u8", "i8", "i4", "i1"))]
    names: dict[str, int] = {}
    lines_read, old, rejected = 0, set[str](), Counter[str]()
    for number, lines in enumerate(_waves(feedback)):
        table, times, rejects = _understood(lines)
        parsed = parse(table, COLUMNS, renamed=renamed)
        usable = (parsed.reasons == FIT) | (parsed.reasons == DROPPED_LABEL)
        bad = np.flatnonzero(~usable)
        for row, reason in zip(table.take(bad).to_pylist(), parsed.reasons[bad], strict=True):
            rejects.append((row["object"], REASONS[reason], row["text"], row["label"]))
        _write_rejects(rejects, folder, number)
        lines_read += len(lines)
        old |= set(parsed.old_labels)
        rejected += Counter(reason for _, reason, _, _ in rejects)
        here = [names.setdefault(n, len(names)) for n in parsed.labels.dictionary.to_pylist()]
        codes = np.array(here, np.int32)[parsed.labels.indices.fill_null(0).to_numpy()]
        ids = parsed.text_ids()
        columns.append(tuple(c[usable] for c in (ids, times, codes, parsed.reasons)))
        waiting = table.filter(pa.array(usable))
        write_part(waiting, storage.join(scratch, WAITING), f"{number:06d}.parquet")
    ids, times, codes, reasons = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    corrections, positions = settle(ids, times, codes, reasons, [*names])
    return Settled(corrections, positions, lines_read, renamed.keys() & old, rejected)


def added(
    settled: Settled, there: splits.Mask, id_type: pa.DataType | None, scratch: str
) -> Source | None:
    """The corrections of texts that are not `there`, as a source of their own; None for none.

    `there` bool [texts]: which of the corrections the source has rows of. Labels stand under the
    names that they came with: reading the source renames them.
    """
    wanted = np.sort(settled.positions[~there])
    if len(wanted) == 0:
        return None
    place = storage.join(scratch, ADDED)
    fs, _ = storage.filesystem(scratch)
    start = 0
    for number, (path, _) in enumerate(storage.list_files(storage.join(scratch, WAITING))):
        table = pq.read_table(path, filesystem=fs)
        stop = start + table.num_rows
        rows = wanted[(wanted >= start) & (wanted < stop)] - start
        start = stop
        table = table.take(pa.array(rows))
        if id_type is not None:
            table = table.append_column("id", pa.nulls(len(rows), id_type))
        if len(rows):
            write_part(table, place, f"{number:06d}.parquet", group_rows=GROUP_ROWS)
    return open_source(place, key="feedback")


def reading(source: Source, renamed: Mapping[str, str], id_type: pa.DataType | None) -> Reading:
    """How the passes read what `added` gives: without ids, and known by the object's name."""
    columns = COLUMNS.model_copy(update={"id": None if id_type is None else "id"})
    return replace(keys.reading(source, columns, renamed), id_type=id_type, origin="object")


def _waves(feedback: Feedback) -> Iterator[list[tuple[str, bytes]]]:
    """(object, line) of all lines that are not blank, in order, in waves of bounded size."""
    fs, _ = storage.filesystem(feedback.uri)

    def fetch(item: tuple[str, int]) -> bytes:
        path, size = item
        try:
            with fs.open_input_stream(path) as stream:
                return bytes(stream.read(size))
        except OSError as error:
            raise DataError(f"--feedback {path} cannot be read: {error}") from None

    with ThreadPoolExecutor(READERS) as readers:
        for wave in _grouped(feedback.objects):
            lines = []
            for (path, _), data in zip(wave, readers.map(fetch, wave), strict=True):
                lines += [(path, line) for line in data.split(b"\n") if line.strip()]
            yield lines


def _grouped(objects: Sequence[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    wave: list[tuple[str, int]] = []
    size = 0
    for item in objects:
        if wave and (len(wave) >= WAVE_OBJECTS or size + item[1] > WAVE_BYTES):
            yield wave
            wave, size = [], 0
        wave.append(item)
        size += item[1]
    if wave:
        yield wave


def _understood(
    lines: Sequence[tuple[str, bytes]],
) -> tuple[pa.Table, splits.Ints, Rejects]:
    """(FIELDS of lines that are corrections, their times in microseconds, REJECTED of others)."""
    rows, times = [], []
    rejects: Rejects = []
    for path, line in lines:
        found = _correction(line)
        if isinstance(found, str):
            # The line as it is, for whoever looks what went wrong.
            rejects.append((path, found, line.decode("utf-8", "replace"), None))
        else:
            rows.append((*found[:2], path))
            times.append(found[2])
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    return pa.table(list(map(list, columns)), schema=FIELDS), np.array(times, np.int64), rejects


def _correction(line: bytes) -> tuple[str | None, str | None, int] | str:
    """(text, label, microseconds since 1970) of a line, or why it is no correction."""
    try:
        row = json.loads(line)
        text, label = row.get("text"), row.get("label")
        # Halves of surrogate pairs, which JSON can hold and no text column.
        f"{text}{label}".encode()
    except (ValueError, AttributeError, RecursionError):
        return UNREADABLE
    if not all(value is None or isinstance(value, str) for value in (text, label)):
        return UNREADABLE
    try:
        at = datetime.fromisoformat(row.get("at"))
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return text, label, (at - EPOCH) // timedelta(microseconds=1)
    except (TypeError, ValueError, OverflowError):
        return NO_TIME


def _write_rejects(rejects: Rejects, folder: str, number: int) -> None:
    if rejects:
        table = pa.table(list(map(list, zip(*rejects, strict=True))), schema=REJECTED)
        write_part(table, storage.join(folder, "rejected"), f"corrections-{number:06d}.parquet")
