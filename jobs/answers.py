"""Answers for whole files: Ray Data streams rows through a pool of loaded models.

Shared by evaluation and batch prediction; knows nothing of what becomes of the answers.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster import resources, storage
from cluster.errors import DataError
from jobs.classifier import bundle
from jobs.classifier.precision import Precision
from jobs.classifier.predictor import Predictor
from jobs.data_settings import Columns
from jobs.records import FIT, dataset, parse
from jobs.sources import Source

BATCH_ROWS = 1024


AGAINST = "_against"  # ends the names of the columns that hold the other bundle's answers


@dataclass(frozen=True)
class Other:
    """A second bundle that answers the same rows, what it says of itself, and what it reads."""

    uri: str
    about: bundle.About
    columns: Columns


class _Answer:
    """Adds `predicted`, `score` and `abstained` to a batch of rows; one a pool actor.

    A row without a usable text gets no label and is abstained on. `other` adds its own three,
    whose names end in `AGAINST`: it sees the very same batch, so that no row can be mistaken for
    another.
    """

    def __init__(
        self,
        bundle_uri: str,
        columns: Columns,
        precision: Precision,
        threads: int,
        other: Other | None = None,
    ) -> None:
        judges = [(bundle_uri, columns, "")]
        if other is not None:
            judges.append((other.uri, other.columns, AGAINST))
        self.judges = [
            (_predictor(uri, precision, threads), read, suffix) for uri, read, suffix in judges
        ]

    def __call__(self, table: pa.Table) -> pa.Table:
        added: dict[str, pa.Array] = {}
        for predictor, columns, suffix in self.judges:
            added |= {f"{name}{suffix}": c for name, c in _ask(predictor, columns, table).items()}
        for name, column in added.items():
            table = table.append_column(name, column)
        return table


def _predictor(uri: str, precision: Precision, threads: int) -> Predictor:
    with storage.local_copy(uri) as folder:
        return Predictor(folder, precision=precision, threads=threads)


def _ask(predictor: Predictor, columns: Columns, table: pa.Table) -> dict[str, pa.Array]:
    parsed = parse(table, columns, labelled=False)
    usable = parsed.reasons == FIT
    found = predictor.predict(parsed.texts.take(pa.array(parsed.fit)).to_pylist())
    names = predictor.about.labels
    answers = iter(zip(found.labels, found.label_scores, found.abstained, strict=True))
    rows = [next(answers) if ok else None for ok in usable]
    return {
        "predicted": pa.array([r and names[r[0]] for r in rows], pa.string()),
        "score": pa.array([r and float(r[1]) for r in rows], pa.float32()),
        "abstained": pa.array([bool(r[2]) if r else True for r in rows], pa.bool_()),
    }


def about_bundle(uri: str) -> bundle.About:
    """`bundle.json` of the bundle at a URI, local or not; BundleError if it is not sound."""
    if storage.is_local(uri):
        return bundle.check(Path(uri))
    with tempfile.TemporaryDirectory() as folder:
        name = storage.join(uri, bundle.COMMIT)
        if storage.exists(name):
            (Path(folder) / bundle.COMMIT).write_bytes(storage.read_bytes(name))
        return bundle.read_about(Path(folder))


def columns_for(source: Source, asked: Columns, about: bundle.About, *, key: str) -> Columns:
    """The text columns to read: those asked for, else the bundle's own, else `text`.

    Prepared data holds the joined text in one column called text, whatever it came from.
    """
    if "text" in asked.model_fields_set:
        return asked
    for names in (tuple(about.text_columns), ("text",)):
        if all(name in source.schema.names for name in names):
            return asked.model_copy(update={"text": names})
    raise DataError(
        f"--{key} {source.uri} has neither the text columns of the bundle "
        f"({', '.join(about.text_columns)}) nor a column text. It has: "
        f"{', '.join(source.schema.names)}. Name them with --columns.text."
    )


def other_columns(
    source: Source, asked: Columns, about: bundle.About, other: bundle.About, *, key: str
) -> Columns:
    """The text columns that a second bundle reads: its own where they are there.

    Columns that are asked for are those of the first bundle, `about`; the second reads them too
    where both were trained on the same columns, or where its own are not there.
    """
    same = list(about.text_columns) == list(other.text_columns)
    there = all(name in source.schema.names for name in other.text_columns)
    if "text" in asked.model_fields_set and (same or not there):
        return asked
    free = asked.model_dump(exclude={"text"}, exclude_unset=True)
    return columns_for(source, Columns(**free), other, key=key)


def answered(
    source: Source,
    bundle_uri: str,
    columns: Columns,
    precision: Precision,
    other: Other | None = None,
) -> Any:
    """A Ray Dataset of the source's rows, all columns kept, with the answers beside them.

    Those of `other` stand in columns of the same names and `AGAINST`.
    """
    import ray

    have = ray.cluster_resources()
    gpus, cpus = int(have.get("GPU", 0)), max(1, int(have.get("CPU", 1)))
    # One CPU is left to the tasks that read.
    actors = gpus or max(1, cpus - 1)
    threads = max(1, resources.threads_per_node() // actors) if not gpus else 1
    return dataset(source).map_batches(
        _Answer,
        batch_format="pyarrow",
        batch_size=BATCH_ROWS,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
        num_cpus=resources.pool_cpus(),
        num_gpus=1 if gpus else None,
        fn_constructor_args=(bundle_uri, columns, precision, threads, other),
    )
