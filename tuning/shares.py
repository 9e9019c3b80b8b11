"""Optuna's evaluators of importance, over and over: shares of parameters, and how sure they are.

Each parameter is put on its own scale first, from 0 to 1: the evaluators take logarithmic ones as
linear, where most of the range from 1e-5 to 1e-3 would be above 1e-4.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tuning.levelling import LEVELLED
from tuning.parameters import Parameter

RESAMPLES = 30
TREES = 16
BEST_SHARE = 0.25
INTERVAL = (10, 90)  # per cent


@dataclass(frozen=True)
class Share:
    """A share between 0 and 1: the median of its resamples, and the middle 80% of them."""

    value: float
    low: float
    high: float


def of_variance(parameters: Sequence[Parameter], part: pd.DataFrame, seed: int) -> dict[str, Share]:
    """fANOVA, in trials in which all of `parameters` are in force."""
    from optuna.importance import FanovaImportanceEvaluator as Fanova

    return _resampled(
        parameters,
        [trial for trial in _as_optuna(parameters, part) if len(trial.params) == len(parameters)],
        seed,
        lambda draw: Fanova(n_trees=TREES, seed=draw),
        normalize=False,
    )


def to_the_top(parameters: Sequence[Parameter], part: pd.DataFrame, seed: int) -> dict[str, Share]:
    """PED-ANOVA, in any trials."""
    from optuna.importance import PedAnovaImportanceEvaluator as PedAnova

    return _resampled(
        parameters,
        _as_optuna(parameters, part),
        seed,
        lambda _: PedAnova(target_quantile=BEST_SHARE),
        normalize=True,
    )


def _resampled(
    parameters: Sequence[Parameter],
    trials: Sequence[Any],
    seed: int,
    evaluator: Any,
    normalize: bool,
) -> dict[str, Share]:
    """Shares in RESAMPLES draws with replacement: their median and their interval."""
    from optuna.importance import get_param_importances

    if not parameters or not trials:
        return {}
    rng, names = np.random.default_rng(seed), [p.key for p in parameters]
    found = {name: np.zeros(RESAMPLES) for name in names}
    with _quiet() as optuna:
        for draw in range(RESAMPLES):
            drawn = [trials[k] for k in rng.integers(len(trials), size=len(trials))]
            if len({trial.value for trial in drawn}) == 1:
                continue  # nothing to explain, which fANOVA refuses: all shares stay 0
            study = optuna.create_study(direction="maximize")
            study.add_trials(drawn)
            got = get_param_importances(
                study, evaluator=evaluator(seed + draw), normalize=normalize
            )
            for name in names:
                found[name][draw] = np.nan_to_num(got.get(name, 0.0))
    return {
        name: Share(*map(float, np.percentile(values, (50, *INTERVAL))))
        for name, values in found.items()
    }


def _as_optuna(parameters: Sequence[Parameter], part: pd.DataFrame) -> list[Any]:
    """The trials as Optuna has them, each with the parameters that are in force in it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import create_trial

    kinds = {
        p.key: CategoricalDistribution(range(len(p.values)))
        if p.is_choice
        else FloatDistribution(0.0, 1.0)
        for p in parameters
    }
    values: list[dict[str, Any]] = [{} for _ in range(len(part))]
    for p in parameters:
        positions = p.positions(part[p.key])
        usable = p.in_force(part) & np.isfinite(positions)
        for k in np.flatnonzero(usable):
            at = positions[k]
            values[k][p.key] = int(at) if p.is_choice else float(np.clip(at, 0.0, 1.0))
    return [
        create_trial(params=given, distributions={n: kinds[n] for n in given}, value=float(figure))
        for given, figure in zip(values, part[LEVELLED], strict=True)
    ]


@contextmanager
def _quiet() -> Iterator[Any]:
    """Optuna, without a line for each study and warnings of small groups: we count trials."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)
