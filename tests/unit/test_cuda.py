"""What only a CUDA device can show: the same losses packed, padded and compiled, and as on a CPU.

Without one they skip. They need torch, transformers and pytest, and no Ray.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from cluster.errors import SettingError
from jobs.classifier import graphs
from jobs.classifier import network as networks
from jobs.classifier import step as steps
from jobs.classifier.batches import Batch, batches, pin_for, plan_epoch
from jobs.classifier.encoder_layers import as_written
from jobs.classifier.predictor import Predictor
from jobs.classifier.recipe import Recipe
from jobs.classifier.step import Step, logits_of
from tests.unit.memory import separable

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")

CUDA = torch.device("cuda")
TURNS = 3
NAMES = ("mail", "network", "printing")
BF16 = Recipe(epochs=1, lr=1e-3, head_lr=5e-3, clip_norm=0.5, dtype=torch.bfloat16)
WAYS = {
    "padded": BF16,
    "packed": replace(BF16, packed=True),
    "padded, compiled": replace(BF16, compiled=True),
    "packed, compiled": replace(BF16, packed=True, compiled=True),
}


def network(model: Path, device: torch.device, dropout: float = 0.0) -> Any:
    return networks.new_network(model, NAMES, dropout=dropout, seed=0).train().to(device)


def epoch(device: torch.device, tokens: int = 32) -> Iterator[Batch]:
    rows = separable(37)
    plan = plan_epoch(rows, seed=0, epoch=0, batch_tokens=tokens)
    return batches(rows, plan, pad_id=0, pin=pin_for(device))


def losses_of(
    model: Path, recipe: Recipe, device: torch.device = CUDA, dropout: float = 0.0
) -> tuple[list[float], Any]:
    trained = network(model, device, dropout)
    step = Step(trained, recipe, device=device, seed=3)
    # Shapes that come again are graphs then.
    found = [
        float(step(batch, epoch=turn, number=number, rate=0.7))
        for turn in range(TURNS)
        for number, batch in enumerate(epoch(device))
    ]
    return found, trained


def test_a_gpu_trains_as_a_cpu_does(tiny_model: Path) -> None:
    recipe = replace(BF16, dtype=torch.float32)
    expected, _ = losses_of(tiny_model, recipe, torch.device("cpu"))
    found, _ = losses_of(tiny_model, recipe)
    assert len(found) > 5
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_train_gives_the_losses_of_plain_fp32(tiny_model: Path, way: str) -> None:
    expected, reference = losses_of(tiny_model, replace(BF16, dtype=torch.float32))
    found, trained = losses_of(tiny_model, WAYS[way])
    assert found == pytest.approx(expected, rel=0.05)
    names = {name: value.shape for name, value in reference.state_dict().items()}
    assert {name: value.shape for name, value in trained.state_dict().items()} == names


def test_steps_as_graphs_are_the_steps_that_they_hold(tiny_model: Path) -> None:
    """Also with dropout, which follows from the seed in both."""
    counts: list[int] = []

    class Counted(graphs.Graphs):
        def __call__(self, *about: Any) -> torch.Tensor:
            loss = super().__call__(*about)
            counts.append(len(self))
            return loss

    packed = replace(BF16, packed=True)
    with mock.patch.object(steps, "Graphs", Counted):
        one, first = losses_of(tiny_model, packed, dropout=0.3)
    assert counts[-1] > 3
    with mock.patch.object(graphs, "MOST", 0):
        other, second = losses_of(tiny_model, packed, dropout=0.3)
    assert one == other
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_where_a_graph_finds_no_memory_steps_go_on_without(tiny_model: Path) -> None:
    def losses(spoiled: bool) -> list[float]:
        trained = network(tiny_model, CUDA, dropout=0.3)
        step = Step(trained, replace(BF16, packed=True), device=CUDA, seed=3)
        (batch,) = epoch(CUDA, tokens=1000)
        real = step.optimizer.update

        def update() -> None:
            if spoiled and torch.cuda.is_current_stream_capturing():
                raise torch.OutOfMemoryError("none is left")
            real()

        with mock.patch.object(step.optimizer, "update", update):
            return [float(step(batch, epoch=0, number=k, rate=0.7)) for k in range(4)]

    expected = losses(spoiled=False)
    with pytest.warns(UserWarning, match="without CUDA graphs"):
        assert losses(spoiled=True) == expected


def test_a_step_that_finds_no_memory_beside_graphs_is_done_again_without(tiny_model: Path) -> None:
    def losses(spoiled: bool) -> tuple[list[float], int]:
        trained = network(tiny_model, CUDA, dropout=0.3)
        step = Step(trained, replace(BF16, packed=True), device=CUDA, seed=3)
        (large,) = epoch(CUDA, tokens=1000)
        small = next(epoch(CUDA, tokens=32))
        real, fails = step.optimizer.update, [spoiled]

        def update() -> None:
            if len(step._graphs or ()) > 0 and not torch.cuda.is_current_stream_capturing():
                if fails.pop():
                    raise torch.OutOfMemoryError("none is left")
                fails.append(False)
            real()

        with mock.patch.object(step.optimizer, "update", update):
            turns = enumerate((large, large, small, large, small))
            found = [float(step(batch, epoch=0, number=k, rate=0.7)) for k, batch in turns]
        return found, len(step._graphs or ())

    expected, graphs_then = losses(spoiled=False)
    assert graphs_then == 2
    with pytest.warns(UserWarning, match="without CUDA graphs"):
        found, graphs_then = losses(spoiled=True)
    assert (found, graphs_then) == (expected, 0)


@pytest.mark.parametrize("way", ["padded", "packed"])
def test_a_run_that_goes_on_from_its_state_is_the_undisturbed_one(
    tiny_model: Path, way: str
) -> None:
    def train(step: Step, turns: range) -> list[float]:
        return [
            float(step(batch, epoch=turn, number=number, rate=0.3 + 0.1 * turn))
            for turn in turns
            for number, batch in enumerate(epoch(CUDA))
        ]

    first = network(tiny_model, CUDA, dropout=0.3)
    undisturbed = Step(first, WAYS[way], device=CUDA, seed=3)
    train(undisturbed, range(TURNS))
    kept = copy.deepcopy((first.state_dict(), undisturbed.optimizer.state_dict()))
    expected = train(undisturbed, range(TURNS, 2 * TURNS))
    second = network(tiny_model, CUDA, dropout=0.3)
    resumed = Step(second, WAYS[way], device=CUDA, seed=3)
    second.load_state_dict(kept[0])
    resumed.optimizer.load_state_dict(kept[1])
    assert train(resumed, range(TURNS, 2 * TURNS)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_dropout_follows_from_the_seed(tiny_model: Path, way: str) -> None:
    without, _ = losses_of(tiny_model, WAYS[way])
    one, first = losses_of(tiny_model, WAYS[way], dropout=0.3)
    other, second = losses_of(tiny_model, WAYS[way], dropout=0.3)
    assert one != pytest.approx(without, rel=1e-3)
    assert one == pytest.approx(other, rel=1e-2)
    same = one == other and all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    print(f"{way}: the same to the last bit: {same}")


@pytest.mark.parametrize("way", WAYS)
def test_what_was_trained_answers_in_bf16_as_a_plain_network_does(
    tiny_model: Path, way: str
) -> None:
    _, trained = losses_of(tiny_model, WAYS[way])
    plain = network(tiny_model, CUDA)
    plain.load_state_dict(trained.state_dict())
    with torch.inference_mode(), as_written():
        for batch in epoch(CUDA, tokens=64):
            expected = logits_of(plain.eval(), batch, torch.float32, CUDA)
            found = logits_of(trained.eval(), batch, torch.bfloat16, CUDA)
            torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


def test_a_bundle_answers_as_on_a_cpu(tiny_bundle: Path) -> None:
    texts = [" ".join(row) for row in (("vpn", "down"), ("printer",), ("mail", "slow", "error"))]
    expected = Predictor(tiny_bundle, device="cpu").predict(texts)
    for precision, close in (("fp32", 1e-3), ("bf16", 0.03)):
        found = Predictor(tiny_bundle, device="cuda", precision=precision).predict(texts)
        np.testing.assert_allclose(found.scores, expected.scores, atol=close)


# The last one: what torch's random state is good for after it is not known.
def test_a_step_that_waits_for_the_device_is_no_graph(tiny_model: Path) -> None:
    trained = network(tiny_model, CUDA)
    step = Step(trained, replace(BF16, packed=True), device=CUDA, seed=3)
    (batch,) = epoch(CUDA, tokens=1000)
    real = step.optimizer.update

    def update() -> None:
        real()
        torch.zeros(1, device=CUDA).item()

    with mock.patch.object(step.optimizer, "update", update):
        step(batch, epoch=0, number=0, rate=0.7)
        with pytest.raises(SettingError, match=r"Train with --train\.packed false"):
            step(batch, epoch=0, number=1, rate=0.7)
