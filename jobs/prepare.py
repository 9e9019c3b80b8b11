"""Prepares labelled records for training: checks, splits, counts.

    python -m jobs.prepare --source /data/tickets --output /data/prepared \\
        --columns.text title --columns.text body --columns.label team
"""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from cluster import command, session, storage
from cluster.session import say
from cluster.storage import OutputUri, Uri
from jobs import preparation
from jobs.records import open_source, require_columns
from jobs.report import data_html
from jobs.settings import Columns, Split


class Prepare(command.Settings):
    """Settings of `jobs.prepare`."""

    source: Uri = Field(description="Parquet file or folder with labelled records")
    output: OutputUri = Field(description="new folder for the prepared data")
    test_source: Uri | None = Field(
        None,
        description="records that are the test split; their texts leave training and validation, "
        "and split.test is not used",
    )
    columns: Columns = Columns()
    split: Split = Split()


def prepare(settings: Prepare) -> dict[str, Any]:
    """Prepares and publishes; what was made, in numbers."""
    storage.refuse_used(settings.output)
    columns = settings.columns
    source = open_source(settings.source)
    require_columns(source, columns)
    test_source = None
    if settings.test_source is not None:
        test_source = open_source(settings.test_source, key="test-source")
        require_columns(test_source, columns, key="test-source")
    session.connect()
    session.streaming_context()
    session.require_everywhere(settings.source, "source")
    if settings.test_source is not None:
        session.require_everywhere(settings.test_source, "test-source")
    with storage.staging(settings.output, ["manifest.json"]) as folder:
        session.require_everywhere(folder, "output")
        manifest = preparation.prepare(source, test_source, columns, settings.split, folder)
        manifest["settings"] = command.dotted(settings)
        storage.write_json(storage.join(folder, "labels.json"), list(manifest["labels"]))
        report = data_html(manifest, title=f"Prepared data of {settings.source}")
        storage.write_bytes(storage.join(folder, "report.html"), report.encode())
        storage.write_json(storage.join(folder, "manifest.json"), manifest)
    return _summary(manifest, settings.output)


def _summary(manifest: dict[str, Any], output: str) -> dict[str, Any]:
    sides = {
        side: sum(label[side]["rows"] for label in manifest["labels"].values())
        for side in ("train", "validation", "test")
    }
    sizes = [label["train"]["rows"] for label in manifest["labels"].values()]
    print(f"Prepared {manifest['rows']:,} rows of {len(sizes)} labels in {output}")
    for side, rows in sides.items():
        print(f"  {side:<12}{rows:>12,}")
    print(f"  classes hold {min(sizes):,} to {max(sizes):,} training rows")
    for reason, rows in manifest["rejected"].items():
        say(f"  rejected: {rows:,} × {reason}")
    return {
        "output": output,
        "rows": manifest["rows"],
        **sides,
        "labels": len(sizes),
        "rejected": sum(manifest["rejected"].values()),
        "duplicates": manifest["duplicates"],
        "conflicts": manifest["conflicts"],
    }


def main(argv: Sequence[str] | None = None) -> None:
    command.run(Prepare, prepare, program="jobs.prepare", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
