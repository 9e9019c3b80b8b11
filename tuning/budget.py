"""A budget of epochs: a search that ends after so much training, whatever the machine.

Time measures a machine as well as a search; epochs do not. Knows nothing of what a trial does.
"""

from collections.abc import Iterable
from typing import Any

from ray.tune import Stopper

from tuning.experiment import Trial
from tuning.proposer import NUMBER


class EpochBudget(Stopper):  # type: ignore[misc]  # Ray has no types
    """Ends trials where the epochs trained in all of them together reach `epochs` (None: never).

    Those of the trials of `before` count. A trial after its last epoch ends by itself. Of several
    trials at once each ends with its epoch, so that a few more may be trained.
    """

    def __init__(self, epochs: int | None, before: Iterable[Trial] = ()) -> None:
        self._epochs = epochs
        self._trained = {trial.number: len(trial.history) for trial in before}

    def is_spent(self) -> bool:
        return self._epochs is not None and sum(self._trained.values()) >= self._epochs

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if "epoch" not in result:
            return False  # it failed before
        self._trained[int(result["config"][NUMBER])] = int(result["epoch"])
        return self.is_spent() and float(result["percent"]) < 100

    def stop_all(self) -> bool:
        return False
