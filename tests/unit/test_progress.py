"""What a person sees of a search: plain lines, or a table on a terminal."""

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.unit.test_halving import TuneTrial
from tuning import progress as progress_module
from tuning.experiment import Folder
from tuning.progress import Progress, in_words


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(str(tmp_path))
    for number in range(1, 5):
        found.begin(number, {"optim.lr": 1e-4 * number}, "searched")
    return found


def progress(folder: Folder, **how: Any) -> Progress:
    values: dict[str, Any] = {"ended": (), "metric": "macro_f1", "limit": 4, "until": None}
    return Progress(folder, **values | how)


def told(shown: Progress, number: int, percent: float, macro_f1: float) -> None:
    result = {"percent": percent, "macro_f1": macro_f1}
    shown.on_trial_result(0, [], TuneTrial(number), result)


def test_every_end_is_a_line_with_the_best_so_far_and_the_time_left(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = progress(folder)
    told(shown, 1, 50.0, 0.9)
    told(shown, 1, 100.0, 0.7)
    folder.finish(1, "finished")
    shown.on_trial_complete(0, [], TuneTrial(1))
    told(shown, 2, 20.0, 0.8)
    folder.finish(2, "stopped", "behind")
    shown.on_trial_complete(0, [], TuneTrial(2))
    folder.finish(3, "failed", "SettingError: The loss is no longer a number")
    shown.on_trial_error(0, [], TuneTrial(3))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("trial 1 finished at macro-F1 0.7000, 100% of its schedule; 1 of 4")
    assert "best so far 0.7000 (trial 1)" in lines[0]
    assert "left" in lines[0]
    assert "trial 2 stopped at macro-F1 0.8000, 20%" in lines[1]
    assert "best so far 0.7000 (trial 1)" in lines[1], "what did not end is no best"
    assert lines[2].startswith("trial 3 failed: SettingError: The loss is no longer a number; 3 of")
    assert len(lines) == 3, "reports within a trial are no lines"


def test_a_trial_that_the_time_cut_off_has_not_ended(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = progress(folder)
    told(shown, 1, 50.0, 0.9)
    shown.on_trial_complete(0, [], TuneTrial(1))
    assert capsys.readouterr().err == ""


def test_the_best_of_an_earlier_start_stays_the_best_until_it_is_beaten(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write_history(1, [{"epoch": 1, "macro_f1": 0.6, "validation_loss": 1.0}])
    folder.finish(1, "finished")
    shown = progress(folder, ended=[folder.trial(1)])
    for number, figure in ((2, 0.5), (3, 0.65)):
        told(shown, number, 100.0, figure)
        folder.finish(number, "finished")
        shown.on_trial_complete(0, [], TuneTrial(number))
    first, second = capsys.readouterr().err.splitlines()
    assert "2 of 4 ended, best so far 0.6000 (trial 1)" in first
    assert "3 of 4 ended, best so far 0.6500 (trial 3)" in second


def test_a_time_budget_bounds_the_time_left(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = progress(folder, limit=None, until=time.monotonic() + 5400)
    told(shown, 1, 100.0, 0.7)
    folder.finish(1, "finished")
    shown.on_trial_complete(0, [], TuneTrial(1))
    assert "1 ended, best so far 0.7000 (trial 1), about 1 h 30 min left" in capsys.readouterr().err


def test_on_a_terminal_there_is_a_table_instead(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(progress_module, "Console", lambda **_: console)
    with progress(folder) as shown:
        shown.on_trial_start(0, [], TuneTrial(1))
        told(shown, 1, 40.0, 0.5)
        folder.finish(1, "stopped", "behind")
        shown.on_trial_complete(0, [], TuneTrial(1))
    assert capsys.readouterr().err == ""
    drawn = screen.getvalue()
    for word in ("Search: 1 of 4 ended", "stopped", "40%", "0.5000"):
        assert word in drawn, word


def test_a_point_is_one_line_without_the_trials_number() -> None:
    point = {"optim.lr": 0.000212345, "balance.strategy": "focal", "trial": 3}
    assert in_words(point) == "optim.lr 0.000212, balance.strategy focal"
