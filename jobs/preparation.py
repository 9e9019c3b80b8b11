"""From raw records to prepared data: two streaming passes over the source.

The first pass (jobs.keys) reads keys alone and settles duplicates, conflicts and cuts; the second
(jobs.sides) reads the rows again and each task writes its rows to the side that the cuts give
them. The text of a row never leaves the task that read it, except for texts that stand under
several labels, which are written to conflicts/.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cluster import storage
from cluster.errors import DataError
from cluster.session import say
from jobs import splits
from jobs.classifier.labels import Labels
from jobs.keys import Keys, read_keys
from jobs.records import Source
from jobs.settings import Columns, Split
from jobs.sides import REJECTED, Assignment, write_part, write_rows
from jobs.splits import SPLITS, TEST, Cuts, Texts

FORMAT_VERSION = 1
CONFLICTS = pa.schema({"text": pa.string(), "label": pa.string(), "rows": pa.int64()})


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
    test_keys = None if test_source is None else read_keys(test_source, columns, key="test-source")
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
    write_empty_parts(folder, id_type)
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


def write_conflicts(folder: str, texts: Mapping[int, str], keys: Keys) -> int:
    """conflicts/: one row a (text, label) of each text under several labels; how many texts."""
    if not texts:
        return 0
    wanted = np.sort(np.array(list(texts), dtype=np.uint64))
    pairs: Counter[tuple[int, str]] = Counter()
    for k in np.flatnonzero(splits.member(keys.ids, wanted)):
        pairs[(int(keys.ids[k]), keys.labels[keys.label_numbers[k]])] += int(keys.rows[k])
    ordered = sorted(pairs.items())
    write_part(
        pa.table(
            [
                [texts[i] for (i, _), _ in ordered],
                [label for (_, label), _ in ordered],
                [n for _, n in ordered],
            ],
            schema=CONFLICTS,
        ),
        storage.join(folder, "conflicts"),
        "conflicts.parquet",
    )
    return len(texts)


def write_empty_parts(folder: str, id_type: pa.DataType | None) -> None:
    """An empty file where there are no rows, so that every reader finds folder and columns."""
    rows = {"text": pa.string(), "label": pa.string(), "text_id": pa.uint64()}
    if id_type is not None:
        rows["id"] = id_type
    parts = dict.fromkeys(SPLITS, pa.schema(rows))
    parts |= {"rejected": REJECTED, "conflicts": CONFLICTS}
    for name, schema in parts.items():
        place = storage.join(folder, name)
        if not storage.list_files(place, ".parquet"):
            write_part(schema.empty_table(), place, "part-0.parquet")


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
