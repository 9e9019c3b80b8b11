"""The command over a search: what it writes and prints, and best.toml read back by training."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cluster import command, lease
from jobs.training_run import TrainCommand
from tests.conftest import last_json
from tests.unit import experiments
from tests.unit.experiments import epoch, write_trial
from tuning import analysis, analyze, config_file
from tuning.experiment import Folder

FILES = {"trials.parquet", "history.parquet", "report.html", "best.toml"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, dict[str, Any]]:
    """(exit code, all that was printed, the last line as JSON)."""
    with pytest.raises(SystemExit) as ended:
        analyze.main([*arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err, last_json(captured.out)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Ten trials of which the third is the best."""
    return experiments.write(str(tmp_path / "search"), 10)


def test_all_files_lie_in_the_experiment_and_are_named(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, found = run(capsys, "--experiment", folder.uri)
    assert code == 0
    trials = analysis.read_trials(folder.uri)
    best = analysis.best(trials)
    assert best is not None
    assert (found["best_trial"], found["macro_f1"]) == (best["trial"], best["macro_f1"])
    assert found["trials"] == analysis.counts(trials)
    assert {name: Path(place).name for name, place in found["files"].items()} == {
        name: name for name in FILES
    }
    assert {path.name for path in Path(folder.uri, "analysis").iterdir()} == FILES
    back = pd.read_parquet(found["files"]["trials.parquet"])
    assert back["macro_f1"].tolist() == trials["macro_f1"].tolist()
    history = pd.read_parquet(found["files"]["history.parquet"])
    assert len(history) == trials["epochs"].sum()
    assert f"{best['macro_f1']:.4f}" in said
    assert "What mattered: Too early to say" in said


def test_it_can_be_run_again_and_replaces_what_it_wrote(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "--experiment", folder.uri)
    tried = {"optim.lr": 2e-4, "balance.strategy": "none", "train.epochs": 1}
    write_trial(folder, 11, tried, [epoch(1, 1, 0.95)])
    code, _, found = run(capsys, "--experiment", folder.uri)
    assert (code, found["best_trial"], found["macro_f1"]) == (0, 11, 0.95)
    assert len(pd.read_parquet(found["files"]["trials.parquet"])) == 11
    assert Path(found["files"]["best.toml"]).read_text().startswith("# Trial 11 of")


def test_the_files_lie_where_they_are_wanted(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "--experiment", folder.uri, "--output", str(tmp_path / "there"))
    assert {path.name for path in (tmp_path / "there").iterdir()} == FILES
    assert not Path(folder.uri, "analysis").exists()


def read_back(toml: str, *flags: str) -> dict[str, Any]:
    """The settings that jobs.train makes of a file."""
    arguments = ["--config", toml, "--output", "/runs/again", *flags]
    return command.dotted(command.parse(TrainCommand, arguments, "jobs.train", "", environment={}))


def test_training_reads_the_settings_of_the_winner_from_best_toml(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, found = run(capsys, "--experiment", folder.uri)
    experiment = analysis.load(folder.uri)[0]
    winner = next(t for t in experiment.trials if t.number == found["best_trial"])
    expected = experiment.settings(winner)
    assert expected["optim.lr"] == winner.parameters["optim.lr"]
    got = read_back(found["files"]["best.toml"])
    expected |= {"data.uri": "/data/prepared", "output": "/runs/again"}
    expected |= {"scaling.workers": 2, "scaling.gpu": "no"}  # what the search had left open
    assert got == expected | {"resume": False, "dry_run": False}


def test_every_kind_of_value_survives_best_toml(tmp_path: Path) -> None:
    tried = {
        "balance.strategy": "class-weights",
        "balance.beta": "none",
        "optim.head_lr": "none",
        "optim.lr": 1e-05,
        "train.micro_tokens": 4096,
        "balance.redraw": False,
        "model.name": 'a "model"\\in\tC:\n# lr = 1',
    }
    folder = Folder(str(tmp_path / "a\nb"))
    folder.write_record(experiments.record())
    write_trial(folder, 1, tried, [epoch(1, 1, 0.5)])
    experiment = analysis.load(folder.uri)[0]
    row = analysis.read_trials(folder.uri).iloc[0].to_dict()
    place = tmp_path / "best.toml"
    place.write_text(config_file.best_toml(experiment, experiment.trials[0], row))
    got = read_back(str(place))
    for key, value in tried.items():
        none = value == "none" and key != "balance.strategy"
        assert got[key] == (None if none else value)
        assert type(got[key]) is (type(None) if none else type(value))


def test_best_toml_gives_way_to_flags(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, found = run(capsys, "--experiment", folder.uri)
    got = read_back(found["files"]["best.toml"], "--data", "/data/more", "--scaling.workers", "4")
    assert (got["data.uri"], got["scaling.workers"]) == ("/data/more", 4)


def test_without_a_finished_trial_all_but_the_winner_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(str(tmp_path / "search"))
    folder.write_record(experiments.record())
    write_trial(folder, 1, {"optim.lr": 1e-4}, [epoch(1, 4, 0.3)], None)
    write_trial(folder, 2, {"optim.lr": 1.0}, [], "failed", "the loss is no longer a number")
    with lease.held(folder.uri, "output"):
        code, said, found = run(capsys, "--experiment", folder.uri)
    assert code == 0
    assert "Trials: 1 failed, 1 running." in said
    assert "No trial has finished yet" in said
    assert "Trial 2 failed: the loss is no longer a number" in said
    assert (found["best_trial"], found["macro_f1"], found["running"]) == (None, None, True)
    assert set(found["files"]) == FILES - {"best.toml"}


def test_an_experiment_without_a_trial_is_said_to_have_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(str(tmp_path / "search"))
    folder.write_record(experiments.record())
    code, said, found = run(capsys, "--experiment", folder.uri)
    assert (code, found["trials"]) == (0, {})
    assert "Trials: none begun." in said


def test_figures_that_are_no_numbers_do_not_reach_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(str(tmp_path / "search"))
    folder.write_record(experiments.record())
    write_trial(folder, 1, {"optim.lr": 1e-4}, [epoch(1, 1, 0.4, accuracy=math.nan)])
    write_trial(folder, 2, {"optim.lr": 2e-4}, [epoch(1, 1, math.nan)])
    code, said, found = run(capsys, "--experiment", folder.uri)
    assert (code, found["best_trial"]) == (0, 1)
    assert "nan" not in json.dumps(found).lower()
    assert "nan" not in said.lower()


def test_several_experiments_are_read_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uris = [str(tmp_path / name) for name in "ab"]
    for seed, uri in enumerate(uris):
        experiments.write(uri, 5, seed=seed)
    flags = ["--experiment", uris[0], "--experiment", uris[1], "--output", str(tmp_path / "out")]
    code, said, found = run(capsys, *flags)
    assert code == 0
    assert sum(found["trials"].values()) == 10
    best = analysis.best(analysis.read_trials(uris))
    assert best is not None
    assert (found["experiment"], found["best_trial"]) == (best["experiment"], best["trial"])
    assert f"{'AB'[uris.index(best['experiment'])]} {best['trial']}" in said


@pytest.mark.parametrize(
    ("digest", "flags", "sentence"),
    [
        ("d1", [], "--output is needed where several experiments are read"),
        ("d2", ["--output", "/nowhere"], "of different data"),
    ],
)
def test_experiments_that_cannot_be_read_together_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    digest: str,
    flags: list[str],
    sentence: str,
) -> None:
    uris = [str(tmp_path / name) for name in "ab"]
    experiments.write(uris[0], 2)
    experiments.write(uris[1], 2, data={"uri": "/data", "digest": digest})
    code, said, _ = run(capsys, "--experiment", uris[0], "--experiment", uris[1], *flags)
    assert code == 2
    assert sentence in said


def test_what_is_no_experiment_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = run(capsys, "--experiment", str(tmp_path / "nothing"))
    assert code == 2
    assert "does not exist" in said
