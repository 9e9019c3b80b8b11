"""Judges a bundle on labelled rows: figures per class, baselines beside them, a report.

    python -m jobs.evaluate --bundle /runs/first/bundle --source /data/prepared/test \\
        --output /runs/first/test --against /runs/earlier/bundle
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from cluster import command, publishing, resources, session, storage
from cluster.session import say
from cluster.storage import OutputUri, Uri
from jobs import answers, baselines, evaluation, judged, printed
from jobs.classifier import bundle
from jobs.data_settings import Columns
from jobs.prepared import open_prepared
from jobs.records import require_columns, require_same_columns
from jobs.report import evaluation_html
from jobs.sources import Source, base, open_source

_HEADLINE = (
    "rows",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "rarest_third_recall",
    "calibration_error",
    "coverage",
    "answered_accuracy",
)


class Evaluate(command.Settings):
    """Settings of `jobs.evaluate`."""

    bundle: Uri = Field(description="the bundle to judge")
    source: Uri = Field(description="labelled Parquet records, such as the test split")
    output: OutputUri = Field(description="new folder for figures, answers and report")
    columns: Columns = Columns()
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "fp32", description="number format of the answers; auto: bf16 where it is fast"
    )
    against: Uri | None = Field(
        None, description="another bundle, to answer the same rows: a paired test of the two"
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
    other = _other(settings, source, about, columns)
    session.connect()
    session.streaming_context(preserve_order=True)
    session.require_everywhere(settings.bundle, "bundle")
    session.require_everywhere(base(settings.source), "source")
    if other is not None:
        session.require_everywhere(other.uri, "against")
    with publishing.staging(settings.output, ["metrics.json"]) as folder:
        predictions = storage.join(folder, "predictions.parquet")
        rows = answers.answered(source, settings.bundle, columns, settings.precision, other)
        table, rejected = judged.write(rows, columns, predictions, judged.renames(about))
        found, matrix = judged.figures(table, about)
        if other is not None:
            found["against"] = judged.against(table, about, other)
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
    _tell(found)
    return {"output": settings.output, "rejected": rejected} | _headline(found)


def _other(
    settings: Evaluate, source: Source, about: bundle.About, columns: Columns
) -> answers.Other | None:
    """The bundle of --against; `columns` are those that the judged one reads."""
    if settings.against is None:
        return None
    its = answers.about_bundle(settings.against)
    read = answers.other_columns(source, settings.columns, about, its, key="source")
    require_columns(source, read, labelled=False)
    if read.text != columns.text:
        say(f"The bundle of --against reads its texts from {', '.join(read.text)}.")
    return answers.Other(settings.against, its, read)


def _tell(found: dict[str, Any]) -> None:
    print(evaluation.table(found))
    print(f"\n{printed.summary(found)}")
    if "against" in found:
        print(f"\n{printed.against(found['against'], found)}")


def _headline(found: dict[str, Any]) -> dict[str, Any]:
    """What the last line has of the figures."""
    said = {name: found[name] for name in (*_HEADLINE, "intervals")}
    if "against" in found:
        kept = ("bundle", "accuracy", "macro_f1", "difference", "mcnemar")
        said["against"] = {name: found["against"][name] for name in kept}
    return said


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
    task = ray.remote(
        num_cpus=resources.TASK_CPUS, runtime_env={"env_vars": {"OMP_NUM_THREADS": threads}}
    )(baselines.measure)
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
        **({} if settings.against is None else {"Against": settings.against}),
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
