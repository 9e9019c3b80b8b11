"""All that is known of one search, or of several read as one: where charts and sentences start.

It knows tables and parameters. How they look is tuning.charts' and the templates'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tuning import analysis, importance, levelling, parameters
from tuning.analysis import Experiment
from tuning.experiment import Trial
from tuning.importance import Assessment
from tuning.parameters import Parameter


@dataclass(frozen=True)
class Overview:
    """`trials` and `history` as tuning.analysis has them, with the `name` of each trial, which is
    its number, after a letter where there are several experiments; `ranked` the finished
    ones, the best first; `parameters` what was varied, the most important first."""

    experiments: tuple[Experiment, ...]
    trials: pd.DataFrame
    history: pd.DataFrame
    ranked: pd.DataFrame
    parameters: tuple[Parameter, ...]
    comparable: pd.DataFrame
    assessment: Assessment

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the winner; None where no trial has finished."""
        return None if self.ranked.empty else rows(self.ranked.head(1))[0]

    @property
    def letters(self) -> dict[str, str]:
        """URI → letter, empty for a single experiment."""
        return _letters(self.experiments)

    @property
    def running(self) -> bool:
        return any(experiment.running for experiment in self.experiments)

    def found_at(self, row: Mapping[str, Any]) -> tuple[Experiment, Trial]:
        """The experiment and the trial that a row is of."""
        experiment = next(e for e in self.experiments if e.uri == row["experiment"])
        return experiment, next(t for t in experiment.trials if t.number == row["trial"])

    def in_force(self) -> dict[str, list[Parameter]]:
        """Name of each trial → the parameters that had a part in it."""
        holds = [(p, p.in_force(self.trials)) for p in self.parameters]
        names = self.trials["name"]
        return {name: [p for p, mask in holds if mask[k]] for k, name in enumerate(names)}


def overview(experiments: Sequence[Experiment]) -> Overview:
    """DataError where the experiments are of different data."""
    letters = _letters(experiments)
    trials = _named(analysis.trials_of(experiments), letters)
    history = _named(analysis.history_of(experiments), letters)
    epochs = history["name"].map(dict(zip(trials["name"], trials["train.epochs"], strict=True)))
    history["percent"] = history["percent"].fillna(100.0 * history["epoch"] / epochs.astype(float))
    ranked = analysis.ranked(trials)
    found = parameters.varied(experiments, trials)
    comparable = levelling.comparable(trials, history)
    assessment = importance.assess(found, comparable)
    places = {row.parameter.key: place for place, row in enumerate(assessment.rows)}
    found.sort(key=lambda p: places.get(p.key, 0))
    return Overview(
        tuple(experiments), trials, history, ranked, tuple(found), comparable, assessment
    )


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as plain mappings."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _letters(experiments: Sequence[Experiment]) -> dict[str, str]:
    if len(experiments) < 2:
        return {}
    return {e.uri: _letter(place) for place, e in enumerate(experiments)}


def _letter(place: int) -> str:
    """A to Z, then AA, AB and so on."""
    above, last = divmod(place, 26)
    return (_letter(above - 1) if above else "") + chr(ord("A") + last)


def _named(frame: pd.DataFrame, letters: dict[str, str]) -> pd.DataFrame:
    pairs = zip(frame["experiment"], frame["trial"], strict=True)
    names = [f"{letters.get(uri, '')} {number}".strip() for uri, number in pairs]
    return frame.assign(name=pd.Series(names, index=frame.index, dtype="str"))
