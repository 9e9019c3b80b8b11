"""What the tests of faults share about searches: small ones that are watched, and what is left."""

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from cluster.resources import Plan
from jobs import trainer
from jobs.classifier.progress import Metrics
from jobs.prepared import open_prepared
from tests.integration import faults, harm
from tuning import trial
from tuning.experiment import Folder, Trial
from tuning.search import SearchCommand, search
from tuning.space import settings_with

if TYPE_CHECKING:
    import subprocess

EPOCHS = 4
EVERY_STEPS = 3
SPACE = '[optim.lr]\nkind = "log-uniform"\nlow = 1e-5\nhigh = 1e-2\n'


@dataclass(frozen=True)
class Searching:
    """A search that is watched; everything of it is below `folder`."""

    folder: Path
    data: str
    model: Path
    trials: int | None = 3
    rates: tuple[float, ...] = (5e-3, 2e-3, 3e-3)  # of the trials, in this order
    epochs: int = EPOCHS
    more: Mapping[str, Any] = field(default_factory=dict)  # other settings of SearchCommand

    @property
    def experiment(self) -> Folder:
        return Folder(str(self.folder / "experiment"))

    @property
    def log(self) -> Path:
        return self.folder / "steps"

    def values(self) -> dict[str, Any]:
        """Its settings, for SearchCommand."""
        space = self.folder / "space.toml"
        points = (f'[[points]]\n"optim.lr" = {rate}\n' for rate in self.rates)
        space.write_text(SPACE + "".join(points))
        return {
            "data": self.data,
            "output": self.experiment.uri,
            "space": str(space),
            "trials": self.trials,
            "scheduler": "none",
            "model": {"name": str(self.model), "max_tokens": 16, "dropout": 0.1},
            "train": {"epochs": self.epochs, "batch_tokens": 64, "precision": "fp32"},
            "optim": {"head_lr": 5e-3},
            "checkpoint": {"every_steps": EVERY_STEPS, "keep": 50},
        } | dict(self.more)

    def words(self, *more: str) -> list[str]:
        """The same as a command."""
        flags = []
        for group, value in self.values().items():
            named = value if isinstance(value, dict) else {"": value}
            flags += [f"--{group}{'.' if k else ''}{k}={v}" for k, v in named.items()]
        return [sys.executable, "-m", "tests.integration.observed_search", *flags, *more]

    @contextmanager
    def started(
        self, *more: str, environment: Mapping[str, str] | None = None, **plan: Any
    ) -> Iterator["subprocess.Popen[str]"]:
        """The command in a process of its own; afterwards it and all it started have to be gone."""
        extra = {"OBSERVED": json.dumps({"log": str(self.log)} | plan)} | dict(environment or {})
        with faults.started(self.words(*more), self.folder / "said", extra) as process:
            yield process

    def finish(self, *more: str, **plan: Any) -> tuple[int, str]:
        """Runs the command to its end: exit code, and standard output."""
        with self.started(*more, **plan) as process:
            out, _ = process.communicate(timeout=faults.LIMIT_S)
        return process.returncode, out

    def here(self, *, resume: bool = False, **plan: Any) -> dict[str, Any]:
        """The same, but driven by this process, on the Ray of these tests: what it returns."""
        watched = functools.partial(harm.observed_trial, {"log": str(self.log)} | plan)
        with mock.patch.object(trial, "_call", watched):
            return search(SearchCommand(**self.values() | {"resume": resume}))

    def said(self) -> str:
        """All that the command wrote on standard error, and its trials on either."""
        return (self.folder / "said").read_text()

    def trial(self, number: int) -> Trial:
        found = self.experiment.trial(number)
        assert found is not None, f"trial {number} was never begun"
        return found

    def steps(self, number: int) -> list[faults.Step]:
        """Every step of a trial, in the order in which they were trained."""
        return faults.read_steps(Path(f"{self.log}.{number}"))

    def kept(self, number: int) -> dict[str, bytes]:
        """What must not change any more once a trial has ended, and every step of it."""
        place = Path(self.experiment.place(number))
        written = ("trial.json", "history.json", "confusion.json", "end.json")
        return {name: (place / name).read_bytes() for name in written} | {
            "steps": Path(f"{self.log}.{number}").read_bytes()
        }

    def undisturbed(self, number: int) -> list[Metrics]:
        """The figures of the same trial, trained in this process without any Ray, the clocks
        aside. Sums depend in their last bits on the number of threads."""
        record = self.experiment.record()
        base = SearchCommand(**self.values()).training()
        settings = settings_with(base, self.trial(number).parameters)
        prepared = open_prepared(self.data)
        stores = trainer.token_stores(prepared, settings)
        plan = Plan(1, False, 1.0, record["plan"]["threads"], 1.0)
        config = trainer.worker_config(settings, prepared, plan, stores, run="test")
        before = torch.get_num_threads()
        try:
            outcome = trainer.train_worker(config, lambda *_: None)
        finally:
            torch.set_num_threads(before)
        return faults.without_clocks(outcome.history)


def figures(found: Trial) -> list[Metrics]:
    """What a trial wrote down of its epochs, the clocks and its own share of the way aside."""
    more = ("seconds", "starts", "percent")
    return [
        {k: v for k, v in line.items() if k not in more}
        for line in faults.without_clocks(found.history)
    ]


def ended_at(found: Trial) -> float:
    """When a trial ended, in seconds of time.time()."""
    return datetime.fromisoformat(found.end["ended"]).timestamp()


def in_the_cluster() -> set[str]:
    """Placement groups and actors that are there now, of whatever program."""
    import ray
    from ray._private import state

    groups = ray.util.placement_group_table().items()
    actors = state.actors().items()
    return {f"group {key}" for key, about in groups if about["state"] != "REMOVED"} | {
        f"actor {key} {about['ActorClassName']}"
        for key, about in actors
        if about["State"] != "DEAD"
    }


def kill_actors(kind: str) -> list[int]:
    """Kills the processes on this machine that are actors of a class; their ids, once Ray knows."""
    from ray._private import state

    def alive() -> list[int]:
        return [
            int(about["Pid"])
            for about in state.actors().values()
            if about["ActorClassName"] == kind and about["State"] == "ALIVE"
        ]

    killed = alive()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    faults.wait_until(lambda: not alive(), f"no {kind} is alive")
    return killed


def wait_for_the_same(before: set[str]) -> float:
    """Until nothing is left in the cluster that was not there `before`; seconds."""
    began = time.monotonic()
    try:
        faults.wait_until(lambda: in_the_cluster() <= before, "nothing is left behind")
    except AssertionError as error:
        raise AssertionError(f"{error}: {in_the_cluster() - before}") from None
    return time.monotonic() - began
