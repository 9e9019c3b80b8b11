"""What is done to the layers of an encoder for GPUs, as far as a CPU can show it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.errors import SettingError
from jobs.classifier import encoder_layers as layers
from jobs.classifier import network as networks
from jobs.classifier.batches import batches, plan_epoch
from jobs.classifier.step import logits_of
from tests.unit.memory import separable

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture
def network(tiny_model: Path) -> Any:
    return networks.new_network(tiny_model, ("a", "b", "c"), dropout=0.0, seed=0).train()


@pytest.fixture
def other(tiny_model: Path) -> Any:
    return networks.new_network(tiny_model, ("a", "b", "c"), dropout=0.0, seed=0).train()


def answers(network: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    rows = separable(37)
    made = batches(rows, plan_epoch(rows, seed=0, epoch=0, batch_tokens=64), pad_id=0)
    return torch.cat([logits_of(network, batch, dtype, CPU) for batch in made])


def gradients(network: Any) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


def test_norms_in_bf16_change_the_last_bits_alone_and_no_name(network: Any, other: Any) -> None:
    layers.use_bf16_norms(other)
    assert sum(isinstance(m, layers.NormInBf16) for m in other.modules()) == 4
    assert isinstance(other.base_model.embeddings.LayerNorm, torch.nn.LayerNorm)
    expected, found = answers(network), answers(other, torch.bfloat16)
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.02)
    assert list(other.state_dict()) == list(network.state_dict())
    (expected**2).sum().backward()
    (found.float() ** 2).sum().backward()
    both = gradients(network), gradients(other)
    assert both[1].keys() == both[0].keys()
    for name, gradient in both[0].items():
        apart = torch.linalg.vector_norm(both[1][name] - gradient)
        assert apart < 0.1 * torch.linalg.vector_norm(gradient) + 1e-3, name


def test_what_passes_from_layer_to_layer_is_bf16(network: Any) -> None:
    layers.use_bf16_norms(network)
    seen = []
    network.base_model.encoder.layer[0].register_forward_hook(lambda *a: seen.append(a[-1].dtype))
    answers(network, torch.bfloat16)
    assert set(seen) == {torch.bfloat16}


@pytest.mark.skipif(
    shutil.which("gcc") is None, reason="torch compiles with gcc, and there is none"
)
def test_compiled_layers_answer_as_they_are_written(
    network: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "find_spec", lambda _: True)  # Triton is for GPUs
    layers.compile_layers(other)
    expected, found = answers(network), answers(other)
    torch.testing.assert_close(found, expected)
    (expected**2).sum().backward()
    (found**2).sum().backward()
    both = gradients(network), gradients(other)
    for name, gradient in both[0].items():
        torch.testing.assert_close(both[1][name], gradient, rtol=1e-3, atol=1e-4)
    with layers.as_written(), torch.inference_mode():
        torch.testing.assert_close(answers(other.eval()), answers(network.eval()))
    assert list(other.state_dict()) == list(network.state_dict())


@pytest.mark.parametrize("missing", ["Triton", "a C compiler"])
def test_without_what_torch_compiles_with_nothing_is_begun(
    network: Any, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(layers, "find_spec", lambda _: None if missing == "Triton" else True)
    found = None if missing == "a C compiler" else "/usr/bin/gcc"
    monkeypatch.setattr(shutil, "which", lambda _: found)
    with pytest.raises(SettingError, match=f"train.compile: {missing} cannot be found"):
        layers.compile_layers(network)
