"""Writes down how trials ended that could not say it themselves, and clears away after them."""

from collections.abc import Callable
from typing import Any

from ray.tune import Callback

from tuning.experiment import Folder
from tuning.proposer import NUMBER

_FIRST_LINES = 3


class Recorder(Callback):  # type: ignore[misc]  # Ray has no types
    """Told by Tune of every end; `thin_out` removes what is no longer needed."""

    def __init__(self, folder: Folder, thin_out: Callable[[], None]) -> None:
        self._folder, self._thin_out = folder, thin_out

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._thin_out()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial whose process died, and died again when it was started a second time."""
        error = trial.get_error()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[-_FIRST_LINES:]) if lines else "its process ended"
        self._folder.finish(int(trial.config[NUMBER]), "failed", reason[:2000])
        self._thin_out()
