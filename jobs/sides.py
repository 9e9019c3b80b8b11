"""The second pass over a source: every row written to its side by the task that read it."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from jobs import splits
from jobs.classifier.text import Hashes, text_ids
from jobs.records import PATH, Parsed, Source, dataset, parse
from jobs.settings import Columns
from jobs.splits import SPLITS, Cuts

LEAK = "leak"
REJECTED = pa.schema(
    {"source_file": pa.string(), "reason": pa.string(), "text": pa.string(), "label": pa.string()}
)


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


def write_rows(
    source: Source, columns: Columns, assignment: Assignment, folder: str
) -> tuple[Counter[tuple[str, str]], Counter[str], dict[int, str]]:
    """The second pass: (rows per split and label, rejected per reason, texts in conflict)."""
    import ray

    wanted = [*columns.text, columns.label, *([columns.id] if columns.id else [])]
    told = dataset(source, wanted, with_path=True).map_batches(
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
            write_part(part, storage.join(folder, split), name)
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
    table: pa.Table, parsed: Parsed, leaking: np.ndarray[Any, Any], folder: str, name: str
) -> list[dict[str, Any]]:
    reasons = dict(enumerate(parsed.reasons)) | dict.fromkeys(leaking.tolist(), LEAK)
    bad = [k for k, reason in reasons.items() if reason is not None]
    if not bad:
        return []
    files = table[PATH].to_pylist()
    write_part(
        pa.table(
            [
                [files[k] for k in bad],
                [reasons[k] for k in bad],
                [parsed.texts[k] for k in bad],
                [parsed.labels[k] for k in bad],
            ],
            schema=REJECTED,
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
    """A name from the block's task and content: a task that Ray runs twice writes one file, and
    two blocks that happen to be equal write two."""
    from ray.data._internal.execution.interfaces.task_context import TaskContext

    task = TaskContext.get_current()
    digest = hashlib.blake2b(str(task.task_idx if task else 0).encode(), digest_size=12)
    for column in table.columns:
        for chunk in column.chunks:
            digest.update(str(chunk.to_pylist()).encode("utf-8", "surrogatepass"))
    return f"part-{digest.hexdigest()}.parquet"


def write_part(table: pa.Table, folder: str, name: str) -> None:
    fs, path = storage.filesystem(folder)
    fs.create_dir(path, recursive=True)
    pq.write_table(table, storage.join(path, name), filesystem=fs, compression="zstd")
