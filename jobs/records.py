"""What is in a row: its text, its label, and whether it is fit for use.

Knows nothing of splits or models. Works on whole Arrow columns; only texts that are not plainly in
their normal form are looked at one by one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster import storage
from cluster.errors import DataError
from jobs import passes
from jobs.classifier.text import Hashes, hashes, normalise
from jobs.data_settings import Columns
from jobs.sources import BadFile, Part, Source, base, read_part

# A million characters is a book: a mistake in the source, and a stall for the tokenizer.
MAX_CHARACTERS = 1_000_000
# A text that is its own normal form: words with single blanks between, in characters that NFC
# leaves as they are whatever stands beside them (ASCII, Latin, most Greek and Cyrillic, dashes and
# quotes, the euro, kana, Chinese characters, Hangul syllables, pictographs). A test looks at each.
WORD = (
    r"[\x21-\x7e\x{a1}-\x{2ff}\x{388}-\x{3ff}\x{400}-\x{481}\x{48a}-\x{52f}\x{2010}-\x{2027}"
    r"\x{20ac}\x{3041}-\x{3096}\x{30a1}-\x{30fa}\x{4e00}-\x{9fff}\x{ac00}-\x{d7a3}"
    r"\x{1f300}-\x{1faff}]+"
)
PLAIN = rf"^{WORD}(?: {WORD})*$"
# Reasons why a row cannot be used; `Parsed.reasons` holds positions in this tuple.
REASONS = (
    "",
    "null text",
    "empty text",
    "over-long text",
    "null label",
    "empty label",
    "dropped label",
)
FIT, NULL_TEXT, EMPTY_TEXT, LONG_TEXT, NULL_LABEL, EMPTY_LABEL, DROPPED_LABEL = range(7)


@dataclass(frozen=True)
class Parsed:
    """Rows of one table.

    `reasons` int8 [rows]: FIT for rows that can be used, else why not. `labels`: dictionary of
    strings [rows], under their new names. `ids`: the id column or None.
    """

    texts: pa.StringArray
    labels: pa.DictionaryArray
    ids: pa.Array | None
    reasons: npt.NDArray[np.int8]
    plain: npt.NDArray[np.bool_] | None  # texts in their normal form, where that was looked for
    old_labels: tuple[str, ...] = ()  # the labels that occur, under their old names

    @property
    def fit(self) -> npt.NDArray[np.int64]:
        """int64: the rows that can be used."""
        return np.flatnonzero(self.reasons == FIT)

    @property
    def has_text(self) -> npt.NDArray[np.bool_]:
        """bool [rows]: those whose text can be used, whatever their label."""
        return np.asarray((self.reasons == FIT) | (self.reasons > LONG_TEXT))

    def text_ids(self) -> Hashes:
        """uint64 [rows]: the id of each text, 0 for rows whose text cannot be used."""
        ids = np.zeros(len(self.texts), np.uint64)
        usable = self.has_text
        known = np.zeros_like(usable) if self.plain is None else self.plain
        plain, rough = usable & known, usable & ~known
        ids[plain] = hashes(self.texts.filter(pa.array(plain)).cast(pa.binary()).to_pylist())
        found = self.texts.filter(pa.array(rough)).to_pylist()
        ids[rough] = hashes(normalise(text).encode("utf-8", "surrogatepass") for text in found)
        return ids


def require_columns(
    source: Source, columns: Columns, *, key: str = "source", labelled: bool = True
) -> None:
    """DataError unless the columns are there and hold what they must.

    Names the columns that are there. Text and labels may be strings or integers, plain or
    dictionary-encoded.
    """
    read = [*columns.text, *([columns.label] if labelled else [])]
    # The split column is used where it is there, unless someone asked for it by name.
    split = columns.split if labelled and "split" in columns.model_fields_set else None
    others = [name for name in (columns.id, split) if name is not None]
    missing = [name for name in [*read, *others] if name not in source.schema.names]
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


def require_same_columns(source: Source, *, key: str = "source") -> None:
    """DataError unless all files have the same columns, which reading all of them takes."""
    for file in source.files:
        if sorted(file.names) != sorted(source.schema.names):
            raise DataError(
                f"--{key} {file.path} has the columns {', '.join(file.names)}, but most files have "
                f"{', '.join(source.schema.names)}. All files need the same columns here."
            )


def _is_readable(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_null(kind)
    )


def dataset(source: Source) -> Any:
    """A Ray Dataset of the source's rows, in order where order is kept."""
    import ray

    chunks = source.chunks()
    return passes.numbered(
        len(chunks),
        _read_chunks,
        uri=base(source.uri),
        kind=source.format,
        chunks=ray.put(chunks),
        schema=source.schema,
    )


def _read_chunks(
    numbers: pa.Table, uri: str, kind: str, chunks: Any, schema: pa.Schema
) -> Iterator[pa.Table]:
    import ray

    fs, _ = storage.filesystem(uri)
    parts: list[tuple[Part, ...]] = ray.get(chunks)
    for number in numbers["id"].to_pylist():
        for part in parts[number]:
            for table in whole_batches(read_part(fs, kind, part, schema.names)):
                yield table.cast(schema) if table.schema != schema else table


def whole_batches(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same tables; a file that cannot be read ends the work and is named."""
    try:
        yield from tables
    except BadFile as error:
        raise DataError(str(error)) from None


def parse(
    table: pa.Table,
    columns: Columns,
    *,
    labelled: bool = True,
    renamed: Mapping[str, str] | None = None,
    reasons: npt.NDArray[np.int8] | None = None,
) -> Parsed:
    """Texts, labels and ids of a table, with the reason why a row cannot be used.

    Several text columns are joined by one newline, in their order; a row in which all of them are
    null has no text. `renamed`: old label → new, empty for those to drop. `reasons`: those of an
    earlier look at the same rows, which are then not looked for again.
    """
    texts = _text(table, columns.text)
    ids = None if columns.id is None else table[columns.id].combine_chunks()
    labels = pa.array(np.zeros(len(texts), np.int32)).dictionary_encode()
    found = np.zeros(len(texts), np.int8)
    old: tuple[str, ...] = ()
    if labelled:
        labels, found, old = _labels(table[columns.label], renamed or {})
    if reasons is not None:
        return Parsed(texts, labels, ids, reasons, None, old)
    plain = _judge_texts(texts, found)
    return Parsed(texts, labels, ids, found, plain, old)


def _judge_texts(texts: pa.StringArray, reasons: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Sets the reasons of texts that cannot be used; which texts are in their normal form."""
    plain = _mask(pc.match_substring_regex(texts, PLAIN))
    rough = np.flatnonzero(~plain)
    bare = [not (text or "").strip() for text in texts.take(pa.array(rough)).to_pylist()]
    reasons[rough[np.array(bare, np.bool_)]] = EMPTY_TEXT
    # A character is a byte or more: only texts of that many bytes have to be counted.
    if (pc.max(pc.binary_length(texts)).as_py() or 0) > MAX_CHARACTERS:
        reasons[_mask(pc.greater(pc.utf8_length(texts), MAX_CHARACTERS))] = LONG_TEXT
    reasons[_mask(pc.is_null(texts))] = NULL_TEXT
    return plain


def _text(table: pa.Table, names: Sequence[str]) -> pa.StringArray:
    joined, *others = [strings(table[name]) for name in names]
    # Not null_handling="skip": there pyarrow 26 leaves out rows in which all are null.
    for column in others:
        both = pc.binary_join_element_wise(joined, column, "\n")
        joined = pc.if_else(pc.is_null(column), joined, pc.coalesce(both, column))
    return joined


def _labels(
    column: pa.ChunkedArray, renamed: Mapping[str, str]
) -> tuple[pa.DictionaryArray, npt.NDArray[np.int8], tuple[str, ...]]:
    """Labels under their new names; per row NULL_LABEL, EMPTY_LABEL, DROPPED_LABEL or FIT; and
    the old names that occur."""
    coded = strings(column).dictionary_encode()
    old = coded.dictionary.to_pylist()
    new = [renamed.get(name, name) for name in old]
    verdicts = np.array([*map(_verdict, old, new), NULL_LABEL], np.int8)
    # A dropped label keeps its name, for the record; two old names may have become one.
    kept = [b if verdict == FIT else a for a, b, verdict in zip(old, new, verdicts, strict=False)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(kept))}
    places = np.array([*(numbers[name] for name in kept), 0], np.int32)
    missing = _mask(coded.indices.is_null())
    # A null label stands behind the last.
    codes = np.where(missing, len(old), coded.indices.fill_null(0).to_numpy())
    labels = pa.DictionaryArray.from_arrays(
        pa.array(places[codes], mask=missing), pa.array([*numbers] or [""], pa.string())
    )
    return labels, verdicts[codes], tuple(old)


def _verdict(old: str, new: str) -> int:
    if not old.strip():
        return EMPTY_LABEL
    return FIT if new.strip() else DROPPED_LABEL


def strings(column: pa.ChunkedArray) -> pa.StringArray:
    """A column as text, whatever kind of strings or numbers it holds."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    found = column.cast(pa.string()).combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _mask(values: Any) -> npt.NDArray[np.bool_]:
    return np.asarray(values.fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)
