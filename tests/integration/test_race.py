"""Two commands that want the same output folder at the same moment."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import ray

from tests.integration import faults
from tests.integration.faults import Run, figure
from tests.integration.test_training import prepared  # noqa: F401  # a fixture

pytestmark = pytest.mark.slow


def test_of_two_runs_that_start_in_one_folder_one_trains_and_the_other_says_why_not(
    prepared: str,  # noqa: F811
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, prepared, tiny_model)
    expected = faults.undisturbed(run)
    environment = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    with ExitStack() as stack:
        both = [stack.enter_context(run.started(environment=environment)) for _ in range(2)]
        ends = [process.communicate(timeout=faults.LIMIT_S)[0] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], run.said()
    sentence = str(faults.last_json(ends[codes.index(2)])["error"])
    assert f"--output {run.output}" in sentence
    assert "another run" in sentence
    assert len({step.pid for step in run.steps()}) == 1
    assert faults.wasted_steps(run.steps()) == 0
    assert run.history() == expected
    assert (run.output / "bundle" / "bundle.json").exists()
    figure("two starts in one folder", the_other_said=sentence)
