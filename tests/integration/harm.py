"""What tests of faults put around the functions that Ray calls where training happens: every step
is written down, and at one of them harm is done by the first rank that comes to it: once, or
always.
"""

import json
import os
import signal
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

Plan = dict[str, Any]
STEP_S = 0.02  # at least: the tiny model's own take a few milliseconds


def observed_worker(plan: Plan, config: dict[str, Any]) -> Any:
    """The worker of `jobs.trainer`, with an eye on its steps."""
    import ray.train

    from jobs import trainer

    with watched(plan, ray.train.get_context().get_world_rank()):
        return trainer._ray_worker(config)


def observed_trial(plan: Plan, config: Mapping[str, Any], **about: Any) -> None:
    """A trial of `tuning.trial` of one worker, with an eye on its steps, which stand in a log of
    its own; harm is done to trial number `plan["trial"]` alone."""
    from tuning import trial
    from tuning.proposer import NUMBER

    number = config[NUMBER]
    mine = plan | {"log": f"{plan['log']}.{number}"}
    if number != plan.get("trial"):
        mine.pop("at", None)
    with watched(mine, 0):
        trial.run_trial(config, **about)


@contextmanager
def watched(plan: Plan, rank: int) -> Iterator[None]:
    """Every step in this process is written down, and takes STEP_S at least."""
    from jobs.classifier.step import Step

    real = Step.__call__

    def observed(self: Step, batch: Any, *, epoch: int, number: int, rate: float) -> torch.Tensor:
        began = time.monotonic()
        loss = real(self, batch, epoch=epoch, number=number, rate=rate)
        time.sleep(max(0.0, STEP_S - (time.monotonic() - began)))
        entry = [time.time(), os.getpid(), rank, epoch, number, rows_of(batch)]
        with Path(plan["log"]).open("a") as log:
            log.write(json.dumps(entry) + "\n")
        if plan.get("at") == [epoch, number] and not _spared(plan):
            harm = HARMS[plan["harm"]]
            harm(plan) if plan.get("always") else _once(plan, harm)
        return loss

    Step.__call__ = observed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Step.__call__ = real  # type: ignore[method-assign]


def rows_of(batch: Any) -> list[int]:
    """A number for each row that counts, made of its tokens and label."""
    return [
        zlib.crc32(repr((ids[mask == 1].tolist(), int(label))).encode())
        for ids, mask, label, weight in zip(
            batch.ids, batch.mask, batch.labels, batch.weights, strict=True
        )
        if weight > 0
    ]


def _once(plan: Plan, harm: Callable[[Plan], None]) -> None:
    with suppress(FileExistsError):
        os.close(os.open(plan["log"] + ".harm", os.O_CREAT | os.O_EXCL))
        harm(plan)


def _kill_worker(_: Plan) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_driver(plan: Plan) -> None:
    os.kill(plan["driver"], signal.SIGKILL)
    _wait_for_the_end(plan)


def _interrupt_driver(plan: Plan) -> None:
    os.kill(plan["driver"], signal.SIGINT)
    _wait_for_the_end(plan)


def _wait_for_the_end(_: Plan) -> None:
    """A long step: with tiny ones training would be over before Ray has ended the worker."""
    time.sleep(60)


def _spared(plan: Plan) -> bool:
    """Whether this worker is on the node of the driver, which is not the one to kill."""
    import ray

    return bool(ray.get_runtime_context().get_node_id() == plan.get("node"))


def _kill_node(plan: Plan) -> None:
    os.kill(os.getppid(), signal.SIGKILL)  # the raylet; it would take its workers a second to see
    _kill_worker(plan)


def _fill_disk(plan: Plan) -> None:
    with suppress(OSError), Path(plan["filler"]).open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


HARMS: dict[str, Callable[[Plan], None]] = {
    "kill-worker": _kill_worker,
    "kill-driver": _kill_driver,
    "interrupt-driver": _interrupt_driver,
    "kill-node": _kill_node,
    "fill-disk": _fill_disk,
    "long-step": _wait_for_the_end,
}
