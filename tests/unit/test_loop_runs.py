"""Whole runs of the training loop: what they report, when they end, and how they go on."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.classifier import checkpoint, stopping
from jobs.classifier.batches import Batch
from jobs.classifier.checkpoint import Snapshot
from jobs.classifier.loop import Saving, train
from jobs.classifier.network import new_network
from tests.unit.looping import CLOCKS, CPU, NAMES, RECIPE, assert_same_weights, feed, put, run
from tests.unit.memory import MemoryFeed, separable

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def undisturbed(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, list[dict[str, float]], Path]:
    """A whole run of six epochs with dropout, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("checkpoints")
    network, reports = run(tiny_model, keep=folder)
    return network, reports, folder


def test_the_loss_falls_and_separable_rows_are_learned(undisturbed) -> None:
    _, reports, _ = undisturbed
    losses = [report["train_loss"] for report in reports]
    assert losses[0] > losses[1] > losses[-1] == min(losses)
    assert losses[-1] < 0.4 < np.log(3) / 2 < losses[0]
    assert reports[-1]["validation_loss"] < 0.4
    assert reports[-1]["accuracy"] == reports[-1]["macro_f1"] == 1.0


def test_every_epoch_is_reported_once_with_the_names_of_the_contract(undisturbed) -> None:
    _, reports, _ = undisturbed
    assert [report["epoch"] for report in reports] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert {
        "train_loss",
        "validation_loss",
        "accuracy",
        "macro_f1",
        "weighted_f1",
        "tokens",
        "steps",
        "balanced_accuracy",
    } <= set(reports[0])
    rows = separable(37)
    assert {report["tokens"] for report in reports} == {float(rows.lengths.sum())}
    assert all(report["steps"] > 4 for report in reports)


def test_a_run_that_goes_on_from_a_checkpoint_ends_with_the_weights_of_an_undisturbed_one(
    undisturbed, tiny_model: Path
) -> None:
    network, reports, folder = undisturbed
    # Another head, another random state: the first comes from the checkpoint, the second from
    # the seed of the run and the position.
    other = new_network(tiny_model, NAMES, dropout=0.1, seed=99)
    torch.manual_seed(99)
    resumed, rest = run(tiny_model, network=other, given=feed(), resume=folder / "1")
    assert rest == reports[1:]
    assert_same_weights(resumed, network)


def test_a_run_that_goes_on_within_an_epoch_gives_the_figures_and_weights_of_an_undisturbed_one(
    undisturbed, tiny_model: Path, tmp_path: Path
) -> None:
    network, reports, _ = undisturbed
    made: list[Snapshot] = []
    saving = Saving(lambda take: made.append(take()), every_steps=2)
    watched, watched_reports = run(tiny_model, saving=saving)
    assert watched_reports == reports, "to be looked at changes nothing"
    assert_same_weights(watched, network)
    steps = [int(report["steps"]) for report in reports]
    expected = [(epoch, n) for epoch, of in enumerate(steps) for n in range(2, of + 1, 2)]
    at = [snapshot.progress.position for snapshot in made]
    assert [(position.epoch, position.batch) for position in at] == expected
    for number in (0, len(made) // 2 + 1, len(made) - 1):
        put(made[number], tmp_path / str(number))
        resumed, rest = run(tiny_model, given=feed(), seed=0, resume=tmp_path / str(number))
        assert rest == reports[at[number].epoch :]
        assert_same_weights(resumed, network)


def test_a_resumed_run_trains_no_row_of_its_epoch_twice(tiny_model: Path, tmp_path: Path) -> None:
    one = replace(RECIPE, epochs=1)
    made: list[Snapshot] = []
    run(tiny_model, one, saving=Saving(lambda take: made.append(take()), every_steps=3))
    put(made[0], tmp_path / "third")
    given = feed()
    asked: list[tuple[int, int]] = []

    class Watched(MemoryFeed):
        def training(self, epoch: int, start: int) -> Iterator[Batch]:
            asked.append((epoch, start))
            return super().training(epoch, start)

    watched = Watched(given.rows, given.validation_rows)
    run(tiny_model, one, given=watched, resume=tmp_path / "third")
    assert asked == [(0, 3)]
    before = [batch for k, batch in enumerate(given.training(0, 0)) if k < 3]
    counted = Counter(
        tuple(ids[mask == 1].tolist())
        for batch in [*before, *given.training(0, 3)]
        for ids, mask in zip(batch.ids, batch.mask, strict=True)
    )
    assert counted == Counter(tuple(ids.tolist()) for ids in given.rows.tokens)


def test_a_snapshot_is_not_changed_by_the_steps_after_it(tiny_model: Path) -> None:
    made: list[tuple[Snapshot, dict[str, torch.Tensor]]] = []

    def save(take: Any) -> None:
        snapshot = take()
        made.append((snapshot, {name: v.clone() for name, v in snapshot.weights.items()}))

    run(tiny_model, replace(RECIPE, epochs=2), saving=Saving(save, every_steps=2))
    assert len(made) > 2
    for snapshot, then in made:
        for name, value in then.items():
            assert torch.equal(snapshot.weights[name], value), name
    assert not torch.equal(*(made[k][1]["classifier.weight"] for k in (0, -1)))


def test_training_ends_when_it_has_waited_long_enough_for_a_better_epoch(
    tiny_model: Path, tmp_path: Path
) -> None:
    # At this rate nothing is learned: the first epoch stays the best.
    still = replace(RECIPE, lr=1e-12, head_lr=1e-12)
    rule = stopping.Rule("macro_f1", patience=2)
    _, reports = run(tiny_model, still, stop=rule, keep=tmp_path)
    assert [report["epoch"] for report in reports] == [1.0, 2.0, 3.0]
    for resumed_after, more in ((1, [2.0, 3.0]), (2, [3.0]), (3, [])):
        _, rest = run(tiny_model, still, stop=rule, resume=tmp_path / str(resumed_after))
        assert [report["epoch"] for report in rest] == more
    _, all_of_them = run(tiny_model, still)
    assert len(all_of_them) == 6


def test_the_outcome_has_every_epoch_and_where_the_process_began(
    undisturbed, tiny_model: Path
) -> None:
    _, reports, folder = undisturbed
    network = new_network(tiny_model, NAMES, dropout=0.1, seed=0)
    outcome = train(
        network, feed(), RECIPE, report=lambda *_: None, device=CPU, resume=folder / "4"
    )
    assert (outcome.began_at.epoch, outcome.began_at.batch) == (4, 0)
    known = [{k: v for k, v in found.items() if k not in CLOCKS} for found in outcome.history]
    assert known == reports


def test_the_checkpoint_of_the_last_epoch_leaves_nothing_to_train(
    undisturbed, tiny_model: Path
) -> None:
    network, _, folder = undisturbed
    resumed, rest = run(tiny_model, seed=99, resume=folder / "6")
    assert rest == []
    assert_same_weights(resumed, network)
    weights = checkpoint.weights(folder / "6")
    assert weights.keys() == network.state_dict().keys()


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    undisturbed, tiny_model: Path
) -> None:
    network, reports, _ = undisturbed
    again, repeated = run(tiny_model)
    assert repeated == reports
    assert_same_weights(again, network)
    _, other = run(tiny_model, replace(RECIPE, epochs=1), seed=4)
    assert other[0]["train_loss"] != reports[0]["train_loss"]
