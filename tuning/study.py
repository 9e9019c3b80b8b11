"""A search on Ray Tune: puts together who proposes, who runs, who stops, and who watches.

What came of it stands in the experiment's folder; nothing is read from Tune afterwards. Its own
files, TensorBoard's among them, lie in the folder's tune-N/, one for each start of the search.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from cluster import storage
from cluster.errors import StorageError
from cluster.resources import Plan
from cluster.session import say
from jobs.classifier.stopping import Metric
from tuning.experiment import Folder, Trial
from tuning.proposer import NUMBER, Algorithm, Proposer, Score
from tuning.space import Space
from tuning.winner import score, thin_out

Scheduler = Literal["asha", "none"]
_AGAIN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, how, and how long."""

    space: Space
    algorithm: Algorithm
    scheduler: Scheduler
    seed: int
    limit: int | None  # trials in all, those of earlier starts included
    seconds: float | None
    epochs: int | None  # trained in all trials together, those of earlier starts included
    plan: Plan  # of one trial
    at_once: int
    metric: Metric  # by which a trial's best epoch is chosen


def run(search: Search, folder: Folder, config: Mapping[str, Any]) -> None:
    """Runs trials until there are enough of them, or the time or the budget of epochs is over.

    `config`: what `jobs.trainer.worker_config` gives for the settings that no point changes.
    """
    os.environ |= _ENVIRONMENT
    from tuning.budget import EpochBudget
    from tuning.leftovers import Sweeper
    from tuning.progress import Progress
    from tuning.recorder import Recorder

    before = folder.trials()
    budget = EpochBudget(search.epochs, before)
    proposer = _proposer(search, folder, before, budget.is_spent)
    progress = Progress(
        folder,
        ended=[trial for trial in before if trial.end],
        metric=search.metric,
        limit=search.limit,
        until=None if search.seconds is None else time.monotonic() + search.seconds,
    )

    callbacks: list[Any] = [
        Recorder(folder, lambda spared: thin(folder, search.metric, spared)),
        progress,
    ]
    with ExitStack() as stack:
        stack.enter_context(progress)
        if search.plan.workers > 1:
            callbacks.append(stack.enter_context(Sweeper()))
        _tuner(search, folder, config, before, proposer, budget, callbacks).fit()
    thin(folder, search.metric, tries=5)  # a trial that was stopped last may still be writing one


def thin(folder: Folder, metric: Metric, spared: int | None = None, *, tries: int = 1) -> None:
    """Removes the checkpoints that nobody needs, but those of the `spared` trial."""
    for left in reversed(range(tries)):
        try:
            trials = [trial for trial in folder.trials() if trial.number != spared]
            thin_out(folder, trials, metric)
        except (OSError, StorageError) as error:  # nothing is lost, and the next end tries again
            if not left:
                say(f"warning: checkpoints that nobody needs cannot be removed yet: {error}")
            else:
                time.sleep(_AGAIN_S)
        else:
            return


def _proposer(
    search: Search, folder: Folder, before: Sequence[Trial], is_over: Callable[[], bool]
) -> Proposer:
    return Proposer(
        search.space,
        folder,
        algorithm=search.algorithm,
        seed=search.seed,
        limit=search.limit,
        before=before,
        scores={trial.number: _score(trial, search.metric) for trial in before if trial.end},
        is_over=is_over,
    )


def _tuner(
    search: Search,
    folder: Folder,
    config: Mapping[str, Any],
    before: Sequence[Trial],
    proposer: Proposer,
    budget: Any,
    callbacks: list[Any],
) -> Any:
    from ray import tune

    from tuning.halving import Halving
    from tuning.trial import trainable

    def cut(number: int, reason: str) -> None:
        folder.finish(number, "stopped", reason)

    return tune.Tuner(
        trainable(folder.uri, {**config, "plan": search.plan}),
        tune_config=tune.TuneConfig(
            search_alg=proposer,
            scheduler=Halving(cut, before) if search.scheduler == "asha" else None,
            num_samples=-1,
            max_concurrent_trials=search.at_once,
            time_budget_s=search.seconds,
            # Workers of a stopped trial must not outlive it: there its process ends.
            reuse_actors=search.plan.workers == 1,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=_next_name(folder),
            storage_path=folder.uri,
            verbose=0,
            stop=budget,
            callbacks=callbacks,
            # A trial that was killed goes on once; what it failed by itself, it wrote down.
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )


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
    starts = sum(info.base_name.startswith("tune-") for info in storage.entries(folder.uri))
    return f"tune-{starts + 1}"
