"""The best trial of an experiment, and the bundle made of it.

Whoever ranks trials ranks them here: by the macro-F1 of their best epoch, among those that ran to
their end; of equals the one begun first.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from cluster import command, storage
from cluster.errors import DataError
from cluster.session import say
from jobs import bundles
from jobs.checkpoints import Shelf, best_sound
from jobs.classifier import bundle
from jobs.classifier.stopping import Metric, best_epoch
from jobs.prepared import Prepared, open_prepared
from jobs.trainer import CHECKPOINTS
from jobs.training import Training
from tuning.experiment import Folder, Trial
from tuning.space import settings_with


def score(trial: Trial, metric: Metric) -> float | None:
    """Macro-F1 of the epoch that is the best by `metric` (stopping.metric); None without one."""
    best = best_epoch(trial.history, metric)
    value = trial.history[best - 1]["macro_f1"] if best else math.nan
    return None if math.isnan(value) else value


def leaders(trials: Iterable[Trial], metric: Metric) -> list[tuple[float, Trial]]:
    """Finished trials with their scores, the best first."""
    scored = [(score(trial, metric), trial) for trial in trials if trial.state == "finished"]
    found = [(value, trial) for value, trial in scored if value is not None]
    return sorted(found, key=lambda pair: (-pair[0], pair[1].number))


def base_settings(record: dict[str, Any]) -> Training:
    """The settings that no point changes, from an experiment's record."""
    return command.build(Training, command.nested(record["settings"]))


def winning_bundle(uri: str) -> str:
    """The URI of the bundle of the best trial, made now if it is not there yet.

    DataError where no trial has finished; StorageError where the weights are gone.
    """
    folder = Folder(uri)
    record = folder.record()
    settings = base_settings(record)
    ranked = leaders(folder.trials(), settings.stopping.metric)
    if not ranked:
        raise DataError(
            f"--experiment {uri} has no finished trial yet. Wait for one, or go on with python -m "
            f"tuning.search … --output {uri} --resume."
        )
    _, best = ranked[0]
    place = folder.place(best.number, "bundle")
    if not storage.exists(storage.join(place, bundle.COMMIT)):
        prepared = open_prepared(str(record["data"]["uri"]))
        _make(folder, best, settings_with(settings, best.parameters), prepared)
    return place


def _make(folder: Folder, trial: Trial, settings: Training, prepared: Prepared) -> None:
    shelf = Shelf(folder.place(trial.number, CHECKPOINTS))
    found = best_sound(shelf, settings.stopping.metric, say)
    if found is None:
        raise DataError(
            f"The weights of trial {trial.number} in {folder.uri} are gone or damaged. Train them "
            "again: python -m tuning.analyze writes best.toml, for python -m jobs.train --config."
        )
    say(f"Making the bundle of trial {trial.number} …")
    with shelf.fetch(found[0]) as weights:
        place = folder.place(trial.number)
        bundles.make_bundle(settings, prepared, weights, place, prepared.rows("validation"))


def thin_out(folder: Folder, ended: Sequence[Trial], metric: Metric) -> None:
    """Removes the checkpoints of trials that can no longer be the winner: an ended trial goes on
    no more, and of the finished ones only the best is needed."""
    ranked = leaders(ended, metric)
    best = ranked[0][1].number if ranked else None
    for trial in ended:
        if trial.end and trial.number != best:
            storage.remove(folder.place(trial.number, CHECKPOINTS))
