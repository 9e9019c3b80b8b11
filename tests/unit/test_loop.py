"""The training loop on a tiny model: what is learned, in which order, and the same on two ranks."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.optim.optimizer import register_optimizer_step_pre_hook

from jobs.classifier import checkpoint, stopping
from jobs.classifier.batches import Batch, batches
from jobs.classifier.checkpoint import Snapshot
from jobs.classifier.loop import Saving, train, validate
from jobs.classifier.losses import cross_entropy_sum
from jobs.classifier.network import new_network
from jobs.classifier.optimizer import rate_factor
from jobs.classifier.recipe import Recipe
from tests.unit.memory import MemoryFeed, separable

CPU = torch.device("cpu")
NAMES = ("mail", "network", "printing")
RECIPE = Recipe(epochs=6, lr=1e-2, head_lr=3e-2, layer_decay=0.9, label_smoothing=0.0)
# How long a step took is the only thing that may differ between runs.
CLOCKS = ("epoch_seconds", "tokens_per_second")


def feed(count: int = 37, **about: Any) -> MemoryFeed:
    return MemoryFeed(separable(count), separable(11, seed=5), **about)


def run(
    model: Path,
    recipe: Recipe = RECIPE,
    *,
    given: MemoryFeed | None = None,
    dropout: float = 0.1,
    seed: int = 0,
    keep: Path | None = None,
    network: Any = None,
    **about: Any,
) -> tuple[Any, list[dict[str, float]]]:
    """The trained network, and what was reported without the clocks; checkpoints go to `keep`."""
    network = (
        network if network is not None else new_network(model, NAMES, dropout=dropout, seed=seed)
    )
    reports: list[dict[str, float]] = []

    def report(metrics: dict[str, float], take: Any) -> None:
        reports.append({name: v for name, v in metrics.items() if name not in CLOCKS})
        if keep is not None:
            put(take(), keep / str(len(reports)))

    train(network, given or feed(), recipe, report=report, device=CPU, seed=seed, **about)
    return network, reports


def put(snapshot: Snapshot, folder: Path) -> None:
    folder.mkdir()
    snapshot.write(folder)


@contextmanager
def looking(look: Callable[[torch.optim.Optimizer], None]) -> Iterator[None]:
    """Calls `look` before every step of any optimizer."""
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: look(optimizer))
    try:
        yield
    finally:
        hook.remove()


def gradient_norm(optimizer: torch.optim.Optimizer) -> float:
    grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
    return float(torch.cat([grad.flatten() for grad in grads]).norm())


def assert_same_weights(one: Any, other: Any) -> None:
    others = dict(other.named_parameters())
    for name, value in one.named_parameters():
        assert torch.equal(value, others[name]), name


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one order, and no threads to wake for a model this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def test_every_row_is_trained_once_an_epoch(tiny_model: Path) -> None:
    network = new_network(tiny_model, NAMES, dropout=0.0, seed=0)
    seen: list[Counter[tuple[int, ...]]] = [Counter()]

    def look(module: Any, arguments: Any, named: dict[str, torch.Tensor]) -> None:
        if module.training:
            mask = named["attention_mask"]
            for row, ids in enumerate(named["input_ids"]):
                kept = ids if mask is None else ids[mask[row] == 1]
                seen[-1][tuple(kept.tolist())] += 1

    network.register_forward_pre_hook(look, with_kwargs=True)
    train(network, feed(), RECIPE, report=lambda *_: seen.append(Counter()), device=CPU)
    once = Counter(tuple(ids.tolist()) for ids in separable(37).tokens)
    assert set(once.values()) == {1}
    assert seen == [once] * 6 + [Counter()]


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


@pytest.mark.parametrize(("schedule", "tokens"), [("linear", 48), ("cosine", 160)])
def test_the_rate_follows_the_rows_and_not_the_steps(
    tiny_model: Path, schedule: Any, tokens: int
) -> None:
    rates: list[float] = []
    given = feed(batch_tokens=tokens)
    sizes = [batch.global_rows for epoch in range(2) for batch in given.training(epoch, 0)]
    with looking(lambda optimizer: rates.append(max(g["lr"] for g in optimizer.param_groups))):
        run(tiny_model, replace(RECIPE, epochs=2, schedule=schedule), given=given)
    middles = (np.cumsum(sizes) - np.array(sizes) / 2) / 74
    expected = [3e-2 * rate_factor(m, warmup_ratio=0.1, schedule=schedule) for m in middles]
    assert rates == pytest.approx(expected)
    assert len(rates) == len(sizes) > 4


def test_gradients_are_clipped_to_the_norm_of_the_recipe(tiny_model: Path) -> None:
    norms: dict[float, list[float]] = {0.5: [], 1e9: []}
    for limit, found in norms.items():
        with looking(lambda optimizer, found=found: found.append(gradient_norm(optimizer))):
            run(tiny_model, replace(RECIPE, epochs=1, clip_norm=limit))
    # Word embeddings have their gradient elsewhere: it counts, and is not seen here.
    assert 0.45 < max(norms[0.5]) <= 0.5001
    assert max(norms[1e9]) > 1


def test_a_class_that_weighs_nothing_is_not_learned(tiny_model: Path) -> None:
    weights = torch.tensor([1.5, 1.5, 0.0])
    network, reports = run(tiny_model, dropout=0.0, class_weights=weights)
    found = validate(network, feed().validation(), dtype=torch.float32, device=CPU)
    # Eleven validation rows, three of which are of the last class.
    assert found["accuracy"] == reports[-1]["accuracy"] == pytest.approx(8 / 11)


@pytest.mark.parametrize(
    "shaped",
    [
        {"class_weights": torch.tensor([3.0, 1.0, 1.0])},
        {"logit_offsets": torch.tensor([0.7, 0.2, 0.1]).log()},
        {"focal_gamma": 2.0},
    ],
    ids=lambda shaped: next(iter(shaped)),
)
def test_balance_shapes_the_training_loss_and_leaves_that_of_validation_plain(
    tiny_model: Path, shaped: dict[str, Any]
) -> None:
    rows = separable(12)
    still = replace(RECIPE, epochs=1, lr=1e-12, head_lr=1e-12)
    network, (report,) = run(tiny_model, still, given=MemoryFeed(rows, rows), dropout=0.0, **shaped)
    (batch,) = batches(rows, [np.arange(12)], pad_id=0)
    with torch.inference_mode():
        logits = network(input_ids=batch.ids, attention_mask=batch.mask).logits
    plain = cross_entropy_sum(logits, batch.labels, batch.weights).item() / 12
    formed = cross_entropy_sum(logits, batch.labels, batch.weights, **shaped).item() / 12
    assert abs(formed - plain) > 0.01
    assert report["train_loss"] == pytest.approx(formed, rel=1e-4)
    assert report["validation_loss"] == pytest.approx(plain, rel=1e-4)


def test_a_judge_sees_every_validation_row_once_and_its_figures_take_the_place_of_the_plain_ones(
    tiny_model: Path,
) -> None:
    seen: list[Any] = []

    def judge(logits: Any, truth: Any) -> dict[str, float]:
        seen.append((logits, truth))
        return {"macro_f1": 0.25}

    network, reports = run(tiny_model, replace(RECIPE, epochs=2), judge=judge)
    plain = validate(network, feed().validation(), dtype=torch.float32, device=CPU)
    assert [report["macro_f1"] for report in reports] == [0.25, 0.25]
    assert reports[-1]["accuracy"] == plain["accuracy"], "what it does not say stays"
    logits, truth = seen[-1]
    assert logits.shape == (11, 3)
    assert (logits.argmax(1) == truth).mean() == pytest.approx(plain["accuracy"])


def test_rows_that_only_stand_in_are_not_counted_in_validation(tiny_model: Path) -> None:
    network = new_network(tiny_model, NAMES, dropout=0.1, seed=0)
    rows = separable(11)
    plan = [np.array([0, 1, 2]), np.array([3]), np.array([4, 5])]
    parts = [list(batches(rows, plan, pad_id=0, rank=rank, world=2)) for rank in range(2)]
    assert [float(batch.weights.sum()) for batch in parts[1]] == [1.0, 0.0, 1.0]

    def figures(found: list[Batch]) -> dict[str, float]:
        return validate(network, iter(found), dtype=torch.float32, device=CPU)

    whole = figures(list(batches(rows, plan, pad_id=0)))
    one, other = figures(parts[0]), figures(parts[1])
    for name in ("validation_loss", "accuracy"):
        assert (4 * one[name] + 2 * other[name]) / 6 == pytest.approx(whole[name], rel=1e-5), name


@pytest.mark.parametrize(
    "shaped",
    [
        {},
        {"label_smoothing": 0.1},
        {"label_smoothing": 0.1, "focal_gamma": 2.0},
        {"logit_offsets": torch.tensor([0.7, 0.2, 0.1]).log()},
    ],
    ids=str,
)
def test_the_gradients_of_two_ranks_add_up_to_that_of_the_whole_batch(
    tiny_model: Path, shaped: dict[str, Any]
) -> None:
    network = new_network(tiny_model, NAMES, dropout=0.0, seed=0)
    weights = torch.tensor([2.0, 0.5, 0.5])
    rows, plan = separable(7), [np.array([0, 3, 1, 6, 2])]

    def gradients(world: int) -> dict[str, torch.Tensor]:
        network.zero_grad()
        for rank in range(world):
            (batch,) = batches(rows, plan, pad_id=0, rank=rank, world=world)
            logits = network(input_ids=batch.ids, attention_mask=batch.mask).logits
            cross_entropy_sum(
                logits, batch.labels, batch.weights, class_weights=weights, **shaped
            ).backward()
        return {name: p.grad.clone() for name, p in network.named_parameters()}

    whole = gradients(1)
    assert max(float(grad.abs().max()) for grad in whole.values()) > 0.1
    for world in (2, 3, 7):
        for name, grad in gradients(world).items():
            torch.testing.assert_close(grad, whole[name], rtol=1e-4, atol=1e-5, msg=name)


# Adam does not see the scale of a gradient, so that norms are compared too, and none is clipped.
SHARED = replace(RECIPE, epochs=2, lr=3e-3, head_lr=1e-2, label_smoothing=0.1, clip_norm=1e9)
WEIGHTS = (2.0, 0.5, 0.5)


def shared_run(rank: int, world: int, model: Path, output: Path) -> None:
    """One rank of a run without dropout; writes its reports, gradient norms and weights."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{output}/meet", rank=rank, world_size=world
        )
    norms: list[float] = []
    given = feed(27, rank=rank, world=world, batch_tokens=20)

    def judge(logits: Any, truth: Any) -> dict[str, float]:
        return {"judged_rows": float(len(truth)), "first_logits": float(logits[:, 0].sum())}

    with looking(lambda optimizer: norms.append(gradient_norm(optimizer))):
        network, reports = run(
            model, SHARED, given=given, dropout=0.0, class_weights=torch.tensor(WEIGHTS),
            logit_offsets=torch.tensor(WEIGHTS).log(), focal_gamma=1.0, judge=judge,
        )  # fmt: skip
    weights = float(sum(p.detach().double().abs().sum() for p in network.parameters()))
    found = {"reports": reports, "norms": norms, "weights": weights}
    (output / f"{rank}-of-{world}.json").write_text(json.dumps(found))
    if world > 1:
        dist.destroy_process_group()
        os._exit(0)  # torch's threads for gloo now and then abort as the interpreter ends


def test_two_processes_learn_what_one_learns(tiny_model: Path, tmp_path: Path) -> None:
    sizes = [b.global_rows for b in feed(27, batch_tokens=20).training(0, 0)]
    assert 1 in sizes, "one rank has no row of its own"
    assert any(size % 2 and size > 1 for size in sizes), "shares are unequal"
    shared_run(0, 1, tiny_model, tmp_path)
    torch.multiprocessing.spawn(shared_run, (2, tiny_model, tmp_path), nprocs=2)
    one, first, second = (
        json.loads((tmp_path / name).read_text())
        for name in ("0-of-1.json", "0-of-2.json", "1-of-2.json")
    )
    assert first == second
    assert first["norms"] == pytest.approx(one["norms"], rel=1e-3)
    assert len(first["reports"]) == SHARED.epochs
    assert first["reports"][0]["judged_rows"] == 11, "rank 0 judges the rows of both"
    for found, expected in zip(first["reports"], one["reports"], strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
