"""Between the attempts of a run on Ray Train: what is tried again, and what is said of it.

Ray starts all workers anew when one has failed. It would do so too for a mistake of the user, and
wait for ever for room that is not there; here both end in one sentence.
"""

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.train import (
    ControllerError,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    TrainingFailedError,
    UserCallback,
    WorkerGroupError,
)
from ray.train.torch import TorchTrainer

from cluster import room
from cluster.errors import ResourceError, user_error_in
from cluster.resources import Plan
from cluster.session import say

_STARTS = 4  # how often Ray tries to place the workers before it gives up


class Attempts(UserCallback):  # type: ignore[misc]  # Ray has no types
    """Tells of failed workers; what a user has to mend is raised, which ends the run.

    Of `max_failures` + 1 failures the last is that of the run.
    """

    def __init__(self, max_failures: int) -> None:
        self._left = max_failures

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            found = user_error_in(error)
            if found is not None:
                raise found
        ranks = ", ".join(str(rank) for rank in sorted(worker_exceptions))
        first = next(iter(worker_exceptions.values()))
        reason = next((line for line in str(first).splitlines() if line.strip()), "")
        said = f"Worker {ranks} failed ({type(first).__name__}: {reason[:200]})"
        if not any(_is_taken_back(error) for error in worker_exceptions.values()):
            self._left -= 1
        if self._left < 0:
            say(f"{said}.")
        else:
            say(f"{said}; all workers start again from the newest sound checkpoint …")


def _is_taken_back(error: Exception) -> bool:
    """Whether a worker went with a node that its owner took back, which Ray does not count."""
    return bool(getattr(getattr(error, "health_check_failure", error), "preempted", False))


class Trainer(TorchTrainer):  # type: ignore[misc]  # Ray has no types
    """A TorchTrainer without Ray's watch over placement groups.

    That is for drivers which outlive their training; ours ends with it, and so do its placement
    groups. The watch asks a dashboard every second, and complains on a Ray that has none.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [c for c in callbacks if type(c).__name__ != "PlacementGroupCleanerCallback"]


def run_config(max_failures: int, start_timeout: float, *, place: str) -> RunConfig:
    """So many failures of workers, and so many seconds without room for them, in a whole run."""
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(start_timeout / _STARTS)
    return RunConfig(
        name=f"train-{uuid.uuid4().hex[:8]}",
        storage_path=place,
        failure_config=FailureConfig(
            max_failures=max_failures, controller_failure_limit=_STARTS - 1
        ),
        # Its own lines end in tracebacks; `Attempts` says what there is to say.
        logging_config=LoggingConfig(log_level="CRITICAL"),
        callbacks=[Attempts(max_failures)],
    )


def told(
    error: TrainingFailedError, plan: Plan, max_failures: int, start_timeout: float
) -> Exception:
    """The error that a user should see for one of Ray Train."""
    cause = error.controller_failure if isinstance(error, ControllerError) else error
    if type(cause).__name__ == "WorkerGroupStartupTimeoutError":
        return ResourceError(
            f"{room.no_room(plan, start_timeout)} The run goes on with --resume from its newest "
            "checkpoint."
        )
    found = user_error_in(cause)
    if found is None:
        spent = isinstance(error, WorkerGroupError)
        why = f": scaling.max_failures is {max_failures}" if spent else ""
        say(
            f"The workers are not started again{why}. The run goes on with --resume from its "
            "newest checkpoint, once the cause below is mended."
        )
    return found or error


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT is a KeyboardInterrupt in the block and after it: Ray Train puts in a handler that
    ends the workers and then the program as if it had succeeded, and leaves it there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)
