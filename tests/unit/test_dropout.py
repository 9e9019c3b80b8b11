"""Dropout by numpy's bits: as torch's in what it does, and repeatable."""

import pytest
import torch
from torch import nn

from jobs.classifier.dropout import Draws, SeededDropout, replace_dropout


def dropout(p: float, seed: int = 0) -> SeededDropout:
    draws = Draws()
    draws.seed(seed)
    return SeededDropout(p, draws)


def test_a_share_of_p_becomes_zero_and_the_rest_keeps_the_mean() -> None:
    found = dropout(0.3)(torch.ones(1000, 1000))
    assert float((found == 0).float().mean()) == pytest.approx(0.3, abs=0.002)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.003)
    assert len(found.unique()) == 2


def test_the_gradient_passes_where_the_value_did() -> None:
    x = torch.randn(50, 7, requires_grad=True)
    found = dropout(0.5)(x)
    found.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad == 0, found == 0)
    torch.testing.assert_close(x.grad * x, found)


def test_one_seed_gives_one_mask_and_the_layers_of_a_step_draw_on() -> None:
    draws = Draws()
    layer = SeededDropout(0.5, draws)
    draws.seed(1, 2, 3)
    first, second = layer(torch.ones(64)), layer(torch.ones(64))
    draws.seed(1, 2, 3)
    assert torch.equal(layer(torch.ones(64)), first)
    assert not torch.equal(first, second)
    draws.seed(1, 2, 4)
    assert not torch.equal(layer(torch.ones(64)), first)


@pytest.mark.parametrize("p", [0.0, 1e-9])
def test_nothing_is_left_out_at_zero_and_none_in_evaluation(p: float) -> None:
    layer = dropout(p)
    x = torch.randn(5, 5)
    assert torch.equal(layer(x), x)
    assert torch.equal(dropout(0.5).eval()(x), x)


def test_numbers_keep_their_format_and_odd_sizes_are_filled() -> None:
    found = dropout(0.1)(torch.ones(3, 1, dtype=torch.bfloat16))
    assert found.dtype is torch.bfloat16
    assert found.shape == (3, 1)


def test_every_dropout_of_a_network_is_replaced_and_shares_its_draws() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.2)))
    replace_dropout(network, Draws())
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(SeededDropout) == 2
    assert nn.Dropout not in kinds
