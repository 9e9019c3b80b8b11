"""Who proposes: unfinished trials, known points, then Optuna; all written down before they run."""

from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from jobs.training import Training
from tuning import space
from tuning.experiment import Folder
from tuning.proposer import NUMBER, Proposer, Score, score_of

TEXT = """
[optim.lr]
kind = "log-uniform"
low = 1e-5
high = 1e-3
[train.epochs]
kind = "integer"
low = 1
high = 9
[balance.strategy]
kind = "choice"
values = ["none", "focal"]
[balance.gamma]
kind = "uniform"
low = 0.5
high = 4.0
when = { "balance.strategy" = ["focal"] }
[[points]]
"balance.strategy" = "focal"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path))


@pytest.fixture
def searched(tmp_path: Path) -> space.Space:
    (tmp_path / "space.toml").write_text(TEXT)
    return space.read(str(tmp_path / "space.toml"), Training())


def proposer(folder: Folder, searched: space.Space, **how: Any) -> Proposer:
    values: dict[str, Any] = {"algorithm": "tpe", "seed": 0, "limit": None} | how
    return Proposer(searched, folder, **values)


def points(found: Proposer, count: int) -> list[dict[str, Any]]:
    return [found.suggest(f"t{k}") for k in range(count)]


def test_known_points_come_first_and_every_trial_is_written_down_before_it_runs(
    folder: Folder, searched: space.Space
) -> None:
    first, second = points(proposer(folder, searched), 2)
    assert first == searched.points[0] | {NUMBER: 1}
    assert first["balance.gamma"] == 2.0
    trials = folder.trials()
    assert [trial.origin for trial in trials] == ["known", "searched"]
    assert [trial.parameters | {NUMBER: trial.number} for trial in trials] == [first, second]
    assert [trial.state for trial in trials] == ["unfinished"] * 2


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_every_proposal_is_in_the_space_and_has_only_what_is_in_force(
    folder: Folder, searched: space.Space, algorithm: str
) -> None:
    found = proposer(folder, searched, algorithm=algorithm)
    strategies = set()
    for number in range(1, 25):
        name = f"t{number}"
        point = found.suggest(name)
        assert point.pop(NUMBER) == number
        for key, value in point.items():
            assert searched.parameters[key].holds(value), key
        focal = point["balance.strategy"] == "focal"
        strategies.add(focal)
        assert ("balance.gamma" in point) == focal
        found.on_trial_complete(name, {"macro_f1": 0.5 + 0.1 * focal, "percent": 100.0})
    assert strategies == {True, False}


def test_the_search_ends_after_its_trials_those_of_earlier_starts_included(
    folder: Folder, searched: space.Space
) -> None:
    points(proposer(folder, searched, limit=2), 2)
    again = proposer(folder, searched, limit=3, before=folder.trials(), scores={1: None, 2: None})
    assert again.suggest("a")[NUMBER] == 3
    assert again.suggest("b") == Searcher.FINISHED


def test_what_did_not_end_goes_on_first_under_its_number_and_counts_once(
    folder: Folder, searched: space.Space
) -> None:
    before = points(proposer(folder, searched), 3)
    scores = {1: Score(0.5, 100.0, True)}
    again = proposer(folder, searched, limit=4, before=folder.trials(), scores=scores)
    assert points(again, 2) == before[1:]
    assert again.suggest("new")[NUMBER] == 4
    assert again.suggest("none") == Searcher.FINISHED
    assert len(folder.trials()) == 4


def test_a_resumed_search_proposes_other_points_than_the_first_did(
    folder: Folder, searched: space.Space
) -> None:
    first = points(proposer(folder, searched, algorithm="random"), 4)
    scores = {number: Score(0.5, 100.0, True) for number in range(1, 5)}
    again = proposer(
        folder, searched, algorithm="random", before=folder.trials(), scores=scores
    )  # fmt: skip
    rates = {point["optim.lr"] for point in [*first, *points(again, 4)]}
    assert len(rates) == 8


def test_it_learns_from_earlier_trials_where_good_points_are(
    folder: Folder, searched: space.Space
) -> None:
    teacher = proposer(folder, searched, algorithm="random", seed=1)
    for number in range(1, 41):
        point = teacher.suggest(f"t{number}")
        good = 1.0 - abs(point["train.epochs"] - 8) / 9
        folder.write_history(number, [{"macro_f1": good, "percent": 100.0}])
    trials = folder.trials()
    scores = {t.number: Score(t.history[-1]["macro_f1"], 100.0, True) for t in trials}
    pupil = proposer(folder, searched, before=trials, scores=scores)
    later = [pupil.suggest(f"p{k}")["train.epochs"] for k in range(20)]
    before = [trial.parameters["train.epochs"] for trial in trials]
    assert sum(later) / 20 > sum(before) / 40 + 1.0


def test_a_score_is_that_of_the_best_epoch_and_whole_at_the_end_of_the_schedule() -> None:
    assert score_of(None) is None
    assert score_of({"macro_f1": 0.5}) is None
    assert score_of({"macro_f1": 0.5, "best_macro_f1": 0.6, "percent": 40.0}) == Score(
        0.6, 40.0, False
    )
    assert score_of({"macro_f1": 0.5, "percent": 100.0}) == Score(0.5, 100.0, True)


def test_failed_and_stopped_trials_are_learned_from_without_harm(
    folder: Folder, searched: space.Space
) -> None:
    found = proposer(folder, searched)
    points(found, 4)
    found.on_trial_result("t1", {"macro_f1": 0.3, "percent": 33.3})
    found.on_trial_complete("t0", None, error=True)
    found.on_trial_complete("t1", {"macro_f1": 0.3, "percent": 33.3})
    found.on_trial_complete("t2", {"macro_f1": 0.9, "percent": 100.0})
    assert found.suggest("t4")[NUMBER] == 5
    # One that failed after it had reported well is no good example.
    folder.finish(4, "failed", "no memory")
    found.on_trial_complete("t3", {"macro_f1": 0.95, "percent": 100.0})
    states = [trial.state.name for trial in found._study.trials[:4]]
    assert states == ["FAIL", "PRUNED", "COMPLETE", "FAIL"]
