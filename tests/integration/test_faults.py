"""Training that is killed, stopped, cut off or damaged goes on as if nothing had been.

Every test prints its figure (`pytest -m slow -s tests/integration/test_faults.py`).
"""

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cluster.errors import ResourceError, SettingError, StorageError
from cluster.ports import lasting_port
from jobs import trainer
from jobs.checkpoints import Shelf, newest_sound, position_of
from jobs.classifier.progress import Metrics, Position
from jobs.training_run import TrainCommand, train
from tests.integration import faults
from tests.integration.faults import EVERY_STEPS, Run, figure
from tests.integration.test_training import prepared  # noqa: F401  # a fixture

pytestmark = pytest.mark.slow

IN_MID_EPOCH = [1, 8]


@pytest.fixture(scope="module", autouse=True)
def _ray_looks_often() -> Iterator[None]:
    """At its workers: otherwise every two seconds."""
    with mock.patch.dict(os.environ, {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3"}):
        yield


@pytest.fixture
def run(prepared: str, tiny_model: Path, tmp_path: Path) -> Run:  # noqa: F811
    return Run(tmp_path, prepared, tiny_model)


@pytest.fixture(scope="module")
def expected(
    prepared: str,  # noqa: F811
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Metrics]:
    """The figures of an undisturbed run."""
    return faults.undisturbed(Run(tmp_path_factory.mktemp("undisturbed"), prepared, tiny_model))


@pytest.fixture(scope="module")
def cut_off(
    prepared: str,  # noqa: F811
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """A run whose driver was killed, and with it a Ray of its own; to be copied."""
    run = Run(tmp_path_factory.mktemp("cut-off"), prepared, tiny_model)
    code, _, _ = run.finish(at=IN_MID_EPOCH, harm="kill-driver")
    assert code == -9, run.said()
    return run


def began_at(said: dict[str, Any]) -> Position:
    return Position(**said["resumed_at"])


def assert_as_undisturbed(run: Run, said: dict[str, Any], expected: list[Metrics]) -> int:
    """Final figures to the last bit, every row once, few steps twice; how many those were."""
    assert run.history() == expected
    steps = run.steps()
    faults.assert_every_row_once(steps, began_at(said))
    wasted = faults.wasted_steps(steps)
    assert wasted <= faults.most_wasted(run)
    assert (run.output / "bundle" / "bundle.json").exists()
    return wasted


def test_a_run_goes_on_when_a_worker_is_killed_in_mid_epoch(
    run: Run, expected: list[Metrics]
) -> None:
    said, seconds = run.here(at=IN_MID_EPOCH, harm="kill-worker")
    assert Position(1, 0) <= began_at(said) <= Position(1, 9)
    wasted = assert_as_undisturbed(run, said, expected)
    gap = max(after.time - one.time for one, after in itertools.pairwise(run.steps()))
    figure(
        "worker killed", wasted_steps=wasted, seconds_to_the_next_step=f"{gap:.1f}",
        seconds_of_all=f"{seconds:.1f}",
    )  # fmt: skip


def test_a_run_whose_driver_was_killed_is_resumed(
    run: Run, cut_off: Run, expected: list[Metrics]
) -> None:
    shutil.copytree(cut_off.folder, run.folder, dirs_exist_ok=True)
    said, seconds = run.here(resume=True)
    wasted = assert_as_undisturbed(run, said, expected)
    figure("driver killed", wasted_steps=wasted, seconds_of_the_resumed_run=f"{seconds:.1f}")


@pytest.mark.parametrize("damage", ["truncated", "bit-flipped"])
def test_a_damaged_newest_checkpoint_is_known_and_the_one_before_is_taken(
    run: Run,
    cut_off: Run,
    expected: list[Metrics],
    damage: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(cut_off.folder, run.folder, dirs_exist_ok=True)
    shelf = Shelf(str(run.output / trainer.CHECKPOINTS))
    newest, before = [name for name in shelf.names() if shelf.is_finished(name)][:2]
    file = Path(shelf.uri, newest, "model.safetensors")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data[: len(data) // 2] if damage == "truncated" else data)
    said, seconds = run.here(resume=True)
    assert began_at(said) == position_of(before)
    assert run.history() == expected
    faults.assert_every_row_once(run.steps(), began_at(said))
    faults.wait_until(lambda: newest in capfd.readouterr().out, "it says what is damaged")
    figure(f"{damage} checkpoint", used=before, seconds=f"{seconds:.1f}")


def test_ctrl_c_leaves_nothing_and_no_traceback(run: Run) -> None:
    with run.started(at=IN_MID_EPOCH, harm="interrupt-driver") as process:
        out, _ = process.communicate(timeout=faults.LIMIT_S)
        ended = time.time()
    assert process.returncode == 130
    assert faults.last_json(out)["error"] == "Interrupted."
    assert "Traceback" not in out + run.said()
    assert newest_sound(Shelf(str(run.output / trainer.CHECKPOINTS)), print) is not None
    seconds = ended - run.steps()[-1].time
    figure("Ctrl-C", seconds_from_the_last_step_to_the_end=f"{seconds:.1f}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a few checkpoints of the tiny model."""
    folder = tmp_path / "run"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be made here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_ends_in_a_sentence_and_the_run_is_resumed_when_there_is_room(
    small_disk: Path, run: Run, expected: list[Metrics]
) -> None:
    filler = small_disk / "filler"
    with pytest.raises(StorageError) as failed:
        run.here(at=IN_MID_EPOCH, harm="fill-disk", filler=str(filler))
    assert "weights of the best epoch cannot be saved in" in str(failed.value)
    assert "--resume" in str(failed.value)
    left = shutil.disk_usage(small_disk).free
    shelf = Shelf(str(run.output / trainer.CHECKPOINTS))
    kept = next(name for name in shelf.names() if shelf.is_finished(name))
    shelf.check(kept)
    steps = {step.at for step in run.steps()}
    assert max(steps) > Position(2, EVERY_STEPS), "training went on without a place to save"
    filler.unlink()
    said, seconds = run.here(resume=True)
    assert began_at(said) == position_of(kept)
    assert run.history() == expected
    figure("disk full", bytes_left=left, resumed_from=kept, seconds=f"{seconds:.1f}")


def test_a_mistake_of_the_user_is_not_tried_again(run: Run) -> None:
    wild = replace(run, lr=1e30)
    with pytest.raises(SettingError, match=r"Lower optim\.lr"):
        wild.here()
    assert len({step.pid for step in run.steps()}) == 1


def test_a_run_that_finds_no_room_says_so_within_a_minute(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    class Greedy:
        def up(self) -> bool:
            return True

    holder = ray.remote(num_cpus=2)(Greedy).remote()
    assert ray.get(holder.up.remote())
    began = time.monotonic()
    try:
        with pytest.raises(ResourceError) as refused:
            train(TrainCommand(**run.values()))
    finally:
        ray.kill(holder)
    seconds = time.monotonic() - began
    assert seconds < 60
    assert "no room for 1 worker of 0.5 CPUs" in str(refused.value)
    assert "has 2 CPUs and 0 GPUs on 1 node, of which 0 CPUs are free" in str(refused.value)
    assert "Waiting up to 30 s for room for 1 worker" in capfd.readouterr().err
    assert not run.output.exists()
    figure("no room", seconds=f"{seconds:.1f}")


@dataclass(frozen=True)
class Nodes:
    """A running cluster: where drivers join it, and where jobs are sent."""

    address: str
    dashboard: str


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Nodes]:
    """Three nodes with a CPU each; the last test with it kills one."""
    from ray.cluster_utils import Cluster

    first_on_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with mock.patch.dict(os.environ, {"PATH": first_on_path}):
        cluster = Cluster()
        port = lasting_port()
        about: dict[str, Any] = {"include_dashboard": True, "dashboard_port": port}
        try:
            for _ in range(3):
                cluster.add_node(num_cpus=1, dashboard_agent_listen_port=lasting_port(), **about)
                about = {}
            cluster.wait_for_nodes()
            yield Nodes(cluster.address, f"http://127.0.0.1:{port}")
        finally:
            cluster.shutdown()


def test_a_stopped_job_is_resumed(run: Run, three_nodes: Nodes) -> None:
    from ray.job_submission import JobStatus, JobSubmissionClient

    expected = faults.undisturbed(run, threads=1)
    client = JobSubmissionClient(three_nodes.dashboard)
    environment = {
        "env_vars": run.observed(at=IN_MID_EPOCH, harm="long-step"),
        "working_dir": str(faults.ROOT),
    }
    words = " ".join(["python", *run.words()[1:]])

    def is_over(job: str) -> bool:
        return bool(client.get_job_status(job).is_terminal())

    first = client.submit_job(entrypoint=words, runtime_env=environment)
    faults.wait_until(lambda: run.harmed() or is_over(first), "it is in mid-epoch")
    client.stop_job(first)
    faults.wait_until(lambda: is_over(first), "it has stopped")
    assert client.get_job_status(first) == JobStatus.STOPPED, client.get_job_logs(first)
    began = time.monotonic()
    second = client.submit_job(entrypoint=f"{words} --resume", runtime_env=environment)
    faults.wait_until(lambda: is_over(second), "the resumed job has ended")
    log = client.get_job_logs(second)
    assert client.get_job_status(second) == JobStatus.SUCCEEDED, log
    wasted = assert_as_undisturbed(run, dict(faults.last_json(log)), expected)
    figure("job stopped", wasted_steps=wasted, seconds=f"{time.monotonic() - began:.1f}")


def test_two_workers_go_on_when_a_node_is_killed(
    prepared: str,  # noqa: F811
    tiny_model: Path,
    tmp_path: Path,
    three_nodes: Nodes,
) -> None:
    # Without dropout, which differs between ranks, two workers learn what one learns.
    run = Run(tmp_path, prepared, tiny_model, dropout=0.0, workers=2)
    one_worker = faults.undisturbed(run)
    environment = {"RAY_ADDRESS": three_nodes.address}
    code, said, seconds = run.finish(at=IN_MID_EPOCH, harm="kill-node", environment=environment)
    assert code == 0, run.said()
    steps = run.steps()
    faults.assert_every_row_once(steps, began_at(said))
    wasted = faults.wasted_steps(steps)
    assert 0 < wasted <= faults.most_wasted(run)
    for found, one in zip(run.history(), one_worker, strict=True):
        assert found == pytest.approx(one, abs=1e-3)
    times = [step.time for step in steps if step.rank == 0]
    gap = max(after - one for one, after in itertools.pairwise(times))
    figure(
        "node killed", wasted_steps=wasted, seconds_to_the_next_step=f"{gap:.1f}",
        seconds_of_all=f"{seconds:.1f}",
    )  # fmt: skip
