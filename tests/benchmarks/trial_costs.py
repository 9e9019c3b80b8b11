"""What the trials of a search cost beside training, from the experiment's folder alone.

From a trial's proposal to its end it trained for the seconds of its epochs; what lies between two
epochs (validation, judging, saving) is what `jobs.train` would take as well; the rest is the
search's: starting, loading the model and the tokens, writing down. The first trial of every start
of a search also waits for its process.
"""

import itertools
from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any

from tuning.experiment import Trial


def of(trials: Sequence[Trial]) -> dict[str, Any]:
    """`overhead_s` and `most_overhead_s`: the median and the most of a trial; `between_s`: the
    median of what lies between two epochs. Empty where too little is known."""
    between = [
        after["seconds"] - before["seconds"] - after["epoch_seconds"]
        for trial in trials
        for before, after in itertools.pairwise(trial.history)
        if after["starts"] == before["starts"]
    ]
    if not between:
        return {}
    each = median(between)
    found = [
        _whole(trial) - trained(trial) - len(trial.history) * each
        for trial in trials
        if trial.end and trial.history and not went_on(trial)
    ]
    if not found:
        return {}
    return {
        "overhead_s": round(median(found), 2),
        "most_overhead_s": round(max(found), 2),
        "between_s": round(each, 2),
    }


def trained(trial: Trial) -> float:
    """Seconds of its epochs."""
    return sum(line["epoch_seconds"] for line in trial.history)


def went_on(trial: Trial) -> bool:
    """Whether it was cut off and resumed: from its proposal to its end it did not run all along."""
    return trial.history[-1]["starts"] > 1


def _whole(trial: Trial) -> float:
    began, ended = (datetime.fromisoformat(at) for at in (trial.started, trial.end["ended"]))
    return (ended - began).total_seconds()
