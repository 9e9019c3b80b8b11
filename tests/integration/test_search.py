"""A search with a tiny BERT on one local Ray of two CPUs."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import ray
from ray.tune.stopper import TimeoutStopper

from cluster import command, lease
from cluster.errors import InUseError, SettingError, StorageError, SwitchyardError
from jobs.classifier import bundle
from jobs.classifier.stopping import best_epoch
from jobs.training_run import TrainCommand, train
from tests.integration.test_training import prepared  # noqa: F401  # a fixture
from tuning import trial as trial_module
from tuning.experiment import Folder, Trial
from tuning.search import SearchCommand, given, search
from tuning.winner import base_settings, leaders, winning_bundle

SPACE = """
[optim.lr]
kind = "log-uniform"
low = 1e-3
high = 1e-2
[balance.strategy]
kind = "choice"
values = ["none", "focal"]
[balance.gamma]
kind = "uniform"
low = 0.5
high = 4.0
when = { "balance.strategy" = ["focal"] }
[[points]]
"optim.lr" = 5e-3
"""


def settings(data: str, model: Path, folder: Path, **more: Any) -> dict[str, Any]:
    """Those of a small search in `folder`, for SearchCommand."""
    (folder / "space.toml").write_text(SPACE)
    return {
        "data": data,
        "output": str(folder / "experiment"),
        "space": str(folder / "space.toml"),
        "model": {"name": str(model), "max_tokens": 16, "dropout": 0.0},
        "train": {"epochs": 5, "batch_tokens": 64, "precision": "fp32"},
        "optim": {"head_lr": 5e-3},
        "trials": 3,
    } | more


@pytest.fixture
def wanted(prepared: str, tiny_model: Path, tmp_path: Path) -> dict[str, Any]:  # noqa: F811
    return settings(prepared, tiny_model, tmp_path)


@dataclass(frozen=True)
class Done:
    """A finished search: its settings, what it said, and the placement groups before and after."""

    wanted: dict[str, Any]
    said: dict[str, Any]
    groups: tuple[Counter[str], Counter[str]]

    @property
    def folder(self) -> Folder:
        return Folder(self.wanted["output"])


@pytest.fixture(scope="module")
def done(prepared: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:  # noqa: F811
    wanted = settings(prepared, tiny_model, tmp_path_factory.mktemp("done"))
    before = placement_groups()
    said = search(SearchCommand(**wanted))
    return Done(wanted, said, (before, placement_groups()))


def ended(folder: Folder) -> dict[int, Trial]:
    return {trial.number: trial for trial in folder.trials() if trial.end}


def placement_groups() -> Counter[str]:
    """Those that are there, by state; removed ones are not."""
    table = ray.util.placement_group_table()
    return Counter(g["state"] for g in table.values() if g["state"] != "REMOVED")


def test_a_search_finds_a_winner_that_jobs_train_makes_again(done: Done, tmp_path: Path) -> None:
    wanted, said, folder = done.wanted, done.said, done.folder
    trials = folder.trials()
    assert [trial.number for trial in trials] == [1, 2, 3]
    assert said["trials"].get("failed", 0) == 0
    assert trials[0].origin == "known"
    assert trials[0].parameters == {"optim.lr": 5e-3, "balance.strategy": "none"}
    for trial in trials:
        assert ("balance.gamma" in trial.parameters) == (
            trial.parameters["balance.strategy"] == "focal"
        )
        assert [line["epoch"] for line in trial.history] == list(range(1, len(trial.history) + 1))
        assert {"macro_f1", "accuracy", "rarest_third_recall", "calibration_error", "tokens",
                "seconds", "percent", "validation_loss"} <= set(trial.history[-1])  # fmt: skip
        if trial.state == "finished":
            assert trial.history[-1]["percent"] == 100
            assert len(trial.history) == 5
    metric = SearchCommand(**wanted).stopping.metric
    value, best = leaders(trials, metric)[0]
    assert said["best_trial"] == best.number
    assert said["macro_f1"] == value
    about = bundle.check(Path(said["bundle"]))
    assert about.configuration["optim.lr"] == best.parameters["optim.lr"]
    assert sum(row[2] for row in folder.confusion(best.number)) == folder.record()["rows"][
        "validation"
    ]  # fmt: skip
    # The same again by the train command, from the same plain values.
    base = base_settings(folder.record()).model_dump()
    for key, chosen in best.parameters.items():
        group, name = key.split(".")
        base[group][name] = chosen
    base["data"] = {"uri": wanted["data"], **base["data"]}
    again = train(TrainCommand(**base, output=str(tmp_path / "again")))
    assert again["epoch"] == best_epoch(best.history, metric)
    assert again["validation"]["macro_f1"] == pytest.approx(value, abs=1e-6)


def test_only_the_winner_keeps_its_weights_and_tune_writes_for_tensorboard(done: Done) -> None:
    folder = Path(done.wanted["output"])
    kept = {path.parent.name for path in folder.glob("trials/*/checkpoints")}
    assert kept == {f"{done.said['best_trial']:04d}"}
    events = list(folder.glob("tune-1/trial-*/events.out.tfevents*"))
    assert len(events) == 3
    assert not (folder / ".running").exists()
    assert winning_bundle(done.wanted["output"]) == done.said["bundle"], "it is made once"


def test_no_placement_group_is_left(done: Done) -> None:
    before, after = done.groups
    assert after == before


def test_a_search_that_is_resumed_keeps_what_ended_and_only_adds(done: Done) -> None:
    before = ended(done.folder)
    search(SearchCommand(**done.wanted | {"trials": 4, "resume": True}))
    after = ended(done.folder)
    assert set(before) == {1, 2, 3}
    assert set(after) == {1, 2, 3, 4}
    assert {number: after[number] for number in before} == before
    # As many as there are already: nothing is left to do.
    search(SearchCommand(**done.wanted | {"trials": 4, "resume": True}))
    assert ended(done.folder) == after


def test_a_trial_that_did_not_end_goes_on_from_its_checkpoint_under_its_number(
    wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    search(SearchCommand(**wanted | {"trials": 1, "scheduler": "none"}))
    place = Path(wanted["output"], "trials", "0001")
    whole = json.loads((place / "history.json").read_text())
    # As if it had been killed in its last epoch: the checkpoint of the best epoch is there.
    (place / "end.json").unlink()
    search(SearchCommand(**wanted | {"trials": 1, "scheduler": "none", "resume": True}))
    (trial,) = Folder(wanted["output"]).trials()
    assert trial.state == "finished"
    assert [line["macro_f1"] for line in trial.history] == [line["macro_f1"] for line in whole]


def test_a_trial_that_fails_is_written_down_with_its_reason_and_the_search_goes_on(
    wanted: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "space.toml").write_text(
        '[optim.lr]\nkind = "choice"\nvalues = [5e-3, 1e30]\n'
        '[[points]]\n"optim.lr" = 1e30\n[[points]]\n"optim.lr" = 5e-3\n'
    )
    said = search(SearchCommand(**wanted | {"trials": 2, "scheduler": "none"}))
    first, second = Folder(wanted["output"]).trials()
    assert first.state == "failed"
    assert "no longer a number" in first.end["reason"]
    assert second.state == "finished"
    assert said["best_trial"] == 2


def test_a_search_of_which_every_trial_fails_says_why(
    wanted: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "space.toml").write_text('[optim.lr]\nkind = "choice"\nvalues = [1e30]\n')
    with pytest.raises(SwitchyardError, match=r"No trial finished.*no longer a number"):
        search(SearchCommand(**wanted | {"trials": 1, "optim": {}}))


@pytest.mark.slow
def test_a_time_budget_ends_the_search_and_a_larger_one_goes_on(wanted: dict[str, Any]) -> None:
    """The hour is over when a trial has so many epochs, however long it took to start."""
    del wanted["trials"]
    wanted["train"] |= {"epochs": 4000}
    wanted |= {"time_budget": "1h", "scheduler": "none"}
    folder = Folder(wanted["output"])

    def until_epochs(count: int, **more: Any) -> Any:
        def is_over(_: TimeoutStopper) -> bool:
            return any(len(trial.history) >= count for trial in folder.trials())

        with mock.patch.object(TimeoutStopper, "stop_all", is_over):
            return search(SearchCommand(**wanted | more))

    said = until_epochs(1)
    trials = folder.trials()
    assert said["best_trial"] is None
    assert [trial.state for trial in trials] == ["unfinished"]
    told = len(trials[0].history)
    until_epochs(told + 1, resume=True)
    again = folder.trials()
    assert len(again) == 1
    assert len(again[0].history) > told


@pytest.mark.slow
def test_two_workers_a_trial_say_the_same_as_one(wanted: dict[str, Any], tmp_path: Path) -> None:
    search(SearchCommand(**wanted | {"trials": 1}))
    two = wanted | {
        "trials": 1, "scaling": {"workers": 2}, "output": str(tmp_path / "two"),
    }  # fmt: skip
    before = placement_groups()
    search(SearchCommand(**two))
    assert placement_groups() == before
    (one,), (other,) = (Folder(x["output"]).trials() for x in (wanted, two))
    assert other.state == "finished"
    assert set(other.history[-1]) == set(one.history[-1])
    assert [line["train_loss"] for line in other.history] == pytest.approx(
        [line["train_loss"] for line in one.history], abs=1e-2
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train": {"epochs": 4, "batch_tokens": 64, "precision": "fp32"}}, "train.epochs is 4"),
        ({"algorithm": "random"}, "algorithm is 'random'"),
        ({"scheduler": "none"}, "scheduler is"),
        ({"space": None}, "space is"),
        ({"seed": 3}, "seed is 3"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_resumed_search_is_not_another_one(
    done: Done, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingError, match="--resume: " + said):
        search(SearchCommand(**done.wanted | changed | {"resume": True}))


def test_a_used_folder_and_a_missing_one_are_refused(done: Done, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="already holds files"):
        search(SearchCommand(**done.wanted))
    with pytest.raises(SettingError, match="holds no experiment"):
        search(SearchCommand(**done.wanted | {"output": str(tmp_path / "none"), "resume": True}))


def test_a_folder_in_which_another_search_is_at_work_is_not_to_be_removed(done: Done) -> None:
    with (
        lease.held(done.wanted["output"], "output"),
        pytest.raises(InUseError, match="another run is at work in it"),
    ):
        search(SearchCommand(**done.wanted))


def test_layers_that_the_network_has_not_are_refused_before_anything_runs(
    wanted: dict[str, Any], tmp_path: Path
) -> None:
    text = '[model.freeze_layers]\nkind = "integer"\nlow = 0\nhigh = 5\n'
    (tmp_path / "space.toml").write_text(text)
    with pytest.raises(SettingError, match="freeze_layers"):
        search(SearchCommand(**wanted))
    assert not Path(wanted["output"]).exists()


def test_flags_are_what_is_given_and_durations_are_read() -> None:
    words = ["--data", "/d", "--output", "/o", "--optim.lr", "3e-4", "--time-budget", "1h30m"]
    found = command.parse(SearchCommand, words, "tuning.search", "")
    assert "optim.lr" in given(found)
    assert "optim.head_lr" not in given(found)
    assert found.time_budget == 5400
    for text, seconds in (("90s", 90), ("30m", 1800), ("2d", 172800), ("45", 45)):
        assert SearchCommand(data="/d", output="/o", time_budget=text).time_budget == seconds
    with pytest.raises(SettingError, match="such as 90s"):
        command.parse(SearchCommand, [*words[:4], "--time-budget", "soon"], "tuning.search", "")


def test_a_reason_says_what_kind_of_failure_it_was() -> None:
    assert trial_module._reason(MemoryError("12 GiB")) == "Out of memory: 12 GiB"
    assert trial_module._reason(ValueError("no\n  good")) == "ValueError: no good"
