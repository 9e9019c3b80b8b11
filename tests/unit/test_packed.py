"""Rows packed after one another: in few shapes, with the answers and gradients of padded ones."""

import functools
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from jobs.classifier import network as networks
from jobs.classifier.batches import Batch, batches, plan_epoch
from jobs.classifier.losses import cross_entropy_sum
from jobs.classifier.packed import Packed, answer, pack, use_packed_attention
from jobs.classifier.recipe import Recipe
from jobs.classifier.step import Step, logits_of
from tests.unit.memory import separable

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def made(tokens: int = 200, rows: int = 60) -> Iterator[Batch]:
    some = separable(rows)
    return batches(some, plan_epoch(some, seed=1, epoch=0, batch_tokens=tokens), pad_id=0)


@pytest.fixture
def plain(tiny_model: Path) -> Any:
    return networks.new_network(tiny_model, ("a", "b", "c"), dropout=0.0, seed=0).eval()


@pytest.fixture
def packing(tiny_model: Path) -> Any:
    network = networks.new_network(tiny_model, ("a", "b", "c"), dropout=0.0, seed=0).eval()
    use_packed_attention(network)
    return network


def rows_of(packed: Packed) -> list[list[int]]:
    bounds = packed.starts.tolist()
    return [packed.ids[a:b].tolist() for a, b in pairwise(bounds)]


@pytest.mark.parametrize("roomy", [False, True])
def test_every_row_is_there_once_and_in_order(roomy: bool) -> None:
    for batch in made():
        packed = pack(batch, roomy=roomy)
        expected = [
            ids[mask.bool()].tolist() for ids, mask in zip(batch.ids, batch.mask, strict=True)
        ]
        found = rows_of(packed)
        assert found[: len(expected)] == expected
        assert not any(any(row) for row in found[len(expected) :]), "the rest is padding"
        assert packed.row_weights.tolist() == [1.0] * len(expected) + [0.0] * (
            packed.shape.rows - len(expected)
        )
        assert packed.labels[: len(expected)].tolist() == batch.labels.tolist()
        assert float(packed.scale) == pytest.approx(1 / batch.global_rows)


def test_no_row_is_longer_than_its_shape_says_and_positions_count_from_its_first_token() -> None:
    for batch in made():
        packed = pack(batch, roomy=True)
        lengths = (packed.starts[1:] - packed.starts[:-1]).tolist()
        assert max(lengths) <= packed.shape.longest
        assert sum(lengths) == packed.shape.tokens
        assert packed.positions.tolist() == [k for length in lengths for k in range(length)]
        assert packed.first.max() < packed.shape.tokens


def test_shapes_are_few_and_hardly_larger_than_need_be() -> None:
    shapes, seen = set(), 0
    for seed in range(40):
        rows = separable(60, seed=seed)
        for batch in batches(
            rows, plan_epoch(rows, seed=seed, epoch=0, batch_tokens=400), pad_id=0
        ):
            packed = pack(batch, roomy=True)
            shapes.add(packed.shape)
            seen += 1
            assert packed.shape.tokens <= 1.07 * int(batch.mask.sum())
    assert len(shapes) < seen / 3


@pytest.mark.parametrize("roomy", [False, True])
def test_answers_and_gradients_are_those_of_padded_rows(
    plain: Any, packing: Any, roomy: bool
) -> None:
    for batch in made():
        expected = logits_of(plain, batch, torch.float32, CPU)
        packed = pack(batch, roomy=roomy)
        found = answer(packing, packed, torch.float32)
        torch.testing.assert_close(found[: len(expected)], expected)
        cross_entropy_sum(expected, batch.labels, batch.weights).backward()
        cross_entropy_sum(found, packed.labels, packed.row_weights).backward()
    others = dict(packing.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(others[name].grad, parameter.grad, rtol=1e-4, atol=1e-5)


def test_a_step_on_rows_that_fill_a_shape_is_that_on_padded_rows(tiny_model: Path) -> None:
    """What a graph holds: the rest of its shape changes nothing."""

    def trained(packed: bool) -> tuple[list[float], Any]:
        network = networks.new_network(tiny_model, ("a", "b", "c"), dropout=0.0, seed=0).train()
        recipe = Recipe(epochs=1, lr=1e-3, head_lr=5e-3, clip_norm=0.5, packed=packed)
        step = Step(network, recipe, device=CPU, seed=0)
        with mock.patch("jobs.classifier.step.pack", functools.partial(pack, roomy=True)):
            losses = [float(step(b, epoch=0, number=n, rate=0.7)) for n, b in enumerate(made())]
        return losses, network

    expected, padded = trained(False)
    found, packed = trained(True)
    assert found == pytest.approx(expected, rel=1e-5)
    others = dict(packed.named_parameters())
    seen = torch.unique(torch.cat([batch.ids[batch.mask.bool()] for batch in made()]))
    for name, value in padded.named_parameters():
        # Padding is in a packed row's batch, and its word would only decay.
        kept = seen if "word_embeddings" in name else slice(None)
        torch.testing.assert_close(others[name][kept], value[kept], rtol=1e-4, atol=2e-5, msg=name)


def test_what_a_packed_step_cannot_do_is_not_asked_of_it() -> None:
    for more in ({"r_drop": 1.0}, {"micro_tokens": 64}):
        with pytest.raises(ValueError, match="a packed step is whole"):
            Recipe(epochs=1, lr=1e-3, packed=True, **more)
