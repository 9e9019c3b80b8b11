"""The pass for answering against transformers' own, on a BERT with random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.classifier import unpadded
from jobs.classifier.encoding import TokenIds
from jobs.classifier.network import saved_network
from jobs.classifier.unpadded import Unpadded, fits


@pytest.fixture(scope="module")
def network(tiny_bundle: Path) -> Any:
    made = saved_network(tiny_bundle)
    torch.manual_seed(3)
    with torch.no_grad():  # biases and norms are zeros and ones in a fresh network
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def plain(network: Any, tokens: list[TokenIds]) -> torch.Tensor:
    """Each row by itself, without any padding."""
    with torch.inference_mode():
        return torch.cat(
            [network(torch.from_numpy(row[None].astype(np.int64))).logits for row in tokens]
        )


def unpadded_of(network: Any, dtype: torch.dtype = torch.float32) -> Unpadded:
    return Unpadded(network.state_dict(), network.config.to_dict(), dtype=dtype)


def tokens_of(*lengths: int) -> list[TokenIds]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, 60, size=length).astype(np.int32) for length in lengths]


@pytest.mark.parametrize(
    "lengths",
    [
        (1,),
        (16,),
        (7, 7, 7),
        (16, 2),
        (16, 15, 9, 9, 3, 2, 1),
        (64, 1, 1),
        (37, 35),
        (3,) * 33,
        (8,) * 33,
        tuple(range(1, 42)),
        (33,) * 34,
    ],
    ids=lambda lengths: f"{len(lengths)} rows of {sum(lengths)} tokens",
)
def test_logits_are_those_of_every_text_alone(network: Any, lengths: tuple[int, ...]) -> None:
    tokens = tokens_of(*lengths)
    expected = plain(network, tokens)
    with torch.inference_mode():
        found = unpadded_of(network)(tokens)
    assert found.shape == (len(lengths), 3)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_the_pass_is_scripted_and_the_same_where_it_cannot_be(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(module: Any) -> Any:
        raise RuntimeError("scripts are no more")

    scripted = unpadded_of(network)
    monkeypatch.setattr(torch.jit, "script", unable)
    plain = unpadded_of(network)
    assert isinstance(scripted._pass, torch.jit.ScriptModule)
    assert not isinstance(plain._pass, torch.jit.ScriptModule)
    with torch.inference_mode():
        for tokens in (tokens_of(9, 4), tokens_of(16, 16)):
            torch.testing.assert_close(scripted(tokens), plain(tokens), atol=1e-6, rtol=0)


@pytest.mark.parametrize("ordered", [True, False])
def test_in_bfloat16_the_weights_order_changes_nothing_but_rounding(
    network: Any, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not ordered:
        monkeypatch.setattr(unpadded, "_OPERATORS", ("of another version of torch",))
    tokens = tokens_of(16, 15, 9, 9, 3, 2, 1)
    expected = plain(network, tokens)
    made = unpadded_of(network, torch.bfloat16)
    assert made._pass.last.query.ordered is ordered
    with torch.inference_mode():
        found = made(tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.15, rtol=0.05)


def test_a_network_of_another_kind_is_left_to_transformers(network: Any) -> None:
    config = network.config.to_dict()
    assert fits(config)
    others = {"model_type": "roberta", "hidden_act": "relu", "architectures": ["BertForMaskedLM"]}
    for name, other in others.items():
        assert not fits(config | {name: other})
