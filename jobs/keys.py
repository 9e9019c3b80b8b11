"""The first pass over a source: the key of every row, and nothing else of it.

A key is (text id, label). Blocks are reduced to their distinct keys where they are read, so that
texts never travel.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError
from jobs import splits
from jobs.classifier.text import Hashes, text_ids
from jobs.records import Source, dataset, parse
from jobs.settings import Columns


@dataclass(frozen=True)
class Keys:
    """(text id, label, rows) of a source, and its rejected rows by reason."""

    ids: Hashes
    labels: list[str]
    label_numbers: np.ndarray[Any, np.dtype[np.int32]]  # positions in `labels`
    rows: splits.Ints
    rejected: Counter[str]


def read_keys(source: Source, columns: Columns, *, key: str = "source") -> Keys:
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
        raise DataError(f"--{key} {source.uri} holds no row.")
    whole = pa.concat_tables(tables)
    bad = whole.filter(pc.is_valid(whole["reason"]))
    for reason, rows in zip(bad["reason"].to_pylist(), bad["rows"].to_pylist(), strict=True):
        rejected[reason] += rows
    good = whole.filter(pc.is_null(whole["reason"]))
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
