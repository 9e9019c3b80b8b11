"""From raw records to prepared data: two streaming passes over the source.

The first pass reads keys alone (text id, label) and settles duplicates, conflicts and cuts; the
second reads the rows again and each task writes its rows to the side that the cuts give them. The
text of a row never leaves the task that read it, except for texts that stand under several
labels, which are written to conflicts/.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import DataError
from cluster.session import say
from jobs import splits
from jobs.classifier.labels import Labels
from jobs.classifier.text import Hashes, text_ids
from jobs.records import PATH, Source, dataset, parse
from jobs.settings import Columns, Split
from jobs.splits import SPLITS, TEST, Cuts, Texts

FORMAT_VERSION = 1
LEAK = "leak"


@dataclass(frozen=True)
class Keys:
    """(text id, label, rows) of a source, and its rejected rows by reason."""

    ids: Hashes
    labels: list[str]
    label_numbers: np.ndarray[Any, np.dtype[np.int32]]  # positions in `labels`
    rows: splits.Ints
    rejected: Counter[str]


@dataclass(frozen=True)
class Assignment:
    """All that a task needs to give each row its side; numbers alone, sent to every task.

    `side` is set for a source that is a split of its own.
    """

    labels: tuple[str, ...]
    cuts: Cuts
    seed: int
    conflicting: Hashes
    conflict_owners: np.ndarray[Any, np.dtype[np.int32]]
    leaks: Hashes
    side: int | None = None


def read_keys(source: Source, columns: Columns) -> Keys:
    """The first pass."""
    wanted = [*columns.text, columns.label]
    found = dataset(source, wanted).map_batches(
        _keys_of,
        batch_format="pyarrow",
        batch_size=None,
        fn_kwargs={"columns": columns.model_copy(update={"id": None})},
    )
    tables = [t for t in found.iter_batches(batch_format="pyarrow", batch_size=None) if t.num_rows]
    rejected: Counter[str] = Counter()
    if not tables:
        raise DataError(f"--source {source.uri} holds no row.")
    whole = pa.concat_tables(tables)
    bad = whole.filter(pa.compute.is_valid(whole["reason"]))
    for reason, rows in zip(bad["reason"].to_pylist(), bad["rows"].to_pylist(), strict=True):
        rejected[reason] += rows
    good = whole.filter(pa.compute.is_null(whole["reason"]))
    encoded = good["label"].combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return Keys(
        good["text_id"].to_numpy(),
        encoded.dictionary.to_pylist(),
        encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32),
        good["rows"].to_numpy(),
        rejected,
    )


def _keys_of(table: pa.Table, columns: Columns) -> pa.Table:
    """One row a distinct (text id, label) of a block, and one a reason for rejection."""
    parsed = parse(table, columns)
    good = [k for k, reason in enumerate(parsed.reasons) if reason is None]
    ids = text_ids(str(parsed.texts[k]) for k in good)
    pairs = (
        pa.table(
            {
                "text_id": pa.array(ids, pa.uint64()),
                "label": pa.array([parsed.labels[k] for k in good], pa.string()),
            }
        )
        .group_by(["text_id", "label"])
        .aggregate([([], "count_all")])
    )
    reasons = Counter(reason for reason in parsed.reasons if reason is not None)
    return pa.table(
        {
            "text_id": pa.concat_arrays(
                [pairs["text_id"].combine_chunks(), pa.array([0] * len(reasons), pa.uint64())]
            ),
            "label": [*pairs["label"].to_pylist(), *([""] * len(reasons))],
            "rows": pa.array([*pairs["count_all"].to_pylist(), *reasons.values()], pa.int64()),
            "reason": pa.array([*([None] * pairs.num_rows), *reasons], pa.string()),
        }
    )


def write_rows(
    source: Source, columns: Columns, assignment: Assignment, folder: str
) -> tuple[Counter[tuple[str, str]], Counter[str], dict[int, str]]:
    """The second pass: (rows per split and label, rejected per reason, texts in conflict)."""
    import ray

    wanted = [*columns.text, columns.label, *([columns.id] if columns.id else [])]
    told = dataset(source, wanted).map_batches(
        _write_block,
        batch_format="pyarrow",
        batch_size=None,
        fn_kwargs={"columns": columns, "assigned": ray.put(assignment), "folder": folder},
    )
    rows: Counter[tuple[str, str]] = Counter()
    rejected: Counter[str] = Counter()
    conflicts: dict[int, str] = {}
    for told_batch in told.iter_batches(batch_format="pyarrow", batch_size=None):
        for item in told_batch.to_pylist():
            if item["kind"] == "rows":
                rows[(item["split"], item["label"])] += item["rows"]
            elif item["kind"] == "rejected":
                rejected[item["label"]] += item["rows"]
            else:
                conflicts.setdefault(item["text_id"], item["label"])
    return rows, rejected, conflicts


def _write_block(table: pa.Table, columns: Columns, assigned: Any, folder: str) -> pa.Table:
    """Writes the rows of one block to their sides; says what it wrote."""
    import ray

    assignment: Assignment = ray.get(assigned)
    parsed = parse(table, columns)
    good = np.array([k for k, reason in enumerate(parsed.reasons) if reason is None], np.int64)
    texts = [str(parsed.texts[k]) for k in good]
    labels = [str(parsed.labels[k]) for k in good]
    ids = text_ids(texts)
    leaks = splits.member(ids, assignment.leaks)
    sides = _sides(ids, labels, assignment)
    name = _part_name(table)
    columns_out = {
        "text": pa.array(texts, pa.string()),
        "label": pa.array(labels, pa.string()),
        "text_id": pa.array(ids, pa.uint64()),
    }
    if parsed.ids is not None:
        columns_out["id"] = parsed.ids.take(pa.array(good))
    rows = pa.table(columns_out)
    told: list[dict[str, Any]] = []
    for side, split in enumerate(SPLITS):
        part = rows.filter(pa.array((sides == side) & ~leaks))
        if part.num_rows:
            _write(part, storage.join(folder, split), name)
        told += [
            {"kind": "rows", "split": split, "label": label, "rows": n, "text_id": 0}
            for label, n in Counter(part["label"].to_pylist()).items()
        ]
    told += _write_rejected(table, parsed, good[leaks], folder, name)
    seen = splits.member(ids, assignment.conflicting) & ~leaks
    told += [
        {"kind": "conflict", "split": "", "label": texts[k], "rows": 0, "text_id": int(ids[k])}
        for k in np.flatnonzero(seen)
    ]
    return pa.Table.from_pylist(
        told,
        schema=pa.schema(
            {
                "kind": pa.string(),
                "split": pa.string(),
                "label": pa.string(),
                "rows": pa.int64(),
                "text_id": pa.uint64(),
            }
        ),
    )


def _sides(
    ids: Hashes, labels: list[str], assignment: Assignment
) -> np.ndarray[Any, np.dtype[np.int8]]:
    if assignment.side is not None:
        return np.full(len(ids), assignment.side, dtype=np.int8)
    numbers = {label: c for c, label in enumerate(assignment.labels)}
    # A label may be in the source only on rows that leave as leaks: its side is never asked.
    owners = np.array([numbers.get(label, 0) for label in labels], dtype=np.int32)
    several = splits.member(ids, assignment.conflicting)
    places = np.searchsorted(assignment.conflicting, ids[several])
    owners[several] = assignment.conflict_owners[places]
    return assignment.cuts.sides(ids, owners, assignment.seed)


def _write_rejected(
    table: pa.Table, parsed: Any, leaking: np.ndarray[Any, Any], folder: str, name: str
) -> list[dict[str, Any]]:
    reasons = dict(enumerate(parsed.reasons)) | dict.fromkeys(leaking.tolist(), LEAK)
    bad = [k for k, reason in reasons.items() if reason is not None]
    if not bad:
        return []
    files = table[PATH].to_pylist()
    _write(
        pa.table(
            {
                "source_file": pa.array([files[k] for k in bad], pa.string()),
                "reason": pa.array([reasons[k] for k in bad], pa.string()),
                "text": pa.array([parsed.texts[k] for k in bad], pa.string()),
                "label": pa.array([parsed.labels[k] for k in bad], pa.string()),
            }
        ),
        storage.join(folder, "rejected"),
        name,
    )
    found = Counter(str(reasons[k]) for k in bad)
    return [
        {"kind": "rejected", "split": "", "label": reason, "rows": n, "text_id": 0}
        for reason, n in found.items()
    ]


def _part_name(table: pa.Table) -> str:
    """A name that depends on the block's content alone, so that a task that Ray runs twice writes
    one file."""
    digest = hashlib.blake2b(digest_size=12)
    for column in table.columns:
        for chunk in column.chunks:
            digest.update(str(chunk.to_pylist()).encode("utf-8", "surrogatepass"))
    return f"part-{digest.hexdigest()}.parquet"


def _write(table: pa.Table, folder: str, name: str) -> None:
    fs, path = storage.filesystem(folder)
    fs.create_dir(path, recursive=True)
    pq.write_table(table, storage.join(path, name), filesystem=fs, compression="zstd")


def write_conflicts(folder: str, texts: Mapping[int, str], keys: Keys) -> int:
    """conflicts/: one row a (text, label) of each text under several labels; how many texts."""
    if not texts:
        return 0
    wanted = np.sort(np.array(list(texts), dtype=np.uint64))
    pairs: Counter[tuple[int, str]] = Counter()
    for k in np.flatnonzero(splits.member(keys.ids, wanted)):
        pairs[(int(keys.ids[k]), keys.labels[keys.label_numbers[k]])] += int(keys.rows[k])
    ordered = sorted(pairs.items())
    _write(
        pa.table(
            {
                "text": pa.array([texts[i] for (i, _), _ in ordered], pa.string()),
                "label": pa.array([label for (_, label), _ in ordered], pa.string()),
                "rows": pa.array([n for _, n in ordered], pa.int64()),
            }
        ),
        storage.join(folder, "conflicts"),
        "conflicts.parquet",
    )
    return len(texts)


def write_empty_sides(folder: str, with_id: pa.DataType | None) -> None:
    """An empty file where a side has no rows, so that every reader finds the columns."""
    schema = {"text": pa.string(), "label": pa.string(), "text_id": pa.uint64()}
    if with_id is not None:
        schema["id"] = with_id
    for split in SPLITS:
        if not storage.list_files(storage.join(folder, split), ".parquet"):
            _write(pa.schema(schema).empty_table(), storage.join(folder, split), "part-0.parquet")


def prepare(
    source: Source,
    test_source: Source | None,
    columns: Columns,
    split: Split,
    folder: str,
) -> dict[str, Any]:
    """Writes all of the contract's folder but the report; the manifest, which is not yet written.

    Raises DataError before anything is written where the data cannot train a classifier.
    """
    say("Reading the keys of every row …")
    keys = read_keys(source, columns)
    test_keys = None if test_source is None else read_keys(test_source, columns)
    leaks = np.unique(test_keys.ids) if test_keys is not None else np.zeros(0, np.uint64)
    kept = ~splits.member(keys.ids, leaks)
    labels = _labels(keys, kept, source, test_keys, test_source)
    numbers = _renumber(keys, labels)
    texts = splits.settle(keys.ids[kept], numbers[kept], keys.rows[kept])
    cuts = splits.choose_cuts(
        texts,
        len(labels),
        validation=split.validation,
        test=0.0 if test_source is not None else split.test,
        seed=split.seed,
    )
    assignment = Assignment(
        labels.names,
        cuts,
        split.seed,
        texts.ids[texts.conflicting],
        texts.owners[texts.conflicting],
        leaks,
    )
    say("Writing every row to its side …")
    rows, rejected, conflict_texts = write_rows(source, columns, assignment, folder)
    if test_source is not None:
        given = Assignment(
            labels.names,
            cuts,
            split.seed,
            np.zeros(0, np.uint64),
            np.zeros(0, np.int32),
            np.zeros(0, np.uint64),
            side=TEST,
        )
        test_rows, test_rejected, _ = write_rows(test_source, columns, given, folder)
        rows, rejected = rows + test_rows, rejected + test_rejected
    conflicts = write_conflicts(folder, conflict_texts, keys)
    id_type = None if columns.id is None else source.schema.field(columns.id).type
    write_empty_sides(folder, id_type)
    counts = _distinct(texts, cuts, labels, split.seed, test_keys)
    total = sum(rows.values())
    return {
        "format_version": FORMAT_VERSION,
        "rows": total,
        "labels": {
            name: {
                side: {"rows": rows[(side, name)], "texts": int(counts[c, s])}
                for s, side in enumerate(SPLITS)
            }
            for c, name in enumerate(labels.names)
        },
        "cuts": {
            name: {"test": int(cuts.test[c]), "validation": int(cuts.validation[c])}
            for c, name in enumerate(labels.names)
        },
        "seed": split.seed,
        "rejected": dict(sorted(rejected.items())),
        "duplicates": total - int(counts.sum()),
        "conflicts": conflicts,
        "sources": [
            {"path": path, "bytes": size}
            for path, size in (*source.files, *(test_source.files if test_source else ()))
        ],
    }


def _labels(
    keys: Keys,
    kept: np.ndarray[Any, np.dtype[np.bool_]],
    source: Source,
    test_keys: Keys | None,
    test_source: Source | None,
) -> Labels:
    """The labels of the rows that remain; DataError where they cannot make a classifier."""
    if not kept.any():
        reasons = ", ".join(f"{n} × {reason}" for reason, n in keys.rejected.items())
        raise DataError(
            f"--source {source.uri} holds no usable row "
            f"({reasons or 'all are in the test source'})."
        )
    labels = Labels.of(keys.labels[k] for k in np.unique(keys.label_numbers[kept]))
    if len(labels) < 2:
        raise DataError(
            f"--source {source.uri} holds one label only, {labels.names[0]!r}: a classifier needs "
            "at least two. Is --columns.label right?"
        )
    if test_keys is not None and test_source is not None:
        labels.encode(test_keys.labels, where=f"--test-source {test_source.uri}")
    return labels


def _renumber(keys: Keys, labels: Labels) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Class numbers of the keys; -1 for labels that stand on leaking rows alone."""
    numbers = np.array([labels.ids.get(name, -1) for name in keys.labels], dtype=np.int32)
    return np.asarray(numbers[keys.label_numbers], dtype=np.int32)


def _distinct(
    texts: Texts, cuts: Cuts, labels: Labels, seed: int, test_keys: Keys | None
) -> splits.Ints:
    """int64 [classes, 3]: distinct texts per class and split."""
    sides = cuts.sides(texts.ids, texts.owners, seed)
    counts = splits.table(sides, texts.owners, len(labels))
    if test_keys is not None:
        given = splits.settle(test_keys.ids, _renumber(test_keys, labels), test_keys.rows)
        everywhere = np.full(len(given.ids), TEST, dtype=np.int8)
        counts += splits.table(everywhere, given.owners, len(labels))
    return counts
