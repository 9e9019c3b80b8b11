"""One step: what plain transformers and torch would do, faster, and the same on many ranks."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from cluster.errors import SettingError
from jobs.classifier import gradients
from jobs.classifier import network as networks
from jobs.classifier.losses import cross_entropy_sum
from jobs.classifier.optimizer import make_optimizer
from jobs.classifier.packed import answer, pack
from jobs.classifier.recipe import Recipe
from jobs.classifier.step import Step, logits_of
from tests.unit.memory import MemoryFeed, separable

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
NAMES = ("mail", "network", "printing")
RECIPE = Recipe(epochs=2, lr=1e-3, head_lr=5e-3, layer_decay=0.9, clip_norm=0.5)


def network(model: Path, dropout: float = 0.0) -> Any:
    return networks.new_network(model, NAMES, dropout=dropout, seed=0).train()


def feed(**about: Any) -> MemoryFeed:
    return MemoryFeed(separable(37), separable(11, seed=5), **about)


def losses_of(model: Path, recipe: Recipe = RECIPE, *, dropout: float = 0.0, **about: Any) -> Any:
    """(the loss of each step of two epochs, the network after them)."""
    trained = network(model, dropout)
    step = Step(trained, recipe, device=CPU, seed=3)
    given = feed(**about)
    found = [
        float(step(batch, epoch=epoch, number=number, rate=0.7))
        for epoch in range(2)
        for number, batch in enumerate(given.training(epoch, 0))
    ]
    return found, trained


def plain_losses(model: Path) -> Any:
    """The same by transformers' own network, torch's AdamW and torch's clipping."""
    trained = network(model)
    optimizer = make_optimizer(
        trained, lr=0.7e-3, head_lr=3.5e-3, layer_decay=0.9, weight_decay=0.01
    )
    found = []
    for epoch in range(2):
        for batch in feed().training(epoch, 0):
            logits = trained(input_ids=batch.ids, attention_mask=batch.mask).logits
            loss = cross_entropy_sum(logits, batch.labels, batch.weights)
            (loss / batch.global_rows).backward()
            torch.nn.utils.clip_grad_norm_(trained.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            found.append(float(loss.detach()))
    return found, trained


def test_a_step_does_what_plain_torch_would_do(tiny_model: Path) -> None:
    found, trained = losses_of(tiny_model)
    expected, reference = plain_losses(tiny_model)
    assert found == pytest.approx(expected, rel=1e-5)
    seen = torch.unique(torch.cat([torch.as_tensor(ids) for ids in separable(37).tokens])).long()
    others = dict(reference.named_parameters())
    for name, value in trained.named_parameters():
        # Words that no batch holds are left as they are, where torch would let them decay.
        kept = seen if "word_embeddings" in name else slice(None)
        torch.testing.assert_close(value[kept], others[name][kept], rtol=1e-4, atol=2e-5, msg=name)


def test_the_weights_keep_the_names_that_transformers_gives_them(tiny_model: Path) -> None:
    before = {name: value.shape for name, value in network(tiny_model).state_dict().items()}
    _, trained = losses_of(tiny_model)
    assert {name: value.shape for name, value in trained.state_dict().items()} == before


def test_the_logits_are_those_of_transformers_own_attention(tiny_model: Path) -> None:
    plain, ours = network(tiny_model).eval(), network(tiny_model).eval()
    Step(ours, RECIPE, device=CPU, seed=0)
    padded = 0
    for batch in feed(batch_tokens=200).validation():
        padded += int((batch.mask == 0).sum())
        expected = plain(input_ids=batch.ids, attention_mask=batch.mask).logits
        torch.testing.assert_close(logits_of(ours, batch, torch.float32, CPU), expected)
    assert padded > 0


def test_packed_rows_give_the_losses_of_padded_ones(tiny_model: Path) -> None:
    assert any((batch.mask == 0).any() for batch in feed().training(0, 0)), "rows are padded"
    padded, _ = losses_of(tiny_model)
    packed, _ = losses_of(tiny_model, replace(RECIPE, packed=True))
    assert packed == pytest.approx(padded, rel=1e-5)


def test_rows_that_are_packed_together_do_not_see_each_other(tiny_model: Path) -> None:
    trained = network(tiny_model).eval()
    Step(trained, replace(RECIPE, packed=True), device=CPU, seed=0)
    (batch,) = feed(batch_tokens=2000).validation()
    together = answer(trained, pack(batch), torch.float32)
    other = replace(batch, ids=batch.ids.clone())
    other.ids[1:, 1] = 20
    found = answer(trained, pack(other), torch.float32)
    torch.testing.assert_close(found[0], together[0])
    assert not torch.allclose(found[1:], together[1:])


def test_two_draws_without_dropout_agree_and_with_it_cost_what_they_differ(
    tiny_model: Path,
) -> None:
    once, _ = losses_of(tiny_model)
    twice, _ = losses_of(tiny_model, replace(RECIPE, r_drop=3.0, micro_tokens=40))
    assert twice == pytest.approx(once, rel=1e-5)
    light, _ = losses_of(tiny_model, replace(RECIPE, r_drop=1e-9), dropout=0.3)
    heavy, _ = losses_of(tiny_model, replace(RECIPE, r_drop=3.0), dropout=0.3)
    assert heavy[0] > light[0]


@pytest.mark.parametrize("most", [1, 17, 40])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(tiny_model: Path, most: int) -> None:
    whole, _ = losses_of(tiny_model)
    parts, _ = losses_of(tiny_model, replace(RECIPE, micro_tokens=most))
    assert parts == pytest.approx(whole, rel=1e-5)


def test_the_first_losses_are_those_of_earlier_versions(tiny_model: Path) -> None:
    """Other values mean that a seed no longer repeats the run that it once gave."""
    found, _ = losses_of(tiny_model, dropout=0.1)
    assert found[:4] == pytest.approx(FIRST_LOSSES, rel=1e-4)


FIRST_LOSSES = [6.5629239, 1.1692276, 5.5094919, 10.9694815]


def rank_of_four(rank: int, world: int, model: Path, output: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{output}/meet", rank=rank, world_size=world
    )
    # Several buckets, and as many parts as each rank's own rows make.
    gradients.BUCKET_ELEMENTS = 2000
    mine, trained = losses_of(model, replace(RECIPE, micro_tokens=17), rank=rank, world=world)
    summed = torch.tensor(mine, dtype=torch.float64)
    dist.all_reduce(summed)
    weights = sum(float(p.detach().double().abs().sum()) for p in trained.parameters())
    found = {"losses": summed.tolist(), "weights": weights}
    (output / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
    os._exit(0)  # torch's threads for gloo now and then abort as the interpreter ends


def test_four_workers_have_the_losses_of_one(tiny_model: Path, tmp_path: Path) -> None:
    sizes = {b.global_rows for epoch in range(2) for b in feed().training(epoch, 0)}
    assert any(size % 4 for size in sizes), "shares are unequal"
    one, trained = losses_of(tiny_model)
    torch.multiprocessing.spawn(rank_of_four, (4, tiny_model, tmp_path), nprocs=4)
    four = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]
    assert all(found == four[0] for found in four)
    assert four[0]["losses"] == pytest.approx(one, abs=1e-4)
    weights = sum(float(p.detach().double().abs().sum()) for p in trained.parameters())
    assert four[0]["weights"] == pytest.approx(weights, rel=1e-6)


def test_frozen_layers_stay_as_they_were_and_the_others_learn(tiny_model: Path) -> None:
    trained, before = network(tiny_model), network(tiny_model)
    networks.freeze(trained, 1)
    step = Step(trained, RECIPE, device=CPU, seed=0)
    for number, batch in enumerate(feed().training(0, 0)):
        step(batch, epoch=0, number=number, rate=1.0)
    others = dict(before.named_parameters())
    moved = {name for name, p in trained.named_parameters() if not torch.equal(p, others[name])}
    frozen = {name for name in others if "embeddings" in name or "layer.0." in name}
    assert moved == set(others) - frozen


def test_more_frozen_layers_than_there_are_is_refused(tiny_model: Path) -> None:
    with pytest.raises(SettingError, match="freeze_layers is 3, and the network has 2 layers"):
        networks.freeze(network(tiny_model), 3)
