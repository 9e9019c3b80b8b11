"""What a new model takes over from the champion: how its data is prepared, and how it is trained.

The champion's bundle says where its data lies and with which settings it was trained; the manifest
of that data says how it was prepared. What is given beats both. Training itself begins with the
pretrained model, as that of the champion did: the champion's head has no place for a new label, and
what it learned from a label that was corrected since would stay in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster import command
from cluster.errors import DataError, SettingError, StorageError
from cluster.registry import CHAMPION, Registry
from cluster.session import say
from jobs import answers
from jobs.classifier.bundle import About
from jobs.prepared import Prepared
from jobs.preparer import Prepare
from jobs.training import Training
from jobs.training_run import TrainCommand
from tuning import judging

Values = Mapping[str, Any]  # dotted key → plain value


@dataclass(frozen=True)
class Champion:
    """A version of a registry that was champion when a round began, and its data."""

    version: str
    uri: str
    about: About
    data: Prepared


def present(registry: Registry, name: str) -> str:
    """The version that is champion now; DataError where there is none to go on from."""
    try:
        return registry.resolve(name, CHAMPION)[0]
    except StorageError as error:
        raise DataError(
            f"{error} Retraining goes on from a champion; make the first one with python -m "
            f"tuning.promote --bundle URI --registry {registry.uri} --name {name}."
        ) from None


def open_champion(registry: Registry, name: str, version: str, *, data: str | None) -> Champion:
    """The champion with the data that it was trained on, which lies at `data` now (None: where its
    bundle says); DataError where that is gone or another."""
    uri = registry.folder(name, version)
    about = answers.about_bundle(uri)
    who = f"the champion, version {version} of {name},"
    remedy = (
        f"It is the data that {who} was trained on, and new data is cut as it was. If it was "
        "moved, say where it is with --data URI; if it is gone, prepare, train and promote a model "
        "by hand once."
    )
    return Champion(version, uri, about, judging.trained_on(about, who, data, remedy=remedy))


def prepare_settings(champion: Champion, given: Values, *, output: str) -> Prepare:
    """How the round's data is prepared: as the champion's was, and cut alike.

    The corrections of the champion's data are taken again unless `given` names others: without
    them its texts would go back to the labels that were wrong.
    """
    if "split.like" in given:
        raise SettingError(
            f"split.like is {given['split.like']!r}, and here it is always the champion's data. "
            "Leave it out; if that data was moved, say where it is with --data URI."
        )
    recorded = dict(champion.data.manifest["settings"])
    # Lengths are counted as training will read the texts.
    recorded = {key: value for key, value in recorded.items() if not key.startswith("model.")}
    values = {**_of(Prepare, recorded), **training(champion, given), **given}
    values = {key: value for key, value in values.items() if key in command.defaults(Prepare)}
    values |= {"output": output, "split.like": champion.data.uri}
    return command.build(Prepare, command.nested(values))


def train_settings(
    champion: Champion, given: Values, *, data: str, output: str, resume: bool
) -> TrainCommand:
    """How the round's model is trained: as the champion was, which is what best.toml said."""
    values = {**training(champion, given), "data.uri": data, "output": output, "resume": resume}
    return command.build(TrainCommand, command.nested(values))


def training(champion: Champion, given: Values) -> dict[str, Any]:
    """The training settings of the champion with what is given in their place."""
    recorded = champion.about.configuration
    values = _of(Training, recorded) | {k: v for k, v in given.items() if k in _TRAINING}
    if "model.name" not in recorded and "model.name" not in given:
        raise SettingError(
            f"The champion, version {champion.version}, does not say how it was trained: give its "
            "settings with --config best.toml."
        )
    return values


def changed(champion: Champion, given: Values) -> dict[str, Any]:
    """Of the training settings that are given those that are not the champion's."""
    before = {**command.defaults(Training), **champion.about.configuration}
    return {key: v for key, v in given.items() if key in _TRAINING and before[key] != v}


def say_unknown(champion: Champion) -> None:
    """Warns of settings that this version no longer has."""
    gone = sorted(champion.about.configuration.keys() - _TRAINING)
    if gone:
        say(f"warning: the champion was trained with {', '.join(gone)}, which is no setting now.")


def _of(model: type[command.Settings], recorded: Values) -> dict[str, Any]:
    """What is recorded of a model's settings and is not the default: a column that is used where
    it is there must be there once it is given, and settings without effect are warned of."""
    plain = command.defaults(model)
    return {k: value for k, value in recorded.items() if k in plain and value != plain[k]}


_TRAINING = frozenset(command.defaults(Training))
