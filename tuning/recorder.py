"""Writes down how trials ended that could not say it themselves, and clears away after them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback

from tuning.experiment import Folder
from tuning.proposer import NUMBER


class Recorder(Callback):  # type: ignore[misc]  # Ray has no types
    """Told by Tune of every end; `thin_out` removes what is no longer needed, but of the trial of
    the number that it is given: one that is stopped may still be writing a checkpoint."""

    def __init__(self, folder: Folder, thin_out: Callable[[int], None]) -> None:
        self._folder, self._thin_out = folder, thin_out

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._thin_out(int(trial.config[NUMBER]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial whose process died, and died again when it was started a second time."""
        number = int(trial.config[NUMBER])
        self._folder.finish(number, "failed", _reason(trial.error_file))
        self._thin_out(number)


def _reason(error_file: str | None) -> str:
    """From what Tune wrote down where it runs, one failure after the other: the last line, which
    says it. (What it offers itself is read where that is only copied to later.)"""
    said = Path(error_file).read_text().split("\n") if error_file else []
    last = next((line.strip() for line in reversed(said) if line.strip()), "nothing is known of it")
    return f"It ended without a word, and again when it was started anew: {last}"[:2000]
