"""Labels whole files: every input column, and the answer beside it.

python -m jobs.predict --bundle /runs/first/bundle --source /data/new --output /data/routed
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from cluster import command, publishing, session, storage
from cluster.errors import DataError
from cluster.storage import OutputUri, Uri
from jobs import answers
from jobs.data_settings import Columns
from jobs.records import require_columns, require_same_columns
from jobs.sources import base, open_source

ANSWERS = ("predicted", "score", "abstained")


class Predict(command.Settings):
    """Settings of `jobs.predict`."""

    bundle: Uri = Field(description="the bundle that answers")
    source: Uri = Field(description="Parquet file or folder with texts; labels are not needed")
    output: OutputUri = Field(description="new folder for the Parquet files")
    columns: Columns = Columns()
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "fp32", description="number format of the answers; auto: bf16 where it is fast"
    )


def predict(settings: Predict) -> dict[str, Any]:
    """Streams the source through the model into new files; how many rows."""
    publishing.refuse_used(settings.output)
    source = open_source(settings.source)
    taken = [name for name in ANSWERS if name in source.schema.names]
    if taken:
        raise DataError(
            f"--source {settings.source} already has the column {taken[0]}, which the answers "
            "would overwrite. Rename it first."
        )
    about = answers.about_bundle(settings.bundle)
    columns = answers.columns_for(source, settings.columns, about, key="source")
    require_columns(source, columns, labelled=False)
    require_same_columns(source)
    session.connect()
    session.streaming_context(preserve_order=True)
    session.require_everywhere(settings.bundle, "bundle")
    session.require_everywhere(base(settings.source), "source")
    with publishing.staging(settings.output, []) as folder:
        session.require_everywhere(folder, "output")
        rows = answers.answered(source, settings.bundle, columns, settings.precision)
        fs, path = storage.filesystem(folder)
        rows.write_parquet(path, filesystem=fs)
        written = _rows(folder)
        if written == 0:
            raise DataError(f"--source {settings.source} holds no row.")
    print(f"Answered {written:,} rows in {settings.output}")
    return {"output": settings.output, "rows": written}


def _rows(folder: str) -> int:
    import pyarrow.parquet as pq

    fs, _ = storage.filesystem(folder)
    return sum(
        pq.read_metadata(path, filesystem=fs).num_rows
        for path, _ in storage.list_files(folder, ".parquet")
    )


def main(argv: Sequence[str] | None = None) -> None:
    command.run(Predict, predict, program="jobs.predict", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
