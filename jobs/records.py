"""Reading labelled text: what is there, which columns, which rows are fit for use.

Knows nothing of splits or models. Rows go through Ray Data as Arrow tables; none is collected
here.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import DataError
from jobs.classifier.text import join_columns
from jobs.settings import Columns

# A million characters is a book: a mistake in the source, and a stall for the tokenizer.
MAX_CHARACTERS = 1_000_000
PATH = "path"  # the column in which Ray Data names the file of a row


@dataclass(frozen=True)
class Source:
    """The Parquet files at a URI."""

    uri: str
    files: tuple[tuple[str, int], ...]  # path inside the filesystem, bytes
    schema: pa.Schema

    @property
    def size(self) -> int:
        return sum(size for _, size in self.files)


@dataclass(frozen=True)
class Parsed:
    """Rows of one table: `reasons[k]` is None for a row that is fit for use."""

    texts: list[str | None]
    labels: list[str | None]
    ids: pa.Array | None
    reasons: list[str | None]


def open_source(uri: str, *, key: str = "source") -> Source:
    """The source at `uri`; DataError if it is missing, empty or not Parquet."""
    if not storage.exists(uri):
        raise DataError(f"--{key} {uri} does not exist.")
    files = storage.list_files(uri, ".parquet")
    if not files:
        raise DataError(f"--{key} {uri} holds no .parquet file.")
    fs, _ = storage.filesystem(uri)
    with ThreadPoolExecutor(16) as readers:
        schemas = list(readers.map(lambda file: _schema(fs, file[0], key), files))
    for (path, _), schema in zip(files, schemas, strict=True):
        if schema.names != schemas[0].names:
            raise DataError(
                f"--{key} {path} has the columns {', '.join(schema.names)}, but {files[0][0]} has "
                f"{', '.join(schemas[0].names)}. All files of a source need the same columns."
            )
    return Source(uri, tuple(files), schemas[0])


def _schema(fs: Any, path: str, key: str) -> pa.Schema:
    try:
        return pq.read_schema(path, filesystem=fs)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"--{key} {path} is not a readable Parquet file: {error}.") from None


def require_columns(
    source: Source, columns: Columns, *, key: str = "source", labelled: bool = True
) -> None:
    """DataError unless the columns are there and hold what they must.

    Names the columns that are there. Text and labels may be strings or integers, plain or
    dictionary-encoded.
    """
    read = [*columns.text, *([columns.label] if labelled else [])]
    missing = [
        name
        for name in [*read, *([columns.id] if columns.id else [])]
        if name not in source.schema.names
    ]
    if missing:
        raise DataError(
            f"--{key} {source.uri} has no column {', '.join(map(repr, missing))}. It has: "
            f"{', '.join(source.schema.names)}. Name others with --columns.text and "
            "--columns.label."
        )
    for name in read:
        kind = source.schema.field(name).type
        if not _is_readable(kind.value_type if pa.types.is_dictionary(kind) else kind):
            raise DataError(
                f"--{key} {source.uri}: the column {name!r} holds {kind}; text and labels must be "
                "strings or integers. Integers with nulls often become floating-point numbers in "
                "pandas: its dtype Int64 keeps them."
            )


def _is_readable(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_null(kind)
    )


def dataset(
    source: Source, columns: Sequence[str] | None = None, *, with_path: bool = False
) -> Any:
    """A Ray Dataset of the source's rows, on request with the file of each in the column `path`.

    Ray would replace a column of that name: DataError if the source has one that is read.
    """
    import ray

    if with_path and PATH in (columns or source.schema.names):
        raise DataError(
            f"{source.uri} has a column {PATH!r}, a name that is needed for the file of each row. "
            "Rename the column."
        )
    fs, _ = storage.filesystem(source.uri)
    files = [path for path, _ in source.files]
    rows = ray.data.read_parquet(files, filesystem=fs, include_paths=with_path)
    wanted = list(dict.fromkeys(columns or []))
    return rows.select_columns([*wanted, *([PATH] if with_path else [])]) if columns else rows


def parse(table: pa.Table, columns: Columns, *, labelled: bool = True) -> Parsed:
    """Texts, labels and ids of a table, with the reason why a row cannot be used."""
    texts = join_columns([_strings(table[name]) for name in columns.text])
    labels: list[str | None] = ["?"] * len(texts)
    if labelled:
        labels = _strings(table[columns.label])
    ids = None if columns.id is None else table[columns.id].combine_chunks()
    reasons = [_reason(text, label) for text, label in zip(texts, labels, strict=True)]
    return Parsed(texts, labels, ids, reasons)


def _reason(text: str | None, label: str | None) -> str | None:
    if text is None:
        return "null text"
    if not text.strip():
        return "empty text"
    if len(text) > MAX_CHARACTERS:
        return "over-long text"
    if label is None:
        return "null label"
    return None if label.strip() else "empty label"


def _strings(column: pa.ChunkedArray) -> list[str | None]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return list(column.cast(pa.string()).to_pylist())
