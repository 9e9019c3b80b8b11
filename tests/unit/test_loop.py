"""The training loop, step by step: rows, rates, gradients, losses, and the same on two ranks."""

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from jobs.classifier.batches import Batch, batches
from jobs.classifier.loop import train, validate
from jobs.classifier.losses import cross_entropy_sum
from jobs.classifier.network import new_network
from jobs.classifier.optimizer import rate_factor
from tests.unit.looping import CPU, NAMES, RECIPE, feed, gradient_norm, looking, run
from tests.unit.memory import MemoryFeed, separable

pytestmark = pytest.mark.usefixtures("one_thread")


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
