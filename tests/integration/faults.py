"""What the tests of faults share: runs in processes of their own, and what their steps tell."""

import functools
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch

from cluster.resources import Plan
from jobs import trainer
from jobs.checkpoints import Shelf, newest_sound, position_of
from jobs.classifier.progress import Metrics, Position
from jobs.prepared import open_prepared
from jobs.training_run import TrainCommand, train
from tests.conftest import last_json
from tests.integration import harm

ROOT = Path(__file__).resolve().parents[2]
EVERY_STEPS = 5
EPOCHS = 3
MARK = "TESTS_OF_FAULTS_MARK"  # in every process of one run
CLOCKS = ("epoch_seconds", "tokens_per_second")
LIMIT_S = 120


@dataclass(frozen=True)
class Step:
    """One step of one rank, as tests.integration.observed wrote it down."""

    time: float
    pid: int
    rank: int
    at: Position
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """A run of `jobs.train` that is watched; everything of it is below `folder`."""

    folder: Path
    data: str
    model: Path
    dropout: float = 0.1
    workers: int = 1
    lr: float = 5e-3
    scaling: Mapping[str, Any] = field(default_factory=dict)  # beside the number of workers

    @property
    def output(self) -> Path:
        return self.folder / "run"

    @property
    def log(self) -> Path:
        return self.folder / "steps"

    def values(self) -> dict[str, Any]:
        """Its settings, for TrainCommand."""
        return {
            "data": {"uri": self.data},
            "output": str(self.output),
            "model": {"name": str(self.model), "max_tokens": 16, "dropout": self.dropout},
            "train": {"epochs": EPOCHS, "batch_tokens": 32, "precision": "fp32"},
            "optim": {"lr": self.lr, "head_lr": 5e-3, "clip_norm": max(1.0, self.lr)},
            "checkpoint": {"every_steps": EVERY_STEPS, "keep": 50},
            "scaling": {"workers": self.workers} | dict(self.scaling),
        }

    def words(self, *more: str) -> list[str]:
        """The same as a command."""
        flags = [f"--output={self.output}", f"--data={self.data}"]
        for group, values in self.values().items():
            if isinstance(values, dict) and group != "data":
                flags += [f"--{group}.{name}={value}" for name, value in values.items()]
        return [sys.executable, "-m", "tests.integration.observed", *flags, *more]

    def observed(self, **plan: Any) -> dict[str, str]:
        """The environment that says what is done to it."""
        return {"OBSERVED": json.dumps({"log": str(self.log)} | plan)}

    @contextmanager
    def started(
        self, *more: str, environment: Mapping[str, str] | None = None, **plan: Any
    ) -> Iterator["subprocess.Popen[str]"]:
        """The command in a process of its own; afterwards it and all it started have to be gone."""
        extra = self.observed(**plan) | dict(environment or {})
        with started(self.words(*more), self.folder / "said", extra) as process:
            yield process

    def here(self, *, resume: bool = False, **plan: Any) -> tuple[dict[str, Any], float]:
        """The same, but driven by this process, on the Ray of these tests: what the command
        returns, and seconds."""
        plan |= {"log": str(self.log)}
        watched = functools.partial(harm.observed_worker, plan)
        began = time.monotonic()
        with mock.patch.object(trainer, "_ray_worker", watched):
            said = train(TrainCommand(**self.values() | {"resume": resume}))
        return said, time.monotonic() - began

    def finish(self, *more: str, **plan: Any) -> tuple[int, dict[str, Any], float]:
        """Runs the command to its end: exit code, its last line (of none that was killed), and
        seconds."""
        began = time.monotonic()
        with self.started(*more, **plan) as process:
            out, _ = process.communicate(timeout=LIMIT_S)
        said = last_json(out) if process.returncode >= 0 else {}
        return process.returncode, dict(said), time.monotonic() - began

    def said(self) -> str:
        """All that it wrote on standard error, and its workers on either."""
        return (self.folder / "said").read_text()

    def harmed(self) -> bool:
        """Whether harm was done to it."""
        return Path(f"{self.log}.harm").exists()

    def steps(self) -> list[Step]:
        return read_steps(self.log)

    def history(self) -> list[Metrics]:
        """The figures of its epochs, the clocks aside."""
        shelf = Shelf(str(self.output / trainer.CHECKPOINTS))
        newest = newest_sound(shelf, lambda _: None)
        assert newest is not None
        return without_clocks(shelf.manifest(newest).progress.history)


@contextmanager
def started(
    words: Sequence[str], said: Path, environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[str]"]:
    """A command in a process of its own, with a Ray of its own unless the environment says
    otherwise; afterwards it and all that it started have to be gone. Standard error goes to
    `said`."""
    mark = uuid.uuid4().hex
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    env = kept | {MARK: mark} | dict(environment)
    with said.open("a") as file:
        process = subprocess.Popen(
            words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=file, text=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    wait_until(lambda: not marked(mark), "all that the run started has ended")


def read_steps(log: Path) -> list[Step]:
    """What tests.integration.harm wrote down."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else []:
        when, pid, rank, epoch, number, rows = json.loads(line)
        found.append(Step(when, pid, rank, Position(epoch, number), tuple(rows)))
    return found


def without_clocks(history: Any) -> list[Metrics]:
    return [{k: v for k, v in found.items() if k not in CLOCKS} for found in history]


def undisturbed(run: Run, *, threads: int = 2) -> list[Metrics]:
    """The figures of the same run, trained in this process by one worker without any Ray. Sums
    depend in their last bits on the number of threads."""
    before = torch.get_num_threads()
    settings = TrainCommand(**run.values()).training()
    prepared = open_prepared(run.data)
    stores = trainer.token_stores(prepared, settings)
    config = trainer.worker_config(
        settings, prepared, Plan(1, False, 1.0, threads, 1.0), stores, run="test"
    )
    try:
        outcome = trainer.train_worker(config, lambda *_: None)
    finally:
        torch.set_num_threads(before)
    return without_clocks(outcome.history)


def wasted_steps(steps: list[Step]) -> int:
    """Steps of rank 0 that were trained and then trained again."""
    of_one_rank = [step.at for step in steps if step.rank == 0]
    return len(of_one_rank) - len(set(of_one_rank))


def assert_every_row_once(steps: list[Step], began_at: Position) -> None:
    """The steps before `began_at`, each as it was trained first, and those of the last attempt
    make up every epoch whole: no row twice, none left out, none after `began_at` trained again."""
    last = {step.pid for step in steps if step.at >= began_at and step is steps[-1]}
    workers = {step.pid for step in steps if step.time >= min_time(steps, last)}
    rest = [step for step in steps if step.pid in workers]
    assert min(step.at for step in rest) == began_at
    again = Counter((step.rank, step.at) for step in rest)
    assert set(again.values()) == {1}, "a batch was trained twice after the resumed step"
    taken = {(step.rank, step.at): step for step in steps if step.at < began_at}
    taken |= {(step.rank, step.at): step for step in rest}
    epochs = [
        Counter(row for (_, at), step in taken.items() if at.epoch == epoch for row in step.rows)
        for epoch in range(EPOCHS)
    ]
    assert epochs[0] == epochs[1] == epochs[2], "an epoch is not every row once"
    assert sum(epochs[0].values()) > 50


def min_time(steps: list[Step], pids: set[int]) -> float:
    return min(step.time for step in steps if step.pid in pids)


def most_wasted(run: Run) -> int:
    """The steps that a run may have trained twice: those of an interval, and of one upload. That
    was over before the next one began, or was the one that the kill cut off."""
    return EVERY_STEPS + max(EVERY_STEPS, _steps_of_one_upload(run))


def _steps_of_one_upload(run: Run) -> int:
    """The most steps that were trained while one of its checkpoints was written."""
    shelf = Shelf(str(run.output / trainer.CHECKPOINTS))
    most = 0
    for name in shelf.names():
        at = position_of(name)
        if at.batch == 0 or not shelf.is_finished(name):
            continue
        done = (run.output / trainer.CHECKPOINTS / name / "manifest.json").stat().st_mtime
        trained = [s.time for s in run.steps() if s.rank == 0 and s.at >= at and s.time <= done]
        made = [s.time for s in run.steps() if s.at == Position(at.epoch, at.batch - 1)]
        most = max(most, sum(1 for when in trained if any(m <= when for m in made)))
    return most


def wait_until(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until, f"waited {LIMIT_S} s in vain until {what}"
        time.sleep(0.05)


def marked(mark: str) -> list[int]:
    """The processes of one run, wherever they have gone."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def figure(what: str, **values: Any) -> None:
    """Prints what a test measured, for the record."""
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    print(f"\nFIGURE {what}: {told}")
