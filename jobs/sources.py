"""Where records lie: files at a URI, in one format, and the chunks in which they are read.

A source is a file, a folder (folders named `key=value` give columns), or a glob. Knows nothing of
what the columns mean; tables are read batch by batch, and none is kept.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import DataError
from jobs import text_files

# A chunk is the work of one task: large enough that starting one costs nothing, small enough
# that a few fit in the memory of a core.
CHUNK_ROWS = 262_144
CHUNK_BYTES = 256 << 20
BATCH_ROWS = 32_768
BATCH_BYTES = 32 << 20  # long texts come in smaller batches
WILDCARDS = re.compile(r"[*?\[]")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # how Hive and Spark write a null into a folder's name


class BadFile(Exception):
    """A file that cannot be read; whether that ends the work is for the caller to say."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path} {self.problem}"


@dataclass(frozen=True)
class File:
    """One file: `groups` are (rows, bytes) of its row groups; none where the format has none."""

    path: str
    size: int
    names: tuple[str, ...] = ()
    groups: tuple[tuple[int, int], ...] = ()
    partition: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class Part:
    """Some row groups of a file, or all of a file that has none."""

    file: File
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """The files at a URI, of one format; `schema` is that of most of them, folders included."""

    uri: str
    format: str
    files: tuple[File, ...]
    schema: pa.Schema
    bad: tuple[BadFile, ...] = field(default=())

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def rows(self) -> int | None:
        """Rows, where the files' footers say so."""
        if self.format != "parquet":
            return None
        return sum(rows for file in self.files for rows, _ in file.groups)

    def without(self, bad: Sequence[BadFile]) -> "Source":
        """The source without files that turned out to be unreadable."""
        gone = {file.path for file in bad}
        files = tuple(file for file in self.files if file.path not in gone)
        if not files:
            raise DataError(f"{self.uri}: no file can be read. {bad[0]}")
        return replace(self, files=files, bad=(*self.bad, *bad))

    def chunks(self, most_rows: int | None = None) -> list[tuple[Part, ...]]:
        """The files in chunks: every row group in exactly one, and no more than `most_rows` in a
        chunk (default CHUNK_ROWS) unless a single row group has more."""
        most_rows = most_rows or CHUNK_ROWS
        chunks: list[list[Part]] = []
        rows = size = 0
        for file in self.files:
            for part, part_rows, part_size in _parts(file):
                full = rows + part_rows > most_rows or size + part_size > CHUNK_BYTES
                if not chunks or (full and rows + size > 0):
                    chunks.append([])
                    rows = size = 0
                _append(chunks[-1], part)
                rows, size = rows + part_rows, size + part_size
        return [tuple(chunk) for chunk in chunks]


def _parts(file: File) -> Iterator[tuple[Part, int, int]]:
    if not file.groups:
        yield Part(file, ()), 0, file.size
    for number, (rows, size) in enumerate(file.groups):
        yield Part(file, (number,)), rows, size


def _append(chunk: list[Part], part: Part) -> None:
    if chunk and chunk[-1].file is part.file:
        chunk[-1] = Part(part.file, (*chunk[-1].groups, *part.groups))
    else:
        chunk.append(part)


def base(uri: str) -> str:
    """The part of a URI before its first wildcard: what has to exist.

    A local place that is really called so is no glob.
    """
    found = WILDCARDS.search(uri)
    if found is None or (storage.is_local(uri) and storage.exists(uri)):
        return uri
    return storage.parent(uri[: found.start()] + "x")


def open_source(uri: str, *, key: str = "source", on_bad_file: str = "fail") -> Source:
    """The source at `uri`, after a look at every file.

    DataError if it is missing or empty, and for a file that cannot be read unless `on_bad_file`
    is `skip`: then such files stand in `bad`.
    """
    found = _list(uri, key)
    kind, paths = text_files.format_of(uri, found, key)
    inside = storage.filesystem(base(uri))[1]
    fs, _ = storage.filesystem(base(uri))
    with ThreadPoolExecutor(16) as readers:
        looked = list(readers.map(lambda found: _look(fs, kind, found[0], found[1], inside), paths))
    bad = [item for item in looked if isinstance(item, BadFile)]
    good = [item for item in looked if not isinstance(item, BadFile)]
    if bad and (on_bad_file != "skip" or not good):
        raise DataError(f"--{key} {bad[0]}")
    return Source(uri, kind, tuple(file for file, _ in good), _common(good), tuple(bad))


def _list(uri: str, key: str) -> list[tuple[str, int]]:
    place = base(uri)
    if not storage.exists(place):
        raise DataError(f"--{key} {place} does not exist.")
    files = storage.list_files(place)
    if place != uri:
        wanted = _pattern(storage.join(storage.filesystem(place)[1], uri[len(place) :].lstrip("/")))
        files = [file for file in files if wanted.fullmatch(file[0])]
        if not files:
            raise DataError(f"--{key} {uri} matches no file.")
    return files


def _pattern(glob: str) -> re.Pattern[str]:
    """A glob as a pattern of whole paths: `**` crosses folders; a folder stands for its files."""
    pieces = re.split(r"(\*\*/?|\*|\?|\[[^\]]*\])", glob)
    plain = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    translated = [
        plain.get(piece) or (piece.replace("[!", "[^") if _is_set(piece) else re.escape(piece))
        for piece in pieces
    ]
    return re.compile("".join(translated) + r"(?:/.*)?", re.DOTALL)


def _is_set(piece: str) -> bool:
    return len(piece) > 2 and piece[0] == "[" and piece[-1] == "]"


def _look(
    fs: Any, kind: str, path: str, size: int, inside: str
) -> tuple[File, pa.Schema] | BadFile:
    """What a file says of itself; a BadFile where it says nothing that can be understood."""
    partition = _partition(path[len(inside) :])
    try:
        if kind != "parquet":
            schema = text_files.schema(fs, kind, path)
            groups: tuple[tuple[int, int], ...] = ()
        else:
            footer = pq.read_metadata(path, filesystem=fs)
            schema = footer.schema.to_arrow_schema()
            found = [footer.row_group(k) for k in range(footer.num_row_groups)]
            groups = tuple((group.num_rows, group.total_byte_size) for group in found)
    except (OSError, pa.ArrowException, ValueError) as error:
        return BadFile(path, f"is not a readable {text_files.NAMES[kind]} file: {_brief(error)}.")
    for name, _ in partition:
        if name not in schema.names:
            schema = schema.append(pa.field(name, pa.string()))
    return File(path, size, tuple(schema.names), groups, partition), schema


def _brief(error: Exception) -> str:
    if "CLOUDPICKLE" in str(error):
        # Ray's own advice, to switch loading on, would run what the file brings (CVE-2026-41486).
        return (
            "it carries pickled metadata of Ray tensors, which is never loaded because it could "
            "run any code; write it without tensor columns"
        )
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]


def _partition(inside: str) -> tuple[tuple[str, str | None], ...]:
    """The columns that the folders of a path give."""
    pairs = [part.split("=", 1) for part in inside.split("/")[:-1] if "=" in part]
    return tuple((k, None if v == NO_VALUE else unquote(v)) for k, v in pairs if k)


def _common(good: Sequence[tuple[File, pa.Schema]]) -> pa.Schema:
    """The schema of most files (the first of equals): what a source is held to have."""
    counted: dict[tuple[str, ...], int] = {}
    for file, _ in good:
        counted[file.names] = counted.get(file.names, 0) + 1
    most = max(counted, key=lambda names: counted[names])
    return next(schema for file, schema in good if file.names == most)


def read_part(
    fs: Any, kind: str, part: Part, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The rows of a part, at most BATCH_ROWS at a time, with the folders' columns.

    `columns`: those wanted (default all). Raises BadFile.
    """
    file = part.file
    given = dict(file.partition)
    missing = [name for name in columns or () if name not in file.names]
    if missing:
        raise BadFile(
            file.path,
            f"has no column {', '.join(map(repr, missing))}. It has: {', '.join(file.names)}.",
        )
    wanted = None if columns is None else list(dict.fromkeys(columns))
    try:
        if kind == "parquet":
            yield from _read_parquet(fs, part, wanted, given)
        else:
            for table in text_files.read(fs, kind, file.path, BATCH_ROWS):
                yield _with_folders(table, wanted, given)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise BadFile(file.path, f"cannot be read to its end: {_brief(error)}.") from None


def _read_parquet(
    fs: Any, part: Part, wanted: list[str] | None, given: dict[str, str | None]
) -> Iterator[pa.Table]:
    if not part.groups:
        return  # a file of no rows
    rows, size = (sum(part.file.groups[g][k] for g in part.groups) for k in (0, 1))
    batch_rows = max(64, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))
    with pq.ParquetFile(part.file.path, filesystem=fs, pre_buffer=False) as file:
        inside = set(file.schema_arrow.names)
        read = None if wanted is None else [name for name in wanted if name in inside]
        for batch in file.iter_batches(
            batch_rows, row_groups=list(part.groups), columns=read, use_threads=False
        ):
            yield _with_folders(pa.Table.from_batches([batch]), wanted, given)


def _with_folders(
    table: pa.Table, wanted: list[str] | None, given: dict[str, str | None]
) -> pa.Table:
    for name, value in given.items():
        if name not in table.column_names and (wanted is None or name in wanted):
            column = pa.array([value] * table.num_rows, pa.string())
            table = table.append_column(name, column)
    return table if wanted is None else table.select(wanted)
