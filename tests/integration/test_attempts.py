"""What is said of failed workers, and runs whose failures are spent."""

from dataclasses import replace
from pathlib import Path

import pytest
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from jobs.attempts import Attempts
from jobs.classifier.progress import Position
from tests.integration import faults
from tests.integration.faults import Run
from tests.integration.test_training import prepared  # noqa: F401  # a fixture

IN_MID_EPOCH = [1, 8]


class TakenBack(Exception):
    """As Ray tells of a worker whose node the cloud wanted back."""

    preempted = True


def test_workers_start_again_as_long_as_failures_are_left(
    capfd: pytest.CaptureFixture[str],
) -> None:
    attempts = Attempts(max_failures=1)
    for _ in range(2):
        attempts.after_exception(None, {1: OSError("\ngone\nand more"), 0: OSError("too")})
    first, last = capfd.readouterr().err.splitlines()
    assert first == (
        "Worker 0, 1 failed (OSError: gone); all workers start again from the newest sound "
        "checkpoint …"
    )
    assert last == "Worker 0, 1 failed (OSError: gone)."


def test_a_node_that_was_taken_back_is_no_failure(capfd: pytest.CaptureFixture[str]) -> None:
    attempts = Attempts(max_failures=0)
    attempts.after_exception(None, {0: WorkerHealthCheckFailedError("dead", TakenBack())})
    attempts.after_exception(None, {0: OSError("gone")})
    first, last = capfd.readouterr().err.splitlines()
    assert "start again" in first
    assert "start again" not in last


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_whose_failures_are_spent_is_resumed_by_another_number_of_workers(
    prepared: str,  # noqa: F811
    tiny_model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    before: int,
    after: int,
) -> None:
    # Without dropout, which differs between ranks, two workers learn what one learns.
    run = Run(
        tmp_path, prepared, tiny_model, dropout=0.0, workers=before, scaling={"max_failures": 0}
    )
    expected = faults.undisturbed(run)
    with pytest.raises(WorkerGroupError):
        run.here(at=IN_MID_EPOCH, harm="kill-worker")
    assert "not started again: scaling.max_failures is 0" in capfd.readouterr().err
    assert {step.rank for step in run.steps()} == set(range(before))
    said, _ = replace(run, workers=after).here(resume=True)
    assert said["workers"] == after
    began_at = Position(**said["resumed_at"])
    assert Position(1, 0) <= began_at <= Position(1, 9)
    faults.assert_every_row_once(run.steps(), began_at)
    for found, one in zip(run.history(), expected, strict=True):
        assert found == pytest.approx(one, abs=1e-3)
