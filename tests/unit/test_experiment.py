"""An experiment's folder: what is written is read again, and what ended stays as it ended."""

import json
from pathlib import Path

import pytest

from cluster.errors import DataError
from tuning.experiment import Folder, Trial, flattened
from tuning.winner import leaders, score, thin_out, winning_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "experiment"))


def trial(number: int, state: str, *figures: float) -> Trial:
    history = tuple(
        {"epoch": k, "macro_f1": value, "validation_loss": 1.0 - 0.1 * k, "calibrated_loss": 1 / k}
        for k, value in enumerate(figures, 1)
    )
    return Trial(number, {}, "searched", "", history, {"state": state} if state else {})


def test_what_is_written_of_a_trial_is_read_again(folder: Folder) -> None:
    folder.begin(7, {"optim.lr": 1e-4, "balance.strategy": "none"}, "known")
    assert folder.numbers() == [7]
    (begun,) = folder.trials()
    assert (begun.state, begun.origin, begun.history) == ("unfinished", "known", ())
    folder.write_history(7, [{"epoch": 1.0, "macro_f1": 0.5}])
    folder.write_confusion(7, [[0, 1, 3]])
    folder.finish(7, "stopped", "behind", seconds=3.5)
    (ended,) = folder.trials()
    assert ended.parameters == {"optim.lr": 1e-4, "balance.strategy": "none"}
    assert ended.history == ({"epoch": 1.0, "macro_f1": 0.5},)
    assert (ended.state, ended.end["reason"], ended.end["seconds"]) == ("stopped", "behind", 3.5)
    assert folder.confusion(7) == [[0, 1, 3]]
    assert folder.confusion(8) == []


def test_a_trial_that_ended_stays_as_it_ended_first(folder: Folder) -> None:
    folder.begin(1, {}, "searched")
    folder.finish(1, "failed", "no memory")
    folder.finish(1, "finished")
    (found,) = folder.trials()
    assert (found.state, found.end["reason"]) == ("failed", "no memory")


def test_trials_are_in_the_order_of_their_numbers_and_half_written_ones_are_left_out(
    folder: Folder,
) -> None:
    for number in (10_000, 2, 1):
        folder.begin(number, {}, "searched")
    Path(folder.place(3)).mkdir()
    assert [found.number for found in folder.trials()] == [1, 2, 10_000]


def test_a_folder_that_is_no_experiment_is_refused_with_what_to_do(
    folder: Folder, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"does not exist.*tuning\.search"):
        folder.record()
    Path(folder.uri).mkdir()
    with pytest.raises(DataError, match="holds no experiment"):
        folder.record()
    (Path(folder.uri) / "experiment.json").write_text(json.dumps({"format_version": 99}))
    with pytest.raises(DataError, match="is of format 99; this version reads 1"):
        folder.record()


def test_the_best_is_the_best_epoch_of_what_finished_and_of_equals_the_first() -> None:
    trials = [
        trial(1, "finished", 0.5, 0.7),
        trial(2, "finished", 0.9, 0.7),  # the loss chose the second epoch
        trial(3, "stopped", 0.99),
        trial(4, "failed", 0.99),
        trial(5, "", 0.99),
        trial(6, "finished", 0.4, float("nan")),
        trial(7, "finished"),
    ]
    ranked = leaders(trials, "calibrated_loss")
    assert [(value, found.number) for value, found in ranked] == [(0.7, 1), (0.7, 2)]
    assert score(trials[1], "macro_f1") == 0.9
    assert score(trials[5], "calibrated_loss") is None


def test_only_the_weights_of_the_leader_and_of_what_goes_on_are_kept(folder: Folder) -> None:
    for number, state, figure in ((1, "finished", 0.5), (2, "finished", 0.8), (3, "failed", 0.9),
                                  (4, "", 0.1)):  # fmt: skip
        folder.begin(number, {}, "searched")
        folder.write_history(number, list(trial(number, state, figure).history))
        Path(folder.place(number, "checkpoints", "one")).mkdir(parents=True)
        if state:
            folder.finish(number, state)  # type: ignore[arg-type]
    thin_out(folder, folder.trials(), "macro_f1")
    kept = [n for n in range(1, 5) if Path(folder.place(n, "checkpoints")).exists()]
    assert kept == [2, 4]


def test_without_a_finished_trial_there_is_no_bundle(folder: Folder) -> None:
    folder.write_record({"format_version": 1, "settings": {"optim.lr": 1e-4}, "data": {"uri": ""}})
    folder.begin(1, {}, "searched")
    with pytest.raises(DataError, match="has no finished trial yet"):
        winning_bundle(folder.uri)


def test_nested_tables_become_dotted_keys() -> None:
    assert dict(flattened({"a": {"b": 1, "c": {"d": 2}}, "e.f": 3})) == {
        "a.b": 1, "a.c.d": 2, "e.f": 3,
    }  # fmt: skip
