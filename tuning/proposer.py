"""Who proposes the next point of a search: known points, then Optuna.

Ray Tune's own wrapper of Optuna cannot go on with spaces in which keys hold only under others, so
this is one: a Tune searcher whose memory is the experiment's folder. Every trial is written down
there before it runs; what an earlier search left unfinished comes first, under its old number.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState
from ray.tune.search import Searcher

from tuning.experiment import Folder, Trial
from tuning.space import Parameter, Space, Values

Algorithm = Literal["tpe", "random"]
NUMBER = "trial"  # key of a trial's number in what Tune hands to it
_STARTUP = 10  # points before TPE has something to go by


@dataclass(frozen=True)
class Score:
    """How good a trial was, as far as it came: `percent` of its own schedule."""

    value: float
    percent: float
    whole: bool  # whether it ran to its end


def distribution(parameter: Parameter) -> BaseDistribution:
    """Optuna's name for it."""
    low, high = parameter.low or 0.0, parameter.high or 0.0
    if parameter.kind == "choice":
        return CategoricalDistribution(parameter.values)
    if parameter.kind == "integer":
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=parameter.kind == "log-uniform")


class Proposer(Searcher):  # type: ignore[misc]  # Ray has no types
    """Gives Tune one trial after the other, until there are `limit` of them (None: no limit), or
    until `is_over` says that no more may begin.

    `scores` are those of the trials of `before` that ended, by number; None: it failed. Trials of
    `before` that did not end are given again, before all others.
    """

    def __init__(
        self,
        space: Space,
        folder: Folder,
        *,
        algorithm: Algorithm,
        seed: int,
        limit: int | None,
        before: Sequence[Trial] = (),
        scores: Mapping[int, Score | None] | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(metric="macro_f1", mode="max")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._folder, self._limit = space, folder, limit
        self._is_over = is_over
        self._distributions = {key: distribution(p) for key, p in space.parameters.items()}
        # Another seed after each resumption: the old one would propose the old points again.
        sampler = _sampler(algorithm, seed + len(before))
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        ended = {} if scores is None else scores
        self._waiting = [trial for trial in before if trial.number not in ended]
        begun = [trial.parameters for trial in before]
        self._points = [point for point in space.points if point not in begun]
        self._next = max((trial.number for trial in before), default=0) + 1
        self._begun = len(before)
        self._asked: dict[str, optuna.trial.Trial | Trial] = {}  # by Tune's id
        self._numbers: dict[str, int] = {}  # of ours, by Tune's id
        for trial in before:
            if trial.number in ended:
                self._learn(trial.parameters, ended[trial.number])

    def suggest(self, trial_id: str) -> Values | str | None:
        """What Tune hands to the trial: its values by dotted key, and its number."""
        if self._is_over():
            return str(Searcher.FINISHED)
        if self._waiting:
            trial = self._waiting.pop(0)
            self._asked[trial_id] = trial
            self._numbers[trial_id] = trial.number
            return trial.parameters | {NUMBER: trial.number}
        if self._limit is not None and self._begun >= self._limit:
            return str(Searcher.FINISHED)
        known = self._points.pop(0) if self._points else None
        if known is not None:
            self._study.enqueue_trial(known)
        asked = self._study.ask()
        parameters = self._ask(asked)
        number, self._next, self._begun = self._next, self._next + 1, self._begun + 1
        self._asked[trial_id], self._numbers[trial_id] = asked, number
        self._folder.begin(number, parameters, "searched" if known is None else "known")
        return parameters | {NUMBER: number}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        asked = self._asked.get(trial_id)
        if isinstance(asked, optuna.trial.Trial) and self.metric in result:
            asked.report(result[self.metric], round(result["percent"]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells Optuna how it went; a trial that did not come to an end is not spoken of."""
        asked = self._asked.pop(trial_id, None)
        found = self._folder.trial(self._numbers[trial_id]) if asked is not None else None
        failed = error or (found is not None and found.state == "failed")
        score = None if failed else score_of(result)
        if isinstance(asked, Trial):
            self._learn(asked.parameters, score)
        elif asked is not None and score is None:
            self._study.tell(asked, state=TrialState.FAIL)
        elif asked is not None and score is not None:
            state = TrialState.COMPLETE if score.whole else TrialState.PRUNED
            self._study.tell(asked, score.value if score.whole else None, state=state)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the experiment's folder has all of it."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("A search goes on from its folder, by --resume.")

    def _ask(self, asked: optuna.trial.Trial) -> Values:
        chosen: Values = {}
        for key, found in self._distributions.items():
            if self._space.in_force(key, chosen):
                chosen[key] = _suggested(asked, key, found)
        return chosen

    def _learn(self, parameters: Values, score: Score | None) -> None:
        """Adds a trial of an earlier search."""
        state = TrialState.FAIL if score is None else (
            TrialState.COMPLETE if score.whole else TrialState.PRUNED
        )  # fmt: skip
        self._study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=score.value if score is not None and score.whole else None,
                params=parameters,
                distributions={key: self._distributions[key] for key in parameters},
                intermediate_values=None if score is None else {round(score.percent): score.value},
            )
        )


def score_of(figures: Mapping[str, Any] | None) -> Score | None:
    """The score in what a trial reported last."""
    if not figures or figures.get("macro_f1") is None or "percent" not in figures:
        return None
    best = figures.get("best_macro_f1", figures["macro_f1"])
    return Score(float(best), float(figures["percent"]), float(figures["percent"]) >= 100)


def _sampler(algorithm: Algorithm, seed: int) -> optuna.samplers.BaseSampler:
    if algorithm == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # Without groups, keys that hold only under others would be drawn at random.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, n_startup_trials=_STARTUP
        )


def _suggested(asked: optuna.trial.Trial, key: str, found: BaseDistribution) -> Any:
    if isinstance(found, CategoricalDistribution):
        return asked.suggest_categorical(key, found.choices)
    if isinstance(found, IntDistribution):
        return asked.suggest_int(key, found.low, found.high)
    assert isinstance(found, FloatDistribution)
    return asked.suggest_float(key, found.low, found.high, log=found.log)
