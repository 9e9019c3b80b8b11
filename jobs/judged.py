"""From answers to figures: the rows that can be judged are written, counted, and compared.

Knows the columns of predictions.parquet; not how the answers came to be, nor who reads the figures.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import DataError
from jobs import comparison, evaluation
from jobs.answers import AGAINST, Other
from jobs.classifier import bundle, metrics
from jobs.classifier.labels import Labels
from jobs.data_settings import Columns
from jobs.records import parse

_THEIRS = f"predicted{AGAINST}"


def write(rows: Any, columns: Columns, uri: str, renamed: dict[str, str]) -> tuple[pa.Table, int]:
    """Writes predictions.parquet as the answers come, in the order of the source.

    `rows` is what `jobs.answers.answered` gives. Returns all columns but ids and texts, of all
    rows, and how many rows had no usable text or label and were left out.
    """
    fs, path = storage.filesystem(uri)
    fs.create_dir(storage.parent(path), recursive=True)
    kept: list[pa.Table] = []
    rejected = 0
    writer: pq.ParquetWriter | None = None
    for batch in rows.iter_batches(batch_format="pyarrow", batch_size=None):
        part = contract(batch, columns, renamed)
        rejected += batch.num_rows - part.num_rows
        if writer is None:
            writer = pq.ParquetWriter(path, part.schema, filesystem=fs, compression="zstd")
        writer.write_table(part)
        kept.append(part.select([name for name in part.column_names if name not in ("id", "text")]))
    if writer is None:
        raise DataError("The source holds no row to judge.")
    writer.close()
    table = pa.concat_tables(kept)
    if table.num_rows == 0:
        raise DataError("The source holds no row with both a text and a label.")
    return table, rejected


def contract(batch: pa.Table, columns: Columns, renamed: dict[str, str]) -> pa.Table:
    """The columns of predictions.parquet, without rows that cannot be judged.

    What another bundle called a row is there as `predicted_against`, under the new name where the
    label was renamed since, and null where it found no text.
    """
    parsed = parse(batch, columns, renamed=renamed)
    out = {} if parsed.ids is None else {"id": parsed.ids}
    out |= {
        "text": parsed.texts,
        "label": parsed.labels.dictionary_decode(),
        "predicted": batch["predicted"].cast(pa.string()),
        "score": batch["score"],
        "abstained": batch["abstained"],
    }
    if _THEIRS in batch.column_names:
        names = batch[_THEIRS].to_pylist()
        # A label that was dropped since has no new name, and keeps the old one.
        new = [name and (renamed.get(name) or name) for name in names]
        out[_THEIRS] = pa.array(new, pa.string())
    return pa.table(out).take(pa.array(parsed.fit))


def renames(about: bundle.About) -> dict[str, str]:
    """Old label → new, as the training data was renamed; labels that the bundle knows stay."""
    renamed: dict[str, str] = about.data.get("labels_map", {})
    return {old: new for old, new in renamed.items() if old not in about.labels}


def figures(table: pa.Table, about: bundle.About) -> tuple[dict[str, Any], list[list[int]]]:
    """metrics.json of the rows of `write`, and the confusion; DataError for an unknown label."""
    labels = Labels(tuple(about.labels))
    truth = labels.encode(table["label"].to_pylist(), where="the source")
    predicted = labels.encode(table["predicted"].to_pylist(), where="the predictions")
    scores = table["score"].to_numpy()
    abstained = np.asarray(pc.cast(table["abstained"], pa.int8()).to_numpy(), dtype=np.bool_)
    prior = about.natural_prior
    found = evaluation.from_columns(truth, predicted, scores, abstained, about.labels, prior)
    found |= evaluation.uncertainty(truth, predicted, scores, abstained, prior)
    found["abstention_threshold"] = about.abstention_threshold
    return found, metrics.confusion(truth, predicted, len(labels)).tolist()


def against(table: pa.Table, about: bundle.About, other: Other) -> dict[str, Any]:
    """`against` of metrics.json: who the other is, the comparison, and what it could not know.

    Labels of the rows that the other does not know are its errors: a ticket of a new team goes
    wrong with it. A label that was renamed since is one it knows.
    """
    labels = Labels(tuple(about.labels))
    truth = labels.encode(table["label"].to_pylist(), where="the source")
    ours = labels.encode(table["predicted"].to_pylist(), where="the predictions")
    theirs = _ids(table[_THEIRS].to_pylist(), labels)
    renamed = renames(about)
    known = {renamed.get(name) or name for name in other.about.labels}
    unknown = np.array([name not in known for name in labels.names])
    rare = evaluation.rarest_third(about.natural_prior)
    return {
        "bundle": other.uri,
        "created": other.about.created,
        "base_model": str(other.about.configuration.get("model.name")),
        **comparison.compare(truth, ours, theirs, labels.names, rare),
        "unknown_labels": [labels.names[c] for c in np.unique(truth[unknown[truth]])],
        "unknown_rows": int(unknown[truth].sum()),
        "unanswered_rows": table[_THEIRS].null_count,
    }


def _ids(names: Sequence[str | None], labels: Labels) -> npt.NDArray[np.int64]:
    """Class ids, [rows]; len(labels) for what is no label of these."""
    none = len(labels)
    return np.array([labels.ids.get(name, none) if name else none for name in names], np.int64)
