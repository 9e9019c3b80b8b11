"""Records in JSON lines and CSV, as a convenience: Parquet is what scales.

Every CSV column is text, as nothing in the file says more. In JSON lines the first rows decide
the columns; numbers under a column of text become text.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc

from cluster.errors import DataError
from cluster.session import say

NAMES = {"parquet": "Parquet", "csv": "CSV", "tsv": "TSV", "jsonl": "JSON lines"}
SUFFIXES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
HEAD_ROWS = 1000  # rows of a JSON lines file that decide its columns
BLOCK_BYTES = 8 << 20


def format_of(
    uri: str, files: Sequence[tuple[str, int]], key: str
) -> tuple[str, list[tuple[str, int]]]:
    """The format of a source and its files of that format; DataError where there is not one.

    A single file of an unknown ending is taken for Parquet. Parquet comes before all others.
    """
    kinds: dict[str, list[tuple[str, int]]] = {}
    for path, size in files:
        kind = _kind(path)
        if kind is not None:
            kinds.setdefault(kind, []).append((path, size))
    if not kinds and len(files) == 1 and files[0][0].rstrip("/").endswith(uri.rsplit("/", 1)[-1]):
        return "parquet", list(files)
    if not kinds:
        raise DataError(
            f"--{key} {uri} holds no .parquet file, and no {', '.join(list(SUFFIXES)[1:])} either."
        )
    if "parquet" in kinds:
        others = sum(len(found) for kind, found in kinds.items() if kind != "parquet")
        if others:
            say(f"warning: --{key} {uri}: {others} file(s) beside the Parquet files are not read.")
        return "parquet", kinds["parquet"]
    if len(kinds) > 1:
        raise DataError(
            f"--{key} {uri} holds {' and '.join(sorted(NAMES[k] for k in kinds))} files. Name "
            "those of one format with a glob, such as '/data/*.csv'."
        )
    return next(iter(kinds.items()))


def _kind(path: str) -> str | None:
    plain = path.lower().removesuffix(".gz")
    ending = "." + plain.rsplit(".", 1)[-1]
    kind = SUFFIXES.get(ending)
    return None if kind == "parquet" and path.lower().endswith(".gz") else kind


def schema(fs: Any, kind: str, path: str) -> pa.Schema:
    """The columns of a file; ValueError or pyarrow's errors where it has none."""
    if kind == "jsonl":
        with fs.open_input_stream(path, compression="detect") as stream:
            rows = [row for _, row in itertools.islice(_objects(stream), HEAD_ROWS)]
        return _columns(rows)
    with _csv(fs, kind, path) as reader:
        return pa.schema([(name, pa.string()) for name in reader.schema.names])


def read(fs: Any, kind: str, path: str, batch_rows: int) -> Iterator[pa.Table]:
    """The rows of a file, batch by batch; ValueError names the line that cannot be read."""
    if kind != "jsonl":
        names = schema(fs, kind, path).names
        with _csv(fs, kind, path, names) as reader:
            for batch in reader:
                for start in range(0, batch.num_rows, batch_rows):
                    yield pa.Table.from_batches([batch.slice(start, batch_rows)])
        return
    columns = schema(fs, kind, path)
    with fs.open_input_stream(path, compression="detect") as stream:
        rows = _objects(stream)
        while part := list(itertools.islice(rows, batch_rows)):
            yield _table(part, columns)


def _csv(fs: Any, kind: str, path: str, names: Sequence[str] = ()) -> Any:
    return pc.open_csv(
        fs.open_input_stream(path, compression="detect"),
        pc.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        pc.ParseOptions(delimiter="\t" if kind == "tsv" else ",", newlines_in_values=True),
        pc.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )


def _objects(stream: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the line, object) for each line that is not blank."""
    for number, line in enumerate(_lines(stream), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        yield number, row


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while data := stream.read(BLOCK_BYTES):
        *whole, rest = (rest + data).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _columns(rows: Sequence[dict[str, Any]]) -> pa.Schema:
    """A column a key, in the order in which they appear: whole numbers where all are, else text."""
    values: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, set()).add(type(value))
    if not values:
        raise ValueError("it holds no object")
    plain = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    fields = []
    for name, kinds in values.items():
        known = kinds - {type(None)}
        only = next(iter(known)) if len(known) == 1 else str
        fields.append((name, plain.get(only, pa.string())))
    return pa.schema(fields)


def _table(part: Sequence[tuple[int, dict[str, Any]]], columns: pa.Schema) -> pa.Table:
    arrays = []
    for column in columns:
        values = [row.get(column.name) for _, row in part]
        if pa.types.is_string(column.type):
            values = [_text(value) for value in values]
        try:
            arrays.append(pa.array(values, column.type))
        except (pa.ArrowException, OverflowError) as error:
            first, last = part[0][0], part[-1][0]
            raise ValueError(
                f"{column.name!r} changes its type between line {first} and {last} ({error})"
            ) from None
    return pa.table(arrays, schema=columns)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
