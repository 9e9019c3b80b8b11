"""Prepared data from settings: everything that they name is looked at, then made and published.

For whoever makes a whole set, as the commands do; the passes over the rows are
`jobs.preparation`'s.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cluster import command, publishing, session, sharing, storage
from cluster.errors import SettingError, SwitchyardError
from cluster.session import say
from cluster.storage import OutputUri, Uri
from jobs import preparation
from jobs.classifier import network
from jobs.classifier.encoding import Encoder
from jobs.data_settings import Columns, LabelNames, Split
from jobs.earlier import Earlier
from jobs.feedback import open_feedback
from jobs.label_map import read_label_map
from jobs.prepared import open_prepared
from jobs.profiling import profile
from jobs.reads import Request
from jobs.records import require_columns
from jobs.report import data_html
from jobs.settings import Model
from jobs.sources import Source, base, open_source

# Lengths are counted up to here: more than any model of this kind reads.
LONGEST = 8192


class Prepare(command.Settings):
    """Settings of `jobs.prepare`."""

    source: Uri = Field(
        description="labelled records: a Parquet file, folder or glob (JSON lines and CSV work too)"
    )
    output: OutputUri = Field(description="new folder for the prepared data")
    test_source: Uri | None = Field(
        None,
        description="records that are the test split; their texts leave training and validation, "
        "and split.test is not used",
    )
    feedback: Uri | None = Field(
        None,
        description="folder of corrections (feedback.uri of the endpoint): the newest of a text "
        "takes the place of its labels, and texts that the source lacks are added",
    )
    on_bad_file: Literal["fail", "skip"] = Field(
        "fail", description="what a file does that cannot be read: end the work, or count as bad"
    )
    columns: Columns = Columns()
    labels: LabelNames = LabelNames()
    split: Split = Split()
    model: Model = Model()


def prepare(settings: Prepare) -> dict[str, Any]:
    """Prepares and publishes; what was made, in numbers."""
    publishing.refuse_used(settings.output)
    request = request_of(settings)
    session.connect()
    session.streaming_context()
    say(sharing.claimed())
    session.require_everywhere(base(settings.source), "source")
    if settings.test_source is not None:
        session.require_everywhere(base(settings.test_source), "test-source")
    if settings.feedback is not None:
        session.require_everywhere(settings.feedback, "feedback")
    with publishing.staging(settings.output, ["manifest.json"]) as folder:
        session.require_everywhere(folder, "output")
        manifest, sample = preparation.prepare(request, folder)
        manifest["settings"] = command.dotted(settings.model_copy(update={"split": request.split}))
        manifest["profile"] = profile.describe(
            manifest["labels"],
            sample,
            rows=manifest["rows"],
            duplicates=manifest["duplicates"],
            conflicts=manifest["conflicts"],
            encoder=_encoder(settings.model.name),
            max_tokens=settings.model.max_tokens,
            seed=manifest["seed"],
        )
        storage.write_json(storage.join(folder, "labels.json"), list(manifest["labels"]))
        report = data_html(manifest, title=f"Prepared data of {settings.source}")
        storage.write_bytes(storage.join(folder, "report.html"), report.encode())
        storage.write_json(storage.join(folder, "manifest.json"), manifest)
    return _summary(manifest, settings.output)


def request_of(settings: Prepare) -> Request:
    """The settings in plain values, after a look at everything that they name."""
    split, earlier = _earlier(settings.split)
    return Request(
        source=_open(settings, settings.source, "source"),
        test_source=(
            None
            if settings.test_source is None
            else _open(settings, settings.test_source, "test-source")
        ),
        columns=settings.columns,
        split=split,
        renamed=read_label_map(settings.labels.map),
        earlier=earlier,
        feedback=None if settings.feedback is None else open_feedback(settings.feedback),
        on_bad_file=settings.on_bad_file,
    )


def _open(settings: Prepare, uri: str, key: str) -> Source:
    source = open_source(uri, key=key, on_bad_file=settings.on_bad_file)
    require_columns(source, settings.columns, key=key)
    return source


def _earlier(split: Split) -> tuple[Split, Earlier | None]:
    """The split with seed and shares of the earlier data that it goes on, and that data.

    SettingError where others are asked for: the cuts of old mean nothing under them.
    """
    if split.like is None:
        return split, None
    manifest = open_prepared(split.like, key="split.like").manifest
    before = {
        "seed": int(manifest["seed"]),
        "validation": manifest["settings"]["split.validation"],
        "test": manifest["settings"]["split.test"],
    }
    for key, value in before.items():
        if key in split.model_fields_set and getattr(split, key) != value:
            raise SettingError(
                f"split.{key} is {getattr(split, key):g}, but the data in {split.like} was split "
                f"with {value:g}, and its cuts are used again. Leave --split.{key} out."
            )
    cuts = {
        name: (int(cut["test"]), int(cut["validation"])) for name, cut in manifest["cuts"].items()
    }
    return (
        split.model_copy(update=before),
        Earlier(split.like, cuts, manifest["given_splits"]),
    )


def _encoder(name: str) -> Encoder | None:
    """The tokenizer with which lengths are counted, or none where it cannot be had."""
    try:
        return Encoder(Path(network.model_folder(name)), LONGEST, threads=True)
    except SwitchyardError as error:
        say(f"No lengths in tokens: {error}")
        return None


def _summary(manifest: dict[str, Any], output: str) -> dict[str, Any]:
    sides = {
        side: sum(label[side]["rows"] for label in manifest["labels"].values())
        for side in ("train", "validation", "test")
    }
    print("\n".join(profile.summary(manifest["profile"])))
    print(f"\nPrepared {manifest['rows']:,} rows of {len(manifest['labels']):,} labels in {output}")
    for side, rows in sides.items():
        print(f"  {side:<12}{rows:>12,}")
    corrections = manifest.get("corrections")
    if corrections is not None:
        print(f"  {_corrections(corrections)}")
    for reason, rows in manifest["rejected"].items():
        say(f"  rejected: {rows:,} × {reason}")
    for bad in manifest["bad_files"]:
        say(f"  skipped: {bad['path']} {bad['error']}")
    return {
        "output": output,
        "rows": manifest["rows"],
        **sides,
        "labels": len(manifest["labels"]),
        "rejected": sum(manifest["rejected"].values()),
        "duplicates": manifest["duplicates"],
        "conflicts": manifest["conflicts"],
        "bad_files": len(manifest["bad_files"]),
        **({} if corrections is None else {"corrections": corrections["texts"]}),
    }


def _corrections(told: dict[str, int]) -> str:
    if told["read"] == 0:
        return "corrections: 0 (the folder holds none yet)"
    return (
        f"corrections: {told['read']:,} read of {told['texts']:,} texts: {told['changed']:,} "
        f"changed, {told['added']:,} added; {told['rejected']:,} rejected"
    )
