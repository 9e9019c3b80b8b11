"""Scratch files of keys: fixed width, sorted by text id, read in ranges of it.

Between the task that read a row and the task that settles its text; knows nothing of either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cluster import storage
from jobs import splits
from jobs.classifier.text import Hashes

Keys = npt.NDArray[np.void]
# One record for each (text, label, given side) of a part of the data. `rows` is 0 for a text of
# earlier prepared data, whose side stands in `given`.
KEY = np.dtype([("id", "<u8"), ("label", "<u8"), ("rows", "<u4"), ("given", "i1"), ("pad", "V3")])

# One record for each row of a chunk, in the order of reading: for the second look at it.
ROW = np.dtype([("id", "<u8"), ("reason", "i1")])


@dataclass(frozen=True)
class KeyFile:
    """One scratch file: the keys of range r stand from `offsets[r]` to `offsets[r + 1]`."""

    uri: str
    offsets: tuple[int, ...]


def merge_keys(parts: Sequence[Keys]) -> Keys:
    """One key for each (text, label, given side), its rows summed, sorted by text id."""
    keys = np.concatenate(parts) if parts else np.zeros(0, KEY)
    ids, labels, rows, given = splits.merge(
        np.ascontiguousarray(keys["id"]),
        np.ascontiguousarray(keys["label"]),
        keys["rows"].astype(np.int64),
        np.ascontiguousarray(keys["given"]),
    )
    merged = np.zeros(len(ids), KEY)
    merged["id"], merged["label"], merged["rows"], merged["given"] = ids, labels, rows, given
    return merged


def write_keys(keys: Keys, ranges: int, uri: str) -> list[int]:
    """Writes sorted keys; where each range of ids begins, and the end."""
    fs, path = storage.filesystem(uri)
    with fs.open_output_stream(path) as stream:
        stream.write(keys.tobytes())
    return [*np.searchsorted(keys["id"], bounds(ranges)).tolist(), len(keys)]


def bounds(ranges: int) -> Hashes:
    """uint64 [ranges]: the first id of each of `ranges` equal ranges of the 64-bit integers."""
    return np.array([(r << 64) // ranges for r in range(ranges)], np.uint64)


def read_range(files: Sequence[KeyFile], number: int) -> Keys:
    """The keys of one range, out of all files."""
    found = []
    for file in files:
        start, stop = file.offsets[number], file.offsets[number + 1]
        if stop > start:
            fs, path = storage.filesystem(file.uri)
            with fs.open_input_file(path) as stream:
                data = stream.read_at((stop - start) * KEY.itemsize, start * KEY.itemsize)
            found.append(np.frombuffer(data, KEY))
    return np.concatenate(found) if found else np.zeros(0, KEY)


def rows_uri(folder: str, name: str, number: int) -> str:
    """Where the ROWs of a chunk lie; `name` tells sources apart."""
    return storage.join(folder, f"{name}-rows-{number:06d}.bin")


def write_rows(ids: Hashes, reasons: npt.NDArray[np.int8], uri: str) -> None:
    rows = np.empty(len(ids), ROW)
    rows["id"], rows["reason"] = ids, reasons
    fs, path = storage.filesystem(uri)
    with fs.open_output_stream(path) as stream:
        stream.write(rows.tobytes())


def read_rows(uri: str) -> tuple[Hashes, npt.NDArray[np.int8]]:
    """(text ids, reasons) of all rows of a chunk."""
    rows = np.frombuffer(storage.read_bytes(uri), ROW)
    return np.ascontiguousarray(rows["id"]), np.ascontiguousarray(rows["reason"])
