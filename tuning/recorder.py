"""Writes down how trials ended that could not say it themselves, and clears away after them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback

from tuning.experiment import Folder
from tuning.proposer import NUMBER

_NO_ROOM = ("StorageError:", "ResourceError:")  # cluster.errors, as tracebacks end


class Recorder(Callback):  # type: ignore[misc]  # Ray has no types
    """Told by Tune of every end; `thin_out` removes what is no longer needed, but of the trial of
    the number that it is given: one that is stopped may still be writing a checkpoint."""

    def __init__(self, folder: Folder, thin_out: Callable[[int], None]) -> None:
        self._folder, self._thin_out = folder, thin_out

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._thin_out(int(trial.config[NUMBER]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial whose process died, and died again when it was started a second time. One that
        found no room, on the cluster or in the storage, has not ended: it may go on later."""
        number, last = int(trial.config[NUMBER]), _last_line(trial.error_file)
        if not any(name in last for name in _NO_ROOM):
            reason = f"It ended without a word, and again when it was started anew: {last}"
            self._folder.finish(number, "failed", reason[:2000])
        self._thin_out(number)


def _last_line(error_file: str | None) -> str:
    """Of what Tune wrote down where it runs, one failure after the other: it says what happened.
    (What it offers itself is read where that is only copied to later.)"""
    said = Path(error_file).read_text().split("\n") if error_file else []
    return next((line.strip() for line in reversed(said) if line.strip()), "nothing is known of it")
