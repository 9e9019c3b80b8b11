"""The folder of one round of retraining: what it is, how far it is, and what is left to do.

    OUTPUT/retrain.json     what the round is: its settings, and the champion that it goes on from
    OUTPUT/data/            prepared data
    OUTPUT/run/             the training run, with the new model in its bundle/
    OUTPUT/judgement.json   what the gate found
    OUTPUT/report.html      the round, for a person
    OUTPUT/outcome.json     the end, written last

Each stage ends with a file that appears whole, so that a round which was cut off goes on with the
first stage that has not ended. Knows nothing of how a stage is done.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster import storage
from cluster.errors import SettingError, StorageError
from jobs.classifier import bundle
from jobs.training_run import RECORD as RUN_RECORD

FORMAT_VERSION = 2  # 1: a judgement did not say with which precision it was made
RECORD = "retrain.json"
JUDGEMENT = "judgement.json"
OUTCOME = "outcome.json"
REPORT = "report.html"
# What a round that goes on may change: where it runs, what it saves on the way, and how it is
# judged. All else decides what data and model are.
FREE_GROUPS = ("scaling.", "checkpoint.")

Training = Literal["new", "begun", "finished"]
Stage = Literal["prepare", "train", "judge"]


@dataclass(frozen=True)
class Found:
    """How far a round is. `judgement` and `outcome` are what their files hold."""

    data: bool = False
    training: Training = "new"
    judgement: Mapping[str, Any] | None = None
    outcome: Mapping[str, Any] | None = None


def ended(found: Found, gate: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The outcome, if nothing is left to do: it was promoted, or refused by this very gate."""
    outcome = found.outcome
    if outcome is None or not (outcome["promoted"] or outcome["gate"] == gate):
        return None
    return outcome


def left(found: Found, gate: Mapping[str, Any], champion: str | None) -> tuple[Stage, ...]:
    """The stages to do before the end, in order. `champion` is the version that is champion now.

    A judgement holds for the gate and the champion that it was made with.
    """
    stages: list[Stage] = []
    if not found.data:
        stages.append("prepare")
    if found.training != "finished":
        stages.append("train")
    judged = found.judgement
    if stages or judged is None or (judged["gate"], judged["champion"]) != (gate, champion):
        stages.append("judge")
    return tuple(stages)


class Round:
    """The folder at a URI; nothing is made before something is written."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.data = storage.join(uri, "data")
        self.run = storage.join(uri, "run")
        self.bundle = storage.join(self.run, "bundle")
        self.report = storage.join(uri, REPORT)

    def record(self) -> dict[str, Any] | None:
        """What the round is; None where none was begun. StorageError where something else is."""
        found = self._read(RECORD)
        if found is None:
            self._refuse_used()
        elif found.get("format_version") != FORMAT_VERSION:
            raise StorageError(
                f"--output {self.uri} holds a round of format {found.get('format_version')}; this "
                f"version reads {FORMAT_VERSION}. Give a new folder."
            )
        return found

    def begin(self, record: Mapping[str, Any]) -> None:
        self._write(RECORD, {"format_version": FORMAT_VERSION, **record})

    def found(self) -> Found:
        trained = storage.exists(storage.join(self.bundle, bundle.COMMIT))
        begun = storage.exists(storage.join(self.run, RUN_RECORD))
        return Found(
            data=storage.exists(storage.join(self.data, "manifest.json")),
            training="finished" if trained else "begun" if begun else "new",
            judgement=self._read(JUDGEMENT),
            outcome=self._read(OUTCOME),
        )

    def write_judgement(self, judgement: Mapping[str, Any]) -> None:
        self._write(JUDGEMENT, judgement)

    def write_outcome(self, outcome: Mapping[str, Any]) -> None:
        self._write(OUTCOME, outcome)

    def _refuse_used(self) -> None:
        """What a run left that was killed before it wrote its record is hidden, and in nobody's
        way."""
        names = [entry.base_name for entry in storage.entries(self.uri)]
        if storage.is_file(self.uri) or any(not name.startswith(".") for name in names):
            raise StorageError(
                f"--output {self.uri} holds files, and no round of retraining ({RECORD}); give a "
                "new folder, or that of a round to go on with."
            )

    def _read(self, name: str) -> dict[str, Any] | None:
        place = storage.join(self.uri, name)
        return dict(storage.read_json(place)) if storage.is_file(place) else None

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        storage.write_json(storage.join(self.uri, name), value)


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of dotted settings those that decide what a round is."""
    return {key: value for key, value in settings.items() if not key.startswith(FREE_GROUPS)}


def refuse_other(record: Mapping[str, Any], settings: Mapping[str, Any], uri: str) -> None:
    """SettingError if a round would go on with other settings than it was begun with.

    `settings` are `deciding` ones. One that an earlier version did not know is not looked at.
    """
    before = record["settings"]
    for key, value in settings.items():
        if key in before and before[key] != value:
            raise SettingError(
                f"{key} is {value!r}, and the round in --output {uri} was begun with "
                f"{before[key]!r}. Give the same settings to go on with it, or a new --output."
            )
