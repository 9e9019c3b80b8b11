"""One trial: the run of `jobs.train` with the values of a point, in a process of Tune's.

A trial of one worker calls the loop itself, in an actor that goes on to the next trial; starting
Ray Train for it would take longer than many a trial. One of several workers starts Ray Train, and
hands on what these report. Both write the same into the experiment's folder and say the same to
Tune. What a trial cannot do it writes down as its end, and the search goes on.
"""

import os
import time
from collections.abc import Callable, Mapping
from queue import Empty
from threading import Thread
from typing import Any

import ray
import torch
from ray.exceptions import (
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    RayActorError,
)

from cluster.errors import ResourceError, StorageError
from cluster.resources import Plan
from cluster.session import say
from jobs.checkpoints import Shelf, newest_sound
from jobs.classifier import stopping
from jobs.classifier.progress import Metrics
from jobs.saving import going_on
from jobs.trainer import CHECKPOINTS, fit_workers, judge_of, train_worker
from jobs.training import Training
from tuning.experiment import Folder
from tuning.proposer import NUMBER
from tuning.space import settings_with

_OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
_LOOKS_EVERY_S = 1.0
# Tune gives a stopped trial two seconds to end before its process goes on to the next one, and
# loses that one otherwise: a checkpoint that is being written may take longer.
_ENDS_WITHIN_S = 3600


def run_trial(point: Mapping[str, Any], *, experiment: str, run: Mapping[str, Any]) -> None:
    """What Tune calls. `point`: values by dotted key, and the trial's number; `run`: what
    jobs.trainer.worker_config gives, with the settings that no point changes, and the `plan`."""
    began = time.monotonic()
    chosen = dict(point)
    number = int(chosen.pop(NUMBER))
    folder = Folder(experiment)
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(_ENDS_WITHIN_S)
    before = folder.trial(number)
    if before is not None and before.end:
        return  # it ended, and was only started again
    try:
        settings = settings_with(Training.model_validate(run["settings"]), chosen)
        config = {**run, "settings": settings.model_dump()}
        diary = Diary(folder, number, settings, began)
        if run["plan"].workers == 1:
            _one_worker(config, folder.place(number, CHECKPOINTS), diary)
        else:
            _several_workers(config, folder.place(number, CHECKPOINTS), diary)
        diary.close()
    except (ResourceError, StorageError):  # no fault of the point: it may go on with --resume
        raise
    except Exception as error:  # whatever it is, the other trials go on
        folder.finish(number, "failed", _reason(error))
        return
    folder.finish(number, "finished")


def _reason(error: Exception) -> str:
    if isinstance(error, _OUT_OF_MEMORY):
        return f"Out of memory: {error}"
    told = " ".join(str(error).split())
    return f"{type(error).__name__}: {told}"[:2000]


class Diary:
    """Writes down the epochs of a trial, and says them to Tune."""

    def __init__(self, folder: Folder, number: int, settings: Training, began: float) -> None:
        self._folder, self._number, self._began = folder, number, began
        self._settings = settings
        self._said = False
        before = folder.trial(number)
        self._lines = [] if before is None else [dict(line) for line in before.history]
        last = self._lines[-1] if self._lines else {}
        self._began -= last.get("seconds", 0.0)  # the time of earlier starts counts
        self._starts = last.get("starts", 0.0) + 1

    def epoch(self, figures: Metrics, confusion: list[list[int]]) -> None:
        """Ends the trial by SystemExit where Tune wants no more of it."""
        metric, epochs = self._settings.stopping.metric, self._settings.train.epochs
        epoch = int(figures["epoch"])
        # A trial that goes on from a checkpoint says some epochs again.
        lines = [line for line in self._lines if line["epoch"] < epoch]
        rule = stopping.Rule(metric, self._settings.stopping.patience)
        seconds = round(time.monotonic() - self._began, 3)
        line = dict(figures) | {"seconds": seconds, "starts": self._starts}
        lines.append(line)
        over = epoch >= epochs or stopping.is_over(lines, rule)
        line["percent"] = 100.0 if over else 100.0 * epoch / epochs
        best = stopping.best_epoch(lines, metric)
        self._lines = lines
        self._folder.write_history(self._number, lines)
        if best == len(lines):
            self._folder.write_confusion(self._number, confusion)
        self._say()

    def close(self) -> None:
        """Says the last epoch of a trial that was only killed after it."""
        if not self._said and self._lines:
            self._say()

    def _say(self) -> None:
        self._said = True
        best = stopping.best_epoch(self._lines, self._settings.stopping.metric)
        told = {name: value for name, value in self._lines[-1].items() if name != "seconds"}
        ray.tune.report(told | {"best_macro_f1": self._lines[best - 1]["macro_f1"]})


def _one_worker(config: Mapping[str, Any], checkpoints: str, diary: Diary) -> None:
    settings = Training.model_validate(config["settings"])
    shelf, judge = Shelf(checkpoints), judge_of(config)
    with going_on(
        shelf,
        newest_sound(shelf, say),
        writes=True,
        keep=settings.checkpoint.keep,
        metric=settings.stopping.metric,
        tell=say,
    ) as (resume, save):

        def report(figures: Metrics, take: Any) -> None:
            save(take)
            diary.epoch(figures, judge.confusion)

        train_worker(config, report, save=save, resume=resume, judge=judge)


def _several_workers(config: Mapping[str, Any], checkpoints: str, diary: Diary) -> None:
    """Ray Train in a thread of its own; here its reports are waited for, and answered."""
    from ray.util.queue import Queue

    told, answers = (Queue(actor_options={"num_cpus": 0}) for _ in range(2))
    plan: Plan = config["plan"]
    failed: list[BaseException] = []

    def fit() -> None:
        try:
            fit_workers(config, plan, checkpoints, Messenger(told, answers))
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=fit, name="workers", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            try:
                figures, confusion = told.get(timeout=_LOOKS_EVERY_S)
            except Empty:
                continue
            try:
                diary.epoch(figures, confusion)
            except SystemExit:  # Tune wants no more: the workers end before this process does
                answers.put((figures["epoch"], True))
                thread.join()
                raise
            answers.put((figures["epoch"], False))
        if failed:
            raise failed[0]
    except (RayActorError, ActorPlacementGroupRemoved, ActorUnschedulableError) as error:
        # A queue is gone, or Ray Train's controller: with the trial's room, which Tune gives back
        # before this process has ended, or by itself. The trial may go on, from its checkpoint.
        # In one line: the last one is what is known of a trial that ended so twice.
        raise ResourceError(
            "What holds a trial and its workers together has died. It goes on with --resume."
        ) from error
    finally:
        told.shutdown()
        answers.shutdown()


class Messenger:
    """Takes what rank 0 reports to the trial, and brings back whether training ends."""

    def __init__(self, told: Any, answers: Any) -> None:
        self._told, self._answers = told, answers

    def __call__(self, figures: Metrics, confusion: list[list[int]]) -> bool:
        self._told.put((figures, confusion))
        while True:  # an answer to a worker that died before it could take it is not this one's
            epoch, over = self._answers.get()
            if epoch == figures["epoch"]:
                return bool(over)


def trainable(experiment: str, run: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None]:
    """`run_trial` as Tune wants it, with what claims the trial has on the cluster."""
    from ray import tune

    plan: Plan = run["plan"]
    # A trial that starts workers of its own waits for them, and works no more than that.
    claim = plan.resources() if plan.workers == 1 else {"CPU": 0.01}
    shared = tune.with_parameters(_call, experiment=experiment, run=dict(run))
    return tune.with_resources(shared, tune.PlacementGroupFactory([claim]))  # type: ignore[no-any-return]


def _call(config: Mapping[str, Any], experiment: str, run: Mapping[str, Any]) -> None:
    run_trial(config, experiment=experiment, run=run)
