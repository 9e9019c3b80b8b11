"""The nightly loop: new rows and corrections become a new champion, if it passes the gate.

    python -m tuning.retrain --source s3://desk/tickets --feedback s3://desk/corrections \\
        --registry s3://models --name router --output s3://nightly/2026-11-25

Prepares the data as that of the present champion was prepared (its columns, its label map, and its
split, so that no text changes sides), trains with the champion's settings, judges both on the test
rows, and promotes. What is given here beats the champion's settings; the defaults below are those
of a first model and stand for "as the champion".

Again with the same --output it goes on where it was cut off; after its end it says what was done
and does nothing, unless it was refused and another gate is given (limits, precision): then it is
judged again. Exit 3 and the reason where the gate says no.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from cluster import command, lease
from cluster.errors import GateRefused, StorageError
from cluster.registry import Registry, check_name
from cluster.session import say
from cluster.storage import OutputUri, Uri
from jobs.data_settings import Columns, Data, LabelNames, Split
from jobs.training import Training
from tuning import growth, inherited, retraining, rounds
from tuning.gate_settings import GateSettings
from tuning.retraining import Task
from tuning.rounds import Round


class ChampionData(Data):
    """Where the champion's data lies, and which of the new training rows take part."""

    alone: ClassVar[str] = "uri"

    uri: Uri | None = Field(
        None, description="where the champion's prepared data lies now; none: where it was"
    )


class Retrain(Training, GateSettings):
    """Settings of `tuning.retrain`."""

    data: ChampionData = ChampionData()
    source: Uri = Field(description="labelled records, all of them: the old ones and the new")
    registry: OutputUri = Field(description="the registry that the champion is in")
    name: str = Field(description="name of the model in the registry")
    output: OutputUri = Field(description="folder of this round: data, run, verdict and report")
    feedback: Uri | None = Field(
        None,
        description="folder of corrections (feedback.uri of the endpoint); not given: that of the "
        "champion's data, if it had one",
    )
    test_source: Uri | None = Field(None, description="records that are the test split")
    on_bad_file: Literal["fail", "skip"] = Field(
        "fail", description="what a file does that cannot be read: end the work, or count as bad"
    )
    columns: Columns = Columns()
    labels: LabelNames = LabelNames()
    split: Split = Split()


# How it is judged decides the verdict, and not what the round makes.
_JUDGING = frozenset(GateSettings.model_fields)


def retrain(settings: Retrain) -> dict[str, Any]:
    """One round, or what is left of it; GateRefused with the reason where the gate says no."""
    check_name(settings.name)
    here, registry = Round(settings.output), Registry(settings.registry)
    asked = {k: v for k, v in command.dotted(settings).items() if k not in _JUDGING}
    asked = rounds.deciding(asked)
    task = Task(
        registry, settings.name, command.given(settings), settings.limits(), settings.precision
    )
    record = here.record()
    if record is not None:
        rounds.refuse_other(record, asked, settings.output)
        if (done := _done(here, task)) is not None:
            return done
    version = record["champion"] if record else inherited.present(registry, settings.name)
    champion = inherited.open_champion(registry, settings.name, version, data=settings.data.uri)
    if record is None:
        retraining.look(here, task, champion)
    with lease.held(settings.output, "output"):
        if here.record() != record:
            raise StorageError(
                f"--output {settings.output}: another round was begun in it while this one looked "
                "at its settings. Give a new folder, or the same command again to go on with it."
            )
        if record is None:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            here.begin({"champion": version, "at": at, "settings": asked})
        # Whoever held the lease a moment ago may have ended it.
        return _done(here, task) or _told(retraining.go_on(here, task, champion))


def _done(here: Round, task: Task) -> dict[str, Any] | None:
    """How the round ended, said again; None where something is left to do."""
    outcome = rounds.ended(here.found(), task.gate)
    if outcome is None:
        return None
    say(f"This round has ended on {outcome['at']}: nothing is done again.")
    return _told({**outcome, "stages": dict.fromkeys(("prepare", "train", "judge"), "kept")})


def _told(outcome: dict[str, Any]) -> dict[str, Any]:
    """Says how the round ended; GateRefused if it was refused, now or when it ended."""
    print("\n".join(growth.in_words(outcome["grown"])))
    print(f"Report: {outcome['report']}")
    if not outcome["promoted"]:
        raise GateRefused(outcome["reason"], **outcome)
    name, version = outcome["name"], outcome["version"]
    print(
        f"Version {version} was made the champion of {name}, in place of {outcome['champion']}: "
        f"{outcome['uri']}"
    )
    return outcome


def main(argv: Sequence[str] | None = None) -> None:
    command.run(Retrain, retrain, program="tuning.retrain", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
