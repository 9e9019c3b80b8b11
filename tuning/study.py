"""A search on Ray Tune: puts together who proposes, who runs, who stops, and who watches.

What came of it stands in the experiment's folder; nothing is read from Tune afterwards. Its own
files, TensorBoard's among them, lie in the folder's tune-N/, one for each start of the search.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow.fs as pafs

from cluster import storage
from cluster.resources import Plan
from jobs.classifier.stopping import Metric
from tuning.experiment import Folder, Trial
from tuning.proposer import NUMBER, Algorithm, Proposer, Score
from tuning.space import Space
from tuning.winner import score, thin_out

Scheduler = Literal["asha", "none"]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, how, and how long."""

    space: Space
    algorithm: Algorithm
    scheduler: Scheduler
    seed: int
    limit: int | None  # trials in all, those of earlier starts included
    seconds: float | None
    plan: Plan  # of one trial
    at_once: int
    metric: Metric  # by which a trial's best epoch is chosen


def run(search: Search, folder: Folder, config: Mapping[str, Any]) -> None:
    """Runs trials until there are enough of them, or the time is over.

    `config`: what `jobs.trainer.worker_config` gives for the settings that no point changes.
    """
    os.environ |= _ENVIRONMENT
    from ray import tune

    from tuning.halving import Halving
    from tuning.progress import Progress
    from tuning.recorder import Recorder
    from tuning.trial import trainable

    before = folder.trials()
    ended = [trial for trial in before if trial.end]
    proposer = Proposer(
        search.space,
        folder,
        algorithm=search.algorithm,
        seed=search.seed,
        limit=search.limit,
        before=before,
        scores={trial.number: _score(trial, search.metric) for trial in ended},
    )

    def cut(number: int, reason: str) -> None:
        folder.finish(number, "stopped", reason)

    several = search.plan.workers > 1
    until = None if search.seconds is None else time.monotonic() + search.seconds
    progress = Progress(
        folder,
        ended=ended,
        metric=search.metric,
        limit=search.limit,
        until=until,
    )
    recorder = Recorder(folder, lambda: thin_out(folder, folder.trials(), search.metric))
    with progress:
        tune.Tuner(
            trainable(folder.uri, {**config, "plan": search.plan}),
            tune_config=tune.TuneConfig(
                search_alg=proposer,
                scheduler=Halving(cut, before) if search.scheduler == "asha" else None,
                num_samples=-1,
                max_concurrent_trials=search.at_once,
                time_budget_s=search.seconds,
                # Workers of a stopped trial must not outlive it: there its process ends.
                reuse_actors=not several,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name=_next_name(folder),
                storage_path=folder.uri,
                verbose=0,
                callbacks=[recorder, progress],
                # A trial that was killed goes on once; what it failed by itself, it wrote down.
                failure_config=tune.FailureConfig(max_failures=1),
            ),
        ).fit()


# Tune would catch Ctrl-C, and end as if it had succeeded; copies of its state are of no use here.
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # which speaks on standard output whatever `verbose` says
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails has no figures to report
}


def _name(trial: Any) -> str:
    return f"trial-{trial.config[NUMBER]:04d}"


def _score(trial: Trial, metric: Metric) -> Score | None:
    """None for a failed trial."""
    value = score(trial, metric)
    if trial.state == "failed" or value is None:
        return None
    return Score(value, trial.history[-1].get("percent", 100.0), trial.state == "finished")


def _next_name(folder: Folder) -> str:
    fs, path = storage.filesystem(folder.uri)
    found: Sequence[Any] = fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    starts = sum(info.base_name.startswith("tune-") for info in found)
    return f"tune-{starts + 1}"
