"""How a search went, as tables: one row a trial, or one row an epoch of a trial.

    from tuning import analysis

    trials = analysis.read_trials("/runs/search")
    trials.groupby("balance.strategy")["macro_f1"].max()
    analysis.best(trials)

Reads an experiment's folder and nothing else: no Ray, no cluster, also while the search runs and
after it was killed. Several experiments can be read at once.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from cluster.errors import DataError
from jobs.classifier import stopping
from tuning.experiment import STATES, Folder, Trial

OBJECTIVE = "macro_f1"
METRICS = (
    "macro_f1",
    "accuracy",
    "balanced_accuracy",
    "rarest_third_recall",
    "calibration_error",
    "macro_precision",
    "macro_recall",
    "weighted_precision",
    "weighted_recall",
    "weighted_f1",
    "validation_loss",
    "train_loss",
    "tokens_per_second",
)
# Of an epoch, and no figure of how good it is.
_COUNTS = ("tokens", "steps", "epoch_seconds", "seconds", "percent")
_IDENTITY = ("experiment", "data_digest", "trial", "state", "reason", "origin", "started", "ended")


@dataclass(frozen=True)
class Experiment:
    """What was in an experiment's folder when it was read; `running`: a search was at work."""

    folder: Folder
    record: dict[str, Any]
    trials: tuple[Trial, ...]
    running: bool

    @property
    def uri(self) -> str:
        return self.folder.uri

    @property
    def digest(self) -> str:
        """Of the data that its trials are measured on."""
        return str(self.record["data"]["digest"])

    def state(self, trial: Trial) -> str:
        """One of tuning.experiment.STATES; `running` where it has no end and a search is at work,
        `unfinished` where none is."""
        return "running" if trial.state == "unfinished" and self.running else trial.state

    def settings(self, trial: Trial) -> dict[str, Any]:
        """The dotted keys of all training settings, with the values that the trial had."""
        base: dict[str, Any] = dict(self.record["settings"])
        for key, value in trial.parameters.items():
            # TOML has no null: the word stands for it, but where it names something.
            none = value == "none" and not isinstance(base.get(key), str)
            base[key] = None if none else value
        return base


def load(uris: str | Sequence[str]) -> list[Experiment]:
    """The experiments at one URI or several; DataError where there is none."""
    found = []
    for uri in [uris] if isinstance(uris, str) else list(dict.fromkeys(uris)):
        folder = Folder(uri)
        record = folder.record()
        running = folder.is_running()  # first: a trial that ends meanwhile has its end then
        found.append(Experiment(folder, record, tuple(folder.trials()), running))
    return found


def read_trials(uris: str | Sequence[str]) -> pd.DataFrame:
    """One row a trial of the experiments at `uris`.

    experiment (URI), data_digest, trial (number), state, reason, origin, started, ended (UTC);
    seconds: from its start to its last report; cost_seconds: seconds of its passes of training
    (validation and start are not in it) times its workers; percent: how much of its own schedule
    it had come to; epochs: done; best_epoch: by `stopping.metric`, 0 before the first; the
    figures of that epoch, NaN where it has none (`METRICS`, and what else was reported); and
    every dotted key of the training settings with the value that the trial had. A setting that is
    not in force, such as `balance.gamma` without focal, stands there with the value it had.

    Experiments of different data can be read together, and are not ranked together: see `best`.
    """
    return trials_of(load(uris))


def read_history(uris: str | Sequence[str]) -> pd.DataFrame:
    """One row an epoch of a trial: experiment, trial, epoch, and all that was reported of it."""
    return history_of(load(uris))


def trials_of(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """See `read_trials`."""
    rows = [_row(experiment, trial) for experiment in experiments for trial in experiment.trials]
    keys = _union(experiment.record["settings"] for experiment in experiments)
    figures = [*_IDENTITY, "seconds", "cost_seconds", "percent", "epochs", "best_epoch", *METRICS]
    names = dict.fromkeys([*figures, *_union(rows), *keys])
    frame = pd.DataFrame({name: _column([row.get(name) for row in rows]) for name in names})
    for name in ("started", "ended"):
        frame[name] = pd.to_datetime(frame[name], format="ISO8601", utc=True)
    for name in ("seconds", "cost_seconds", "percent", *METRICS):
        frame[name] = frame[name].astype(float)
    order = [name for name in names if name not in keys] + keys
    return frame[order]


def history_of(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """See `read_history`."""
    lines = [
        {"experiment": experiment.uri, "trial": trial.number}
        | {name: number(line, name) for name in line}
        | {"epoch": place}
        for experiment in experiments
        for trial in experiment.trials
        for place, line in enumerate(trial.history, 1)
    ]
    names = ["experiment", "trial", "epoch", *METRICS, *_COUNTS]
    names = list(dict.fromkeys([*names, *_union(lines)]))
    frame = pd.DataFrame(lines, columns=names)
    frame[names[3:]] = frame[names[3:]].astype(float)
    return frame


def ranked(trials: pd.DataFrame) -> pd.DataFrame:
    """The finished trials that have a macro-F1, the best first; of equals the one begun first.

    This is the order of tuning.winner, which needs torch. What a trial had when it was stopped or
    failed, or has while it runs, is of a part of its schedule and not comparable. DataError for
    trials that were measured on different data.
    """
    refuse_mixed(trials)
    found = trials[(trials["state"] == "finished") & trials[OBJECTIVE].notna()]
    by = (
        [OBJECTIVE, "started", "trial"]
        if found["experiment"].nunique() > 1
        else [OBJECTIVE, "trial"]
    )
    return found.sort_values(by, ascending=[False, *[True] * (len(by) - 1)], kind="stable")


def best(trials: pd.DataFrame) -> "pd.Series[Any] | None":
    """The row of the best trial (see `ranked`), or None where none has finished yet."""
    order = ranked(trials)
    return None if order.empty else order.iloc[0]


def counts(trials: pd.DataFrame) -> dict[str, int]:
    """How many trials are in each state, in the order of tuning.experiment.STATES."""
    found = Counter(trials["state"])
    return {state: found[state] for state in STATES if found[state]}


def refuse_mixed(trials: pd.DataFrame) -> None:
    """DataError unless all trials were measured on the same rows."""
    firsts = trials.drop_duplicates("data_digest")
    if len(firsts) > 1:
        places = " and ".join(firsts["experiment"])
        raise DataError(
            f"--experiment {places} are of different data, and macro-F1 on other validation rows "
            "cannot be compared. Analyze each by itself; tuning.analysis.read_trials reads them "
            "into one table, with data_digest to tell them apart."
        )


def number(found: Mapping[str, Any], name: str) -> float:
    """The number under `name`, NaN where there is none."""
    value = found.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


def _row(experiment: Experiment, trial: Trial) -> dict[str, Any]:
    settings, history = experiment.settings(trial), trial.history
    place = _best_epoch(history, settings.get("stopping.metric", OBJECTIVE))
    figures = (
        {name: number(history[place - 1], name) for name in history[place - 1]} if place else {}
    )
    ended, last = trial.end.get("ended"), history[-1] if history else {}
    trained = [number(line, "epoch_seconds") for line in history]
    workers = experiment.record.get("plan", {}).get("workers", 1)
    return {
        "experiment": experiment.uri,
        "data_digest": experiment.digest,
        "trial": trial.number,
        "state": experiment.state(trial),
        "reason": str(trial.end.get("reason") or ""),
        "origin": trial.origin,
        "started": trial.started,
        "ended": ended,
        "seconds": _seconds(last, trial.started, ended),
        "cost_seconds": workers * sum(s for s in trained if math.isfinite(s)),
        "percent": number(last, "percent"),
        "epochs": len(history),
        "best_epoch": place,
        **{name: value for name, value in figures.items() if name not in ("epoch", *_COUNTS)},
        **settings,
    }


def _best_epoch(history: Sequence[Mapping[str, float]], metric: stopping.Metric) -> int:
    """The loop's own rule, also for lines that lack what it looks at."""
    names = {metric, "validation_loss"}
    return stopping.best_epoch([{n: number(line, n) for n in names} for line in history], metric)


def _seconds(last: Mapping[str, float], started: str, ended: str | None) -> float:
    said = number(last, "seconds")
    if math.isfinite(said) or ended is None:
        return said
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()


def _union(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of all, in the order in which they come."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _column(values: list[Any]) -> "pd.Series[Any]":
    """Whole numbers stay whole beside None, and what is of several kinds becomes text: a column
    of a Parquet file is of one."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int} and None in values:
        return pd.Series(values, dtype="Int64")
    if len(kinds) > 1 and kinds != {int, float}:
        return pd.Series([None if v is None else str(v) for v in values], dtype="str")
    return pd.Series(values, dtype=None if kinds else object)
