"""Experiments read back as tables: what each trial had, how it ended, and who is the best."""

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cluster import lease
from cluster.errors import DataError
from jobs.training import Training
from tests.unit import experiments
from tests.unit.experiments import epoch, write_trial
from tuning import analysis, parameters
from tuning.experiment import Folder

ROOT = Path(__file__).resolve().parents[2]
LR = {"optim.lr": 1e-4, "balance.strategy": "none", "train.epochs": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An experiment without a trial."""
    found = Folder(str(tmp_path / "search"))
    found.write_record(experiments.record())
    return found


def read(folder: Folder) -> pd.DataFrame:
    return analysis.read_trials(folder.uri)


def test_a_row_has_the_figures_of_the_best_epoch_and_the_costs_of_all(folder: Folder) -> None:
    history = [epoch(k, 4, f1) for k, f1 in enumerate((0.2, 0.5, 0.4), 1)]
    write_trial(folder, 1, LR, history, "stopped", "below the best third", began_s=60)
    row = read(folder).iloc[0]
    assert (row["trial"], row["state"], row["reason"]) == (1, "stopped", "below the best third")
    assert (row["epochs"], row["best_epoch"], row["percent"]) == (3, 2, 75)
    assert (row["macro_f1"], row["accuracy"], row["validation_loss"]) == (0.5, 0.6, 1.0)
    assert row["cost_seconds"] == 3 * 10 * 2, "three passes of 10 s on two workers"
    assert row["seconds"] == 36, "with validation: 12 s an epoch"
    assert row["started"] == pd.Timestamp("2026-03-01T08:01:00Z")
    assert row["ended"] == pd.Timestamp("2026-03-01T08:01:37Z")


def test_the_best_epoch_is_that_of_the_metric_that_training_stops_by(tmp_path: Path) -> None:
    found = Folder(str(tmp_path))
    base = experiments.BASE | {"stopping.metric": "validation_loss"}
    found.write_record(experiments.record(settings=base))
    history = [
        epoch(1, 2, 0.6, validation_loss=0.9),
        epoch(2, 2, 0.5, validation_loss=0.7),
    ]
    write_trial(found, 1, LR, history)
    row = read(found).iloc[0]
    assert (row["best_epoch"], row["macro_f1"]) == (2, 0.5)


def test_every_setting_of_training_is_a_column_with_the_value_that_the_trial_had(
    folder: Folder,
) -> None:
    tried = {"optim.lr": 1e-4, "balance.strategy": "class-weights", "balance.beta": 0.99}
    write_trial(folder, 1, tried, [epoch(1, 1, 0.5)])
    write_trial(folder, 2, tried | {"balance.beta": "none"}, [epoch(1, 1, 0.5)])
    write_trial(folder, 3, tried | {"balance.strategy": "none"}, [epoch(1, 1, 0.5)])
    trials = read(folder)
    assert set(experiments.BASE) <= set(trials)
    assert trials["balance.beta"].tolist()[::2] == [0.99, 0.99]
    assert math.isnan(trials["balance.beta"][1]), "the word none means None where it may"
    assert trials["balance.strategy"][2] == "none", "and is a name where it is one"
    assert set(trials["optim.warmup_ratio"]) == {Training().optim.warmup_ratio}


def test_a_trial_without_an_end_runs_while_a_search_shows_a_sign_of_life(folder: Folder) -> None:
    write_trial(folder, 1, LR, [epoch(1, 4, 0.3)], state=None)
    write_trial(folder, 2, LR, [])
    assert read(folder)["state"].tolist() == ["unfinished", "finished"]
    with lease.held(folder.uri, "output"):
        trials = read(folder)
    assert trials["state"].tolist() == ["running", "finished"]
    assert (trials["macro_f1"][0], trials["seconds"][0]) == (0.3, 12)
    assert pd.isna(trials["ended"][0])


def test_the_sign_of_a_dead_process_is_no_sign_of_life(folder: Folder) -> None:
    program = (
        "import sys; from cluster import liveness, storage\n"
        "storage.write_bytes(sys.argv[1], liveness.sign())"
    )
    place = f"{folder.uri}/{lease.SIGN}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program, place], check=True, env=environment)
    write_trial(folder, 1, LR, [], state=None)
    assert read(folder)["state"].tolist() == ["unfinished"]


def test_a_failed_trial_keeps_its_reason_and_wins_nothing(folder: Folder) -> None:
    write_trial(folder, 1, LR, [epoch(1, 2, 0.9)], "failed", "the loss is no longer a number")
    write_trial(folder, 2, LR, [epoch(1, 2, 0.4)])
    trials = read(folder)
    assert trials["reason"][0] == "the loss is no longer a number"
    assert trials["macro_f1"][0] == 0.9
    best = analysis.best(trials)
    assert best is not None
    assert best["trial"] == 2


def test_only_finished_trials_are_ranked_and_equals_by_who_began_first(folder: Folder) -> None:
    write_trial(folder, 1, LR, [epoch(1, 4, 0.9)], "stopped")
    write_trial(folder, 2, LR, [epoch(1, 1, 0.5)])
    write_trial(folder, 3, LR, [epoch(1, 1, 0.7)])
    write_trial(folder, 4, LR, [epoch(1, 1, 0.7)])
    write_trial(folder, 5, LR, [epoch(1, 1, math.nan)])
    assert analysis.ranked(read(folder))["trial"].tolist() == [3, 4, 2]


def test_the_ranking_is_that_of_the_bundle_that_is_made(tmp_path: Path) -> None:
    from tuning import winner

    folder = experiments.write(str(tmp_path / "search"), 30)
    leaders = [trial.number for _, trial in winner.leaders(folder.trials(), "macro_f1")]
    assert len(leaders) > 3
    assert analysis.ranked(read(folder))["trial"].tolist() == leaders


def test_missing_figures_and_those_that_are_no_numbers_are_nan(folder: Folder) -> None:
    write_trial(folder, 1, LR, [{"epoch": 1.0, "macro_f1": 0.4, "seconds": 5.0}])
    write_trial(folder, 2, LR, [epoch(1, 2, math.nan), epoch(2, 2, 0.3, accuracy=math.nan)])
    trials = read(folder)
    assert trials["macro_f1"].tolist() == [0.4, 0.3]
    assert trials["accuracy"].isna().all()
    assert trials["best_epoch"].tolist() == [1, 2]
    assert trials["cost_seconds"].tolist() == [0, 40]


def test_an_experiment_without_a_trial_is_an_empty_table_with_all_columns(folder: Folder) -> None:
    trials = read(folder)
    assert trials.empty
    assert {"macro_f1", "optim.lr", "state"} <= set(trials)
    assert analysis.best(trials) is None
    assert analysis.read_history(folder.uri).empty


def test_a_folder_that_is_no_experiment_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no experiment\.json.*tuning\.search"):
        analysis.read_trials(str(tmp_path))


def test_history_has_a_row_an_epoch(folder: Folder) -> None:
    write_trial(folder, 1, LR, [epoch(1, 2, 0.2), epoch(2, 2, 0.3)])
    write_trial(folder, 7, LR, [epoch(1, 2, 0.4)], "stopped")
    history = analysis.read_history(folder.uri)
    assert history["trial"].tolist() == [1, 1, 7]
    assert history["epoch"].tolist() == [1, 2, 1]
    assert history["macro_f1"].tolist() == [0.2, 0.3, 0.4]
    assert history["percent"].tolist() == [50, 100, 50]


def test_several_experiments_of_the_same_data_are_read_and_ranked_together(tmp_path: Path) -> None:
    uris = [str(tmp_path / name) for name in "ab"]
    for seed, uri in enumerate(uris):
        experiments.write(uri, 6, seed=seed)
    trials = analysis.read_trials(uris)
    assert trials.groupby("experiment")["trial"].count().to_dict() == dict.fromkeys(uris, 6)
    best = analysis.best(trials)
    finished = trials[trials["state"] == "finished"]
    assert best is not None
    assert best["macro_f1"] == finished["macro_f1"].max()


def test_trials_of_different_data_are_read_and_not_ranked_together(tmp_path: Path) -> None:
    uris = [str(tmp_path / name) for name in "ab"]
    experiments.write(uris[0], 3)
    experiments.write(uris[1], 3, data={"uri": "/data/other", "digest": "d2"})
    trials = analysis.read_trials(uris)
    assert set(trials["data_digest"]) == {"d1", "d2"}
    with pytest.raises(DataError, match="of different data"):
        analysis.best(trials)


@pytest.mark.parametrize("trials", [0, 1, 8])
def test_the_table_is_written_as_parquet_and_read_back(tmp_path: Path, trials: int) -> None:
    folder = experiments.write(str(tmp_path / "search"), trials)
    found, sink = read(folder), io.BytesIO()
    found.to_parquet(sink, index=False)
    back = pd.read_parquet(sink)
    assert back["macro_f1"].tolist() == found["macro_f1"].tolist()
    assert list(back) == list(found)


def test_a_choice_of_several_kinds_is_text_in_the_table(folder: Folder) -> None:
    write_trial(folder, 1, {"train.precision": "bf16"}, [epoch(1, 1, 0.5)])
    write_trial(folder, 2, {"train.precision": True}, [epoch(1, 1, 0.5)])
    assert read(folder)["train.precision"].tolist() == ["bf16", "True"]


def test_reading_needs_neither_torch_nor_ray(tmp_path: Path) -> None:
    folder = experiments.write(str(tmp_path / "search"), 2)
    program = (
        "import sys\n"
        "sys.modules['ray'] = sys.modules['torch'] = None\n"
        "from tuning import analyze, analysis\n"
        "print(len(analysis.read_trials(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, folder.uri],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "2", done.stderr


def test_parameters_know_where_they_are_in_force(tmp_path: Path) -> None:
    folder = experiments.write(str(tmp_path / "search"), 30)
    trials = read(folder)
    found = {p.key: p for p in parameters.varied(analysis.load(folder.uri), trials)}
    assert set(found) == set(experiments.SPACE)
    gamma = found["balance.gamma"].in_force(trials)
    assert gamma.tolist() == [p == "focal" for p in trials["balance.strategy"]]
    assert 0 < gamma.sum() < 30
    assert found["optim.lr"].in_force(trials).all()


def test_positions_lie_on_the_scale_that_was_searched() -> None:
    rate = parameters.Parameter("optim.lr", "log-uniform", 1e-5, 1e-3)
    assert rate.positions(pd.Series([1e-5, 1e-4, 1e-3])).tolist() == pytest.approx([0, 0.5, 1])
    assert rate.at(0.5) == pytest.approx(1e-4)
    choice = parameters.Parameter("balance.beta", "choice", values=("none", "0.9"))
    assert choice.positions(pd.Series([0.9, None])).tolist() == [1, 0]


def test_a_condition_falls_with_the_one_that_it_depends_on(folder: Folder) -> None:
    space = {
        "optim.schedule": {"kind": "choice", "values": ["linear", "cosine"]},
        "balance.strategy": {
            "kind": "choice",
            "values": ["none", "focal"],
            "when": {"optim.schedule": ["cosine"]},
        },
        "balance.gamma": {
            "kind": "uniform",
            "low": 0.0,
            "high": 4.0,
            "when": {"balance.strategy": ["focal"]},
        },
    }
    base = experiments.BASE | {"balance.strategy": "focal"}
    folder.write_record(experiments.record(space=space, settings=base))
    write_trial(folder, 1, {"optim.schedule": "linear"}, [epoch(1, 1, 0.5)])
    tried = {"optim.schedule": "cosine", "balance.strategy": "focal", "balance.gamma": 1.0}
    write_trial(folder, 2, tried, [epoch(1, 1, 0.5)])
    trials = read(folder)
    found = {p.key: p for p in parameters.varied(analysis.load(folder.uri), trials)}
    assert found["balance.gamma"].in_force(trials).tolist() == [False, True]


def test_what_differs_between_experiments_is_a_parameter_of_both(tmp_path: Path) -> None:
    uris = [str(tmp_path / name) for name in "ab"]
    experiments.write(uris[0], 4)
    experiments.write(uris[1], 4, settings=experiments.BASE | {"model.name": "bert-base-uncased"})
    trials = analysis.read_trials(uris)
    found = {p.key: p for p in parameters.varied(analysis.load(uris), trials)}
    assert found["model.name"].values == ("minilm", "bert-base-uncased")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (math.nan, "none"),
        (True, "true"),
        (512, "512"),
        (6.0712e-5, "6.07e-5"),
        (0.1, "0.1"),
        (123456.0, "123456"),
        ("focal", "focal"),
    ],
)
def test_values_are_written_short(value: object, text: str) -> None:
    assert parameters.shown(value) == text
