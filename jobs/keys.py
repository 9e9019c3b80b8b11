"""The first pass over a source: the key of every row, and nothing else of it.

A key is (text id, label, given side) of fixed width. Each task writes the keys of its chunk as one
scratch file, sorted by text id, so that whoever settles a range of ids reads its slice of every
file. Texts never travel, and the driver sees counts and names of labels alone.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster import storage
from cluster.errors import DataError
from jobs import passes, splits
from jobs.classifier.text import Hashes, hashes
from jobs.corrections import Corrections, Shared
from jobs.data_settings import Columns
from jobs.key_files import KEY, KeyFile, Keys, merge_keys, rows_uri, write_keys, write_rows
from jobs.records import REASONS, Parsed, parse, strings
from jobs.sources import BadFile, Part, Source, base, read_part
from jobs.splits import FREE, TEST, VALIDATION

# What a column may say of a row's split. Rows for training are free: where the column names no
# validation or test rows, these are cut from them.
GIVEN = {
    "train": FREE,
    "training": FREE,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
}

# More is no set of teams but a column of numbers or texts; names are all on the driver.
MOST_LABELS = 100_000


@dataclass(frozen=True)
class Reading:
    """How every task reads a source: the same in both passes."""

    uri: str
    format: str
    columns: Columns
    renamed: Mapping[str, str]
    given: int = FREE  # the side of every row, for a source that is a split of its own
    id_type: pa.DataType | None = None
    corrections: Shared | None = None
    origin: str | None = None  # the column that names the file of a row, if not the file itself

    @property
    def name(self) -> str:
        """What tells the files of this source from those of another."""
        if self.origin is not None:
            return "corrected"
        return "part" if self.given == FREE else "given"

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        of = self.columns
        others = (of.id, of.split, self.origin)
        return [*of.text, of.label, *(name for name in others if name)]


@dataclass
class Inventory:
    """What the first pass found: the key files, and small numbers.

    `chunk_rows`: rows fit for use, per chunk of the source. `corrected` and `changed` bool [texts
    with a correction]: those that have rows here, and those of which a row was changed.
    """

    files: list[KeyFile] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    rejected: Counter[str] = field(default_factory=Counter)
    chunk_rows: list[int] = field(default_factory=list)
    given: set[int] = field(default_factory=set)
    renamed: set[str] = field(default_factory=set)  # old names of the label map that occur
    bad: list[BadFile] = field(default_factory=list)
    corrected: splits.Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    changed: splits.Mask = field(default_factory=lambda: np.zeros(0, np.bool_))

    @classmethod
    def empty(cls, corrections: int, **more: Any) -> "Inventory":
        """Nothing found yet, of so many corrections."""
        found = cls(**more)
        found.corrected, found.changed = (np.zeros(corrections, np.bool_) for _ in range(2))
        return found

    @property
    def rows(self) -> int:
        """Rows that are fit for use."""
        return sum(self.chunk_rows)


def reading(
    source: Source, columns: Columns, renamed: Mapping[str, str], *, given: int = FREE
) -> Reading:
    """How to read a source, whose split column counts only where it is there."""
    there = given == FREE and columns.split in source.schema.names
    split = columns.split if there else None
    _require_split_everywhere(source, columns.split if given == FREE else None)
    kept = columns.model_copy(update={"split": split})
    id_type = None if columns.id is None else source.schema.field(columns.id).type
    if id_type is not None and pa.types.is_dictionary(id_type):
        id_type = id_type.value_type
    if id_type is not None and pa.types.is_null(id_type):
        id_type = pa.string()
    return Reading(base(source.uri), source.format, kept, renamed, given, id_type)


def _require_split_everywhere(source: Source, column: str | None) -> None:
    """DataError where some files say what split their rows are of and others do not."""
    lacking = [file.path for file in source.files if column not in file.names]
    if column is not None and lacking and len(lacking) < len(source.files):
        raise DataError(
            f"--source {source.uri}: some files have the column {column!r}, which gives the split, "
            f"and {lacking[0]} has none. Give it to all files, or leave it out with "
            "--columns.split none."
        )


def read_keys(
    source: Source, how: Reading, ranges: int, scratch: str, *, on_bad_file: str, key: str
) -> tuple[Source, Inventory]:
    """The first pass; the source again, without the files that turned out to be unreadable.

    DataError for such a file, unless `on_bad_file` is `skip`.
    """
    while True:
        found = _pass(source, how, ranges, scratch)
        if not found.bad:
            return source, found
        if on_bad_file != "skip":
            raise DataError(f"--{key} {found.bad[0]}")
        # What such a file gave before it broke must not count: read again without it.
        source = source.without(found.bad)


def _pass(source: Source, how: Reading, ranges: int, scratch: str) -> Inventory:
    import ray

    chunks = source.chunks()
    corrections = 0 if how.corrections is None else how.corrections.texts
    found = Inventory.empty(corrections, chunk_rows=[0] * len(chunks))
    bad: dict[str, BadFile] = {}
    shared = [ray.put(chunks)]
    for message in passes.over(
        len(chunks), _write_keys, how=how, chunks=shared, ranges=ranges, folder=scratch
    ):
        if message["mistake"] is not None:
            raise DataError(message["mistake"])
        found.labels |= set(message["labels"])
        if len(found.labels) > MOST_LABELS:
            raise DataError(
                f"The column {how.columns.label!r} holds more than {MOST_LABELS:,} different "
                f"labels, for example {min(found.labels)!r}. Is --columns.label right?"
            )
        found.rejected += Counter(message["rejected"])
        found.given |= set(message["given"])
        found.renamed |= set(message["renamed"])
        found.corrected[message["corrected"]] = True
        found.changed[message["changed"]] = True
        found.chunk_rows[message["chunk"]] = message["rows"]
        found.files.append(KeyFile(message["uri"], tuple(message["offsets"])))
        bad |= {path: BadFile(path, problem) for path, problem in message["bad"]}
    found.bad = [bad[path] for path in sorted(bad)]
    return found


def _write_keys(
    number: int, how: Reading, chunks: list[Any], ranges: int, folder: str
) -> dict[str, Any]:
    """The keys of one chunk, into one scratch file; says what it found."""
    import ray

    parts: list[tuple[Part, ...]] = ray.get(chunks[0])
    corrections = None if how.corrections is None else how.corrections.get()
    found = Inventory.empty(0 if corrections is None else len(corrections.ids))
    keys: list[Keys] = []
    rows: list[tuple[Hashes, npt.NDArray[np.int8]]] = []
    mistake = None
    for part in parts[number]:
        try:
            # A file counts whole or not at all.
            keys += list(_keys(part, how, corrections, found, rows))
        except BadFile as error:
            found.bad.append(error)
        except DataError as error:
            # Told, not raised: Ray would print a stack trace over the sentence.
            mistake = str(error)
            break
    merged = merge_keys(keys)
    ids, reasons = zip(*rows, strict=True) if rows else ((), ())
    write_rows(
        np.concatenate([np.zeros(0, np.uint64), *ids]),
        np.concatenate([np.zeros(0, np.int8), *reasons]),
        rows_uri(folder, how.name, number),
    )
    uri = storage.join(folder, f"{how.name}-keys-{number:06d}.bin")
    return {
        "chunk": number,
        "labels": sorted(found.labels),
        "rejected": dict(found.rejected),
        "given": sorted(found.given),
        "renamed": sorted(found.renamed),
        "corrected": np.flatnonzero(found.corrected).tolist(),
        "changed": np.flatnonzero(found.changed).tolist(),
        "rows": int(merged["rows"].sum()),
        "uri": uri,
        "offsets": write_keys(merged, ranges, uri),
        "bad": [(error.path, error.problem) for error in found.bad],
        "mistake": mistake,
    }


def _keys(
    part: Part,
    how: Reading,
    corrections: Corrections | None,
    found: Inventory,
    seen: list[tuple[Hashes, npt.NDArray[np.int8]]],
) -> Iterator[Keys]:
    """The keys of a part, table by table; ids and reasons of all rows are added to `seen`."""
    fs, _ = storage.filesystem(how.uri)
    for table in read_part(fs, how.format, part, how.names):
        parsed, given = _parsed(table, how, part.file.path)
        found.renamed |= how.renamed.keys() & set(parsed.old_labels)
        ids = parsed.text_ids()
        if corrections is not None:
            parsed, at, changed = corrections.apply(parsed, ids)
            found.corrected[at] = True
            found.changed[at[changed]] = True
        for code, rows in enumerate(np.bincount(parsed.reasons, minlength=len(REASONS))):
            if code and rows:
                found.rejected[REASONS[code]] += int(rows)
        fit = parsed.fit
        names = parsed.labels.dictionary.to_pylist()
        codes = parsed.labels.indices.fill_null(0).to_numpy()[fit]
        found.labels |= {names[code] for code in np.unique(codes)}
        found.given |= set(np.unique(given[fit]).tolist())
        keys = np.zeros(len(fit), KEY)
        seen.append((ids, parsed.reasons))
        keys["id"] = ids[fit]
        keys["label"] = label_ids(names)[codes]
        keys["rows"] = 1
        keys["given"] = given[fit]
        yield keys


def _parsed(table: pa.Table, how: Reading, path: str) -> tuple[Parsed, splits.Sides]:
    """The rows of a table and the sides they come with; BadFile where a column is not understood.

    Bytes that are not UTF-8 show as well: what is not plain is decoded.
    """
    try:
        parsed = parse(table, how.columns, renamed=how.renamed)
        if parsed.ids is not None:
            parsed.ids.cast(how.id_type)
        return parsed, given_sides(table, how, path)
    # What Arrow raises for types that it cannot turn into text, and Python for bytes that are none.
    except (pa.ArrowException, ValueError, NotImplementedError) as error:
        raise BadFile(path, f"holds a column that cannot be read: {error}.") from None


def label_ids(names: Sequence[str]) -> Hashes:
    """uint64: the number that stands for a label before all labels are known."""
    return hashes(name.encode("utf-8", "surrogatepass") for name in names)


def given_sides(table: pa.Table, how: Reading, path: str) -> splits.Sides:
    """int8 [rows]: the side that each row comes with; DataError for one that is not known."""
    if how.columns.split is None:
        return np.full(table.num_rows, how.given, np.int8)
    coded = strings(table[how.columns.split]).dictionary_encode()
    values = [value.strip().lower() for value in coded.dictionary.to_pylist()]
    unknown = [name for name in coded.dictionary.to_pylist() if name.strip().lower() not in GIVEN]
    if coded.null_count or unknown:
        raise DataError(
            f"{path}: the column {how.columns.split!r} holds "
            f"{repr(unknown[0]) if unknown else 'nulls'}; it may hold train, validation and test. "
            "If it is no split, leave it out with --columns.split none."
        )
    sides = np.array([GIVEN[value] for value in values], np.int8)
    found: splits.Sides = sides[coded.indices.to_numpy(zero_copy_only=False)]
    return found
