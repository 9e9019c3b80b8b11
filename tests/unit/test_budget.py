"""A budget of epochs, whatever trials they are trained in."""

from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from jobs.training import Training
from tests.unit import experiments
from tuning import space
from tuning.budget import EpochBudget
from tuning.experiment import Folder
from tuning.proposer import NUMBER, Proposer


def told(number: int, epoch: int, epochs: int = 5) -> dict[str, Any]:
    return {"config": {NUMBER: number}, "epoch": float(epoch), "percent": 100.0 * epoch / epochs}


def test_a_trial_is_ended_where_all_trials_together_have_had_their_epochs() -> None:
    budget = EpochBudget(7)
    said = [budget("a", told(1, epoch)) for epoch in range(1, 6)]
    said += [budget("b", told(2, epoch)) for epoch in range(1, 3)]
    assert said == [False] * 6 + [True]
    assert budget.is_spent()


def test_a_trial_after_its_last_epoch_ends_by_itself() -> None:
    budget = EpochBudget(5)
    assert [budget("a", told(1, epoch)) for epoch in range(1, 6)] == [False] * 5
    assert budget.is_spent()


def test_an_epoch_that_is_said_again_counts_once_and_one_before_counts_too(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    history = [experiments.epoch(k, 5, 0.5) for k in (1, 2, 3)]
    experiments.write_trial(folder, 1, {"optim.lr": 1e-4}, history, None)
    budget = EpochBudget(5, folder.trials())
    assert not budget("a", told(1, 3))
    assert not budget("a", told(1, 4))
    assert budget("b", told(2, 1))


def test_without_a_budget_and_for_what_failed_at_once_nothing_ends() -> None:
    assert not EpochBudget(None)("a", told(1, 4))
    assert not EpochBudget(1)("a", {"trial_id": "a", "done": True})


def test_nothing_is_proposed_after_the_budget_not_even_what_was_cut_off(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "experiment"))
    (tmp_path / "space.toml").write_text(
        '[optim.lr]\nkind = "log-uniform"\nlow = 1e-5\nhigh = 1e-3\n'
    )
    found = space.read(str(tmp_path / "space.toml"), Training())
    experiments.write_trial(folder, 1, {"optim.lr": 1e-4}, [experiments.epoch(1, 5, 0.5)], None)
    before = folder.trials()
    for epochs, proposed in ((1, str(Searcher.FINISHED)), (2, {"optim.lr": 1e-4, NUMBER: 1})):
        budget = EpochBudget(epochs, before)
        proposer = Proposer(
            found, folder, algorithm="random", seed=0, limit=None, before=before,
            is_over=budget.is_spent,
        )  # fmt: skip
        assert proposer.suggest("a") == proposed
