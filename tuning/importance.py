"""How much each parameter of a search had to do with how good trials got, and how sure that is.

Of the finished trials and those stopped early, whose figures are levelled (tuning.levelling).

**Share.** fANOVA of Optuna (Hutter, Hoos, Leyton-Brown: An Efficient Approach for Assessing
Hyperparameter Importance, 2014): the share of the variance of a forest's prediction that is due to
the parameter alone, over its whole range. It knows no conditions: a parameter that is in force only
under another is assessed among the trials in which it was, beside those that always are.

**To the top.** PED-ANOVA of Optuna (Watanabe, Bansal, Hutter: PED-ANOVA, 2023), which knows
conditions: how much the best quarter of the trials differs from all in the parameter, as a share of
the sum over parameters. In invented searches it told noise from effect less well (with 30 trials
it often put a conditional parameter without any effect first), so it is the second opinion.

**Uncertainty.** Both are computed again on draws of the trials with replacement, the forest with
another seed in each: the median and the middle 80% of what comes out. Beside it stands a test that
uses neither: Kruskal-Wallis over the thirds of a range, or the values of a choice, with Holm's
correction for the number of parameters. A search that follows its own finds (TPE) tries what did
well more often, together: parameters that moved with an important one can look important.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tuning import shares
from tuning.levelling import LEVELLED, Floats
from tuning.parameters import Parameter, shown
from tuning.shares import Share

# In invented searches where two of eight parameters matter, one of these came first in 14 of 20
# with 10 trials, in 22 of 23 with 15, in 23 of 24 with 20 and in all of 24 with 30. The test found
# one in 0, 1, 7 and 21 of these, and one that does not matter in 1 of all 91.
MIN_TRIALS = 15
MIN_FINISHED = 3  # to know what the stopped ones would have gained


@dataclass(frozen=True)
class Group:
    """The trials of one value, or of one third of a range, and their median levelled figure."""

    name: str
    trials: int
    median: float


@dataclass(frozen=True)
class Importance:
    """What is known of one parameter from the `trials` in which it was in force; what they are
    too few for is None. `p_value` is corrected for the number of parameters."""

    parameter: Parameter
    trials: int
    share: Share | None
    to_the_top: Share | None
    p_value: float | None
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Assessment:
    """All parameters, the most important first; `early` says why there are none."""

    trials: int
    finished: int
    rows: tuple[Importance, ...]
    early: str = ""


def assess(parameters: Sequence[Parameter], comparable: pd.DataFrame, seed: int = 0) -> Assessment:
    """The importance of each parameter in the trials of `comparable`."""
    count, finished = len(comparable), int((comparable["state"] == "finished").sum())
    if early := _too_early(count, finished):
        return Assessment(count, finished, (), early)
    always = [p for p in parameters if not p.when]
    found = shares.of_variance(always, comparable, seed)
    for when in dict.fromkeys(p.when for p in parameters if p.when):
        below = [p for p in parameters if p.when == when]
        part = comparable[below[0].in_force(comparable)]
        if len(part) >= MIN_TRIALS:
            among = shares.of_variance([*always, *below], part, seed)
            found |= {p.key: among[p.key] for p in below}
    tops = shares.to_the_top(parameters, comparable, seed)
    rows = [_row(p, comparable, found.get(p.key), tops.get(p.key)) for p in parameters]
    rows = _corrected(rows)
    rows.sort(key=lambda row: (row.share is None, bool(row.parameter.when), -_value(row.share)))
    return Assessment(count, finished, tuple(rows))


def _too_early(count: int, finished: int) -> str:
    if count < MIN_TRIALS:
        return f"{count} of the {MIN_TRIALS} trials that it takes have ended with a figure"
    if finished < MIN_FINISHED:
        return f"{finished} of the {MIN_FINISHED} trials that it takes ran to their end"
    return ""


def _value(share: Share | None) -> float:
    return 0.0 if share is None else share.value


def _row(
    parameter: Parameter, comparable: pd.DataFrame, share: Share | None, top: Share | None
) -> Importance:
    part = comparable[parameter.in_force(comparable)]
    groups = grouped(parameter, part)
    figures = [figure for _, figure in groups]
    return Importance(
        parameter,
        len(part),
        share,
        top if len(part) >= MIN_TRIALS else None,
        _kruskal([f for f in figures if len(f) > 1]) if len(part) >= MIN_TRIALS else None,
        tuple(Group(name, len(f), float(np.median(f))) for name, f in groups),
    )


def grouped(parameter: Parameter, part: pd.DataFrame) -> list[tuple[str, Floats]]:
    """(name, levelled figures) of each value of a choice, or each third of the trials by value."""
    positions, figures = parameter.positions(part[parameter.key]), part[LEVELLED].to_numpy(float)
    if parameter.is_choice:
        found = [(value, positions == place) for place, value in enumerate(parameter.values)]
    else:
        thirds = np.nanquantile(positions, [1 / 3, 2 / 3]) if len(part) else np.array([])
        cuts = np.unique(thirds)
        place = np.digitize(positions, cuts, right=True)
        masks = [(place == k) & np.isfinite(positions) for k in range(len(cuts) + 1)]
        found = [(_range(part[parameter.key][mask]), mask) for mask in masks if mask.any()]
    return [(name, figures[mask]) for name, mask in found if mask.any()]


def _range(values: "pd.Series[Any]") -> str:
    low, high = shown(values.min()), shown(values.max())
    return low if low == high else f"{low} to {high}"


def _kruskal(groups: Sequence[Floats]) -> float | None:
    from scipy.stats import kruskal

    if len(groups) < 2:
        return None
    if len(np.unique(np.concatenate(groups))) == 1:
        return 1.0
    return float(kruskal(*groups).pvalue)


def _corrected(rows: Sequence[Importance]) -> list[Importance]:
    """Holm's correction over the parameters that were tested."""
    tested = sorted((r for r in rows if r.p_value is not None), key=lambda r: r.p_value or 0.0)
    corrected, largest = {}, 0.0
    for place, row in enumerate(tested):
        largest = max(largest, min(1.0, (row.p_value or 0.0) * (len(tested) - place)))
        corrected[row.parameter.key] = largest
    return [replace(row, p_value=corrected.get(row.parameter.key)) for row in rows]
