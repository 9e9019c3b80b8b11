"""What a search varied, read back from experiments: where a value lies between its bounds, under
which others a parameter is in force, and how it is written for a person.

It knows the plain `space` of experiment.json. Reading it needs neither the settings nor torch.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tuning.analysis import Experiment

NONE = "none"


@dataclass(frozen=True)
class Parameter:
    """One dotted key that was varied; `low` and `high` are of numbers, `values` of a choice."""

    key: str
    kind: str  # uniform, log-uniform, integer, choice
    low: float = 0.0
    high: float = 1.0
    values: tuple[str, ...] = ()
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def is_choice(self) -> bool:
        return self.kind == "choice"

    def positions(self, column: "pd.Series[Any]") -> npt.NDArray[np.float64]:
        """Where values lie along the parameter's own scale, 0 at its low end and 1 at its high
        one; of a choice, the place of each value among `values` from 0 on. NaN where none."""
        if self.is_choice:
            places = {value: float(place) for place, value in enumerate(self.values)}
            return np.array([places.get(shown(value), math.nan) for value in column])
        found = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=math.nan)
        low, high = self.low, self.high
        if self.kind == "log-uniform":
            found = np.log(np.where(found > 0, found, math.nan))
            low, high = math.log(low), math.log(high)
        return (found - low) / ((high - low) or 1.0)

    def at(self, position: float) -> float:
        """The number at a position between 0 and 1; not of a choice."""
        if self.kind == "log-uniform":
            return float(self.low * (self.high / self.low) ** position)
        found = self.low + position * (self.high - self.low)
        return round(found) if self.kind == "integer" else found

    def in_force(self, trials: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Which trials the parameter had a part in."""
        holds = np.ones(len(trials), dtype=bool)
        for other, values in self.when:
            holds &= trials[other].map(shown).isin(values).to_numpy(bool)
        return holds

    def condition(self) -> str:
        """Under what it is in force, as a person says it; empty: always."""
        return " and ".join(f"{key} is {' or '.join(values)}" for key, values in self.when)


def shown(value: Any) -> str:
    """A value as it is written in TOML and on the command line, numbers to three digits."""
    if value is None or value is pd.NA:
        return NONE
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, int | np.integer):
        return str(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return NONE
        return re.sub(
            r"e([+-])0", r"e\1", f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
        )
    return str(value)


def varied(experiments: Sequence[Experiment], trials: pd.DataFrame) -> list[Parameter]:
    """What was searched in any of the experiments, and what else differs between their trials.

    Experiments are read together as one: bounds are the widest of all, choices have the values of
    all. A setting that was fixed to another value in each is a choice among them. Keys that had
    one value in all trials are left out: nothing can be said of them.
    """
    found: dict[str, Parameter] = {}
    for experiment in experiments:
        for key, entry in experiment.record["space"].items():
            new = _read(key, entry)
            found[key] = _joined(found[key], new) if key in found else new
    for key in [key for key in _settings(experiments) if key not in found]:
        values = tuple(dict.fromkeys(trials[key].map(shown)))
        if len(values) > 1:
            found[key] = Parameter(key, "choice", values=values)
    whole = [_stretched(replace(p, when=_whole(p, found)), trials) for p in found.values()]
    return [p for p in whole if trials[p.key].map(shown).nunique() > 1]


def _stretched(parameter: Parameter, trials: pd.DataFrame) -> Parameter:
    """With room for all values that trials had, which another experiment may have fixed."""
    had = trials[parameter.key][parameter.in_force(trials)]
    if parameter.is_choice:
        return replace(parameter, values=tuple(dict.fromkeys([*parameter.values, *had.map(shown)])))
    numbers = pd.to_numeric(had, errors="coerce").dropna().astype(float)
    low, high = (numbers.min(), numbers.max()) if len(numbers) else (math.inf, -math.inf)
    return replace(
        parameter, low=min(parameter.low, float(low)), high=max(parameter.high, float(high))
    )


def _settings(experiments: Sequence[Experiment]) -> list[str]:
    return list(dict.fromkeys(key for e in experiments for key in e.record["settings"]))


def _read(key: str, entry: Mapping[str, Any]) -> Parameter:
    when = entry.get("when") or {}
    return Parameter(
        key,
        entry["kind"],
        float(entry.get("low") or 0.0),
        float(entry.get("high") or 0.0),
        tuple(shown(value) for value in entry.get("values") or ()),
        tuple((other, tuple(shown(value) for value in values)) for other, values in when.items()),
    )


def _joined(one: Parameter, other: Parameter) -> Parameter:
    """Both as one; where one is a choice and the other is not, the bounds of the other."""
    if one.is_choice != other.is_choice:
        return other if one.is_choice else one
    values = tuple(dict.fromkeys([*one.values, *other.values]))
    low, high = min(one.low, other.low), max(one.high, other.high)
    return replace(one, low=low, high=high, values=values)


def _whole(
    parameter: Parameter, found: Mapping[str, Parameter]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Its conditions and those of the keys in them: what is below a key falls with it."""
    when = dict(parameter.when)
    for other, _ in parameter.when:
        if other in found and other != parameter.key:
            when = dict(_whole(found[other], found)) | when
    return tuple(when.items())
