"""Which trials are stopped early: asynchronous successive halving, over a trial's own schedule.

Trials have different numbers of epochs, and the learning rate falls over all of them: what they can
be compared by is the same share of their schedules, in per cent. Li et al.: A system for massively
parallel hyperparameter tuning, 2020.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from tuning.experiment import Trial
from tuning.proposer import NUMBER

GRACE_PERCENT = 20  # no trial is stopped before that
REDUCTION_FACTOR = 3  # one in so many goes on at each rung: 20 and 60 per cent

Cut = Callable[[int, str], None]


@dataclass(frozen=True)
class _Remembered:
    """What Ray's bookkeeping wants to know of a trial."""

    trial_id: str


class Halving(AsyncHyperBandScheduler):  # type: ignore[misc]  # Ray has no types
    """Tells `cut(number, reason)` of each trial before it is stopped.

    `before`: trials of an earlier search, which the new ones are measured by as well.
    """

    def __init__(self, cut: Cut, before: Iterable[Trial] = ()) -> None:
        super().__init__(
            time_attr="percent",
            metric="macro_f1",
            mode="max",
            max_t=100,
            grace_period=GRACE_PERCENT,
            reduction_factor=REDUCTION_FACTOR,
            stop_last_trials=False,
        )
        self._cut = cut
        for trial in before:
            for line in trial.history:
                if line.get("percent", 100.0) < 100:
                    self._rungs_take(_before(trial.number), line)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result.get("percent", 0.0) >= 100:
            return cast(str, TrialScheduler.CONTINUE)  # it ends by itself
        said = cast(str, super().on_trial_result(tune_controller, trial, result))
        if said == TrialScheduler.STOP:
            self._cut(
                int(trial.config[NUMBER]),
                f"macro-F1 {result['macro_f1']:.4f} after {result['percent']:.0f}% of its schedule "
                f"was not among the best third of the trials that came as far",
            )
        return said

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        # One that goes on keeps its place at the rungs which it had reached.
        for _, recorded in self._brackets[0]._rungs:
            value = recorded.pop(_before(int(trial.config[NUMBER])), None)
            if value is not None:
                recorded[trial.trial_id] = value

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if result.get("percent", 0.0) < 100:  # an end is no rung
            super().on_trial_complete(tune_controller, trial, result)

    def _rungs_take(self, name: str, line: dict[str, float]) -> None:
        self._brackets[0].on_result(_Remembered(name), line["percent"], line["macro_f1"])


def _before(number: int) -> str:
    """What the rungs call a trial of an earlier start."""
    return f"before-{number}"
