"""Judges a bundle on labelled rows: figures per class, baselines beside them, a report.

    python -m jobs.evaluate --bundle /runs/first/bundle --source /data/prepared/test \\
        --output /runs/first/test
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from cluster import command, publishing, resources, session, storage
from cluster.errors import DataError
from cluster.session import say
from cluster.storage import OutputUri, Uri
from jobs import answers, baselines, evaluation
from jobs.classifier import bundle, metrics
from jobs.classifier.labels import Labels
from jobs.prepared import open_prepared
from jobs.records import parse, require_columns, require_same_columns
from jobs.report import evaluation_html
from jobs.settings import Columns
from jobs.sources import base, open_source


class Evaluate(command.Settings):
    """Settings of `jobs.evaluate`."""

    bundle: Uri = Field(description="the bundle to judge")
    source: Uri = Field(description="labelled Parquet records, such as the test split")
    output: OutputUri = Field(description="new folder for figures, answers and report")
    columns: Columns = Columns()
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "fp32", description="number format of the answers; auto: bf16 where it is fast"
    )
    baselines: bool = Field(
        True, description="fit and judge the baselines on the data the bundle was trained on"
    )


def evaluate(settings: Evaluate) -> dict[str, Any]:
    """Answers, counts and publishes; the headline figures."""
    publishing.refuse_used(settings.output)
    source = open_source(settings.source)
    about = answers.about_bundle(settings.bundle)
    columns = answers.columns_for(source, settings.columns, about, key="source")
    has_id = columns.id is None and "id" in source.schema.names
    columns = columns.model_copy(update={"id": "id" if has_id else columns.id})
    require_columns(source, columns)
    require_same_columns(source)
    session.connect()
    session.streaming_context(preserve_order=True)
    session.require_everywhere(settings.bundle, "bundle")
    session.require_everywhere(base(settings.source), "source")
    with publishing.staging(settings.output, ["metrics.json"]) as folder:
        predictions = storage.join(folder, "predictions.parquet")
        rows = answers.answered(source, settings.bundle, columns, settings.precision)
        table, rejected = _write(rows, columns, predictions, _renamed(about))
        found, matrix = _figures(table, about)
        if settings.baselines:
            found["baselines"] = _baselines(about, predictions)
        report = evaluation_html(
            found,
            matrix,
            about.labels,
            title="How well tickets are routed",
            facts=_facts(settings, about, rejected),
        )
        storage.write_bytes(storage.join(folder, "report.html"), report.encode())
        storage.write_json(storage.join(folder, "metrics.json"), found)
    print(evaluation.table(found))
    headline = (
        "rows",
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "weighted_f1",
        "calibration_error",
        "coverage",
    )
    return {"output": settings.output, "rejected": rejected} | {k: found[k] for k in headline}


def _renamed(about: bundle.About) -> dict[str, str]:
    """Old label → new, as the training data was renamed; labels that the bundle knows stay."""
    renamed: dict[str, str] = about.data.get("labels_map", {})
    return {old: new for old, new in renamed.items() if old not in about.labels}


def _write(rows: Any, columns: Columns, uri: str, renamed: dict[str, str]) -> tuple[pa.Table, int]:
    """Writes predictions.parquet as the answers come, in the order of the source.

    Gives the columns label, predicted, score, abstained of all rows, and how many rows had no
    usable text or label and were left out.
    """
    fs, path = storage.filesystem(uri)
    fs.create_dir(storage.parent(path), recursive=True)
    kept: list[pa.Table] = []
    rejected = 0
    writer: pq.ParquetWriter | None = None
    for batch in rows.iter_batches(batch_format="pyarrow", batch_size=None):
        part = _contract(batch, columns, renamed)
        rejected += batch.num_rows - part.num_rows
        if writer is None:
            writer = pq.ParquetWriter(path, part.schema, filesystem=fs, compression="zstd")
        writer.write_table(part)
        kept.append(part.select(["label", "predicted", "score", "abstained"]))
    if writer is None:
        raise DataError("The source holds no row to judge.")
    writer.close()
    table = pa.concat_tables(kept)
    if table.num_rows == 0:
        raise DataError("The source holds no row with both a text and a label.")
    return table, rejected


def _contract(batch: pa.Table, columns: Columns, renamed: dict[str, str]) -> pa.Table:
    """The columns of predictions.parquet, without rows that cannot be judged."""
    parsed = parse(batch, columns, renamed=renamed)
    out = {} if parsed.ids is None else {"id": parsed.ids}
    out |= {
        "text": parsed.texts,
        "label": parsed.labels.dictionary_decode(),
        "predicted": batch["predicted"].cast(pa.string()),
        "score": batch["score"],
        "abstained": batch["abstained"],
    }
    return pa.table(out).take(pa.array(parsed.fit))


def _figures(table: pa.Table, about: bundle.About) -> tuple[dict[str, Any], list[list[int]]]:
    labels = Labels(tuple(about.labels))
    truth = labels.encode(table["label"].to_pylist(), where="the source")
    predicted = labels.encode(table["predicted"].to_pylist(), where="the predictions")
    found = evaluation.from_columns(
        truth,
        predicted,
        table["score"].to_numpy(),
        np.asarray(pc.cast(table["abstained"], pa.int8()).to_numpy(), dtype=np.bool_),
        about.labels,
    )
    return found, metrics.confusion(truth, predicted, len(labels)).tolist()


def _baselines(about: bundle.About, asked: str) -> dict[str, Any]:
    """The baselines, or none where the training data is gone."""
    import ray

    data = str(about.data.get("uri", ""))
    if not data or not storage.exists(storage.join(data, "manifest.json")):
        say(f"No baselines: the data of this bundle ({data or 'not recorded'}) is not there.")
        return {}
    if open_prepared(data).digest != about.manifest_digest:
        say(f"No baselines: the data in {data} is no longer what this bundle was trained on.")
        return {}
    say("Fitting the baselines …")
    threads = str(resources.threads_per_node())
    task = ray.remote(num_cpus=1, runtime_env={"env_vars": {"OMP_NUM_THREADS": threads}})(
        baselines.measure
    )
    name = str(about.configuration.get("model.name", "minilm"))
    found: dict[str, Any] = ray.get(
        task.remote(data, about.labels, name, about.max_tokens, asked, 0)
    )
    return found


def _facts(settings: Evaluate, about: bundle.About, rejected: int) -> dict[str, str]:
    configuration = about.configuration
    return {
        "Bundle": settings.bundle,
        "Rows": settings.source,
        "Rows left out (no text or label)": f"{rejected:,}",
        "Base model": str(configuration.get("model.name")),
        "Balance": str(configuration.get("balance.strategy")),
        "Trained": about.created,
        "Data": about.manifest_digest,
    }


def main(argv: Sequence[str] | None = None) -> None:
    command.run(Evaluate, evaluate, program="jobs.evaluate", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
