"""What is written down of trials that could not say it themselves."""

from pathlib import Path
from types import SimpleNamespace

from tests.unit import experiments
from tuning.experiment import Folder
from tuning.proposer import NUMBER
from tuning.recorder import Recorder


def test_a_trial_that_died_twice_has_failed_by_what_ray_says_of_it_last(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "experiment"))
    experiments.write_trial(folder, 3, {"optim.lr": 1e-4}, [], None)
    error = tmp_path / "error.txt"
    error.write_text(
        "Failure # 1 (occurred at noon)\nThe actor died.\n\tpid: 1\nkilled by SIGSEGV\n"
        "Failure # 2 (occurred at one)\nThe actor died.\n\tpid: 2\nkilled by the OOM killer\n"
    )
    spared: list[int] = []
    trial = SimpleNamespace(config={NUMBER: 3}, error_file=str(error))
    Recorder(folder, spared.append).on_trial_error(1, [trial], trial)
    (found,) = folder.trials()
    assert found.state == "failed"
    assert found.end["reason"] == (
        "It ended without a word, and again when it was started anew: killed by the OOM killer"
    )
    assert spared == [3]


def test_nothing_known_is_said_too(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    trial = SimpleNamespace(config={NUMBER: 1}, error_file=None)
    Recorder(folder, lambda _: None).on_trial_error(1, [trial], trial)
    assert "nothing is known of it" in folder._read(1, "end.json")["reason"]


def test_a_trial_that_found_no_room_has_not_ended(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "experiment"))
    experiments.write_trial(folder, 3, {"optim.lr": 1e-4}, [], None)
    error = tmp_path / "error.txt"
    error.write_text("Failure # 1\ncluster.errors.StorageError: The disk is full. Make room.\n")
    trial = SimpleNamespace(config={NUMBER: 3}, error_file=str(error))
    Recorder(folder, lambda _: None).on_trial_error(1, [trial], trial)
    (found,) = folder.trials()
    assert found.state == "unfinished", "--resume goes on with it"
