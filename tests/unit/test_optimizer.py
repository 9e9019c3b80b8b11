"""The rates of a run: by parameter, and over its course."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.classifier.network import new_network
from jobs.classifier.optimizer import (
    RatesOnDevice,
    make_optimizer,
    parameters_of,
    rate_factor,
    set_rates,
)
from tests.unit.memory import STEADY


@pytest.fixture(scope="module")
def network(tiny_model: Path) -> Any:
    return new_network(tiny_model, ("a", "b"), dropout=0.0, seed=0)


@pytest.fixture(scope="module")
def groups(network: Any) -> Callable[..., dict[str, dict[str, Any]]]:
    """Parameter name → its group, for an optimizer with the given rates."""

    def make(**rates: Any) -> dict[str, dict[str, Any]]:
        optimizer = make_optimizer(
            network,
            **({"lr": 1e-3, "head_lr": 1e-2, "layer_decay": 0.5, "weight_decay": 0.01} | rates),
        )
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        return {
            names[id(parameter)]: group
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    return make


def kind(name: str) -> str:
    return next(
        kind
        for kind in ("classifier", "pooler", "layer.0.", "layer.1.", "embeddings")
        if kind in name
    )


def test_the_head_has_its_own_rate_and_layers_learn_less_the_deeper_they_lie(groups) -> None:
    found: dict[str, set[float]] = {}
    for name, group in groups().items():
        found.setdefault(kind(name), set()).add(group["lr"])
    assert found == {
        "classifier": {1e-2},
        "pooler": {1e-2},
        "layer.1.": {1e-3},
        "layer.0.": {0.5e-3},
        "embeddings": {0.25e-3},
    }


def test_without_a_rate_of_its_own_the_head_learns_like_the_top_layer(groups) -> None:
    found = groups(head_lr=None)
    assert {group["lr"] for name, group in found.items() if kind(name) == "classifier"} == {1e-3}


def test_a_decay_of_one_gives_all_layers_one_rate(groups) -> None:
    assert {group["lr"] for group in groups(layer_decay=1.0, head_lr=None).values()} == {1e-3}


def test_matrices_are_decayed_and_biases_and_norms_are_not(groups, network) -> None:
    shapes = {name: parameter.ndim for name, parameter in network.named_parameters()}
    for name, group in groups().items():
        plain = name.endswith("bias") or "LayerNorm" in name
        assert group["weight_decay"] == (0.0 if plain else 0.01), name
        assert plain == (shapes[name] == 1)


def test_every_parameter_is_changed_once_and_frozen_ones_never(tiny_model: Path) -> None:
    network = new_network(tiny_model, ("a", "b"), dropout=0.0, seed=0)
    for parameter in network.bert.embeddings.parameters():
        parameter.requires_grad = False
    rates = {"lr": 1e-3, "head_lr": None, "layer_decay": 0.9, "weight_decay": 0.01}
    found = [id(p) for p in parameters_of(make_optimizer(network, **rates))]
    expected = [id(p) for n, p in network.named_parameters() if "embeddings" not in n]
    assert len(expected) > 0
    assert sorted(found) == sorted(expected)


def test_rates_are_set_from_their_peak_and_not_from_the_last_ones() -> None:
    network = torch.nn.ModuleDict({"classifier": torch.nn.Linear(2, 2), "x": torch.nn.Linear(2, 2)})
    optimizer = make_optimizer(network, lr=0.1, head_lr=0.4, layer_decay=1.0, weight_decay=0.0)
    set_rates(optimizer, 0.5)
    set_rates(optimizer, 0.25)
    assert sorted(group["lr"] for group in optimizer.param_groups) == pytest.approx([0.025, 0.1])


def test_rates_in_memory_of_the_device_are_in_force_within_their_block_alone(network: Any) -> None:
    optimizer = make_optimizer(network, lr=1e-3, head_lr=1e-2, layer_decay=0.5, weight_decay=0.01)
    rates = RatesOnDevice(optimizer, torch.device("cpu"))
    optimizer.load_state_dict(optimizer.state_dict())  # its groups are others from here on
    before = [dict(group, params=None) for group in optimizer.param_groups]
    rates.set(0.25)
    with rates:
        for group in optimizer.param_groups:
            assert float(group["lr"]) == pytest.approx(group["peak_lr"] * 0.25)
            assert group["capturable"]
        rates.set(0.5)
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(before[0]["peak_lr"] * 0.5)
    assert [dict(group, params=None) for group in optimizer.param_groups] == before


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [
        ("linear", 0.0, 0.0),
        ("linear", 0.05, 0.25),
        ("linear", 0.2, 1.0),
        ("linear", 0.6, 0.5),
        ("linear", 1.0, 0.0),
        ("cosine", 0.1, 0.5),
        ("cosine", 0.2, 1.0),
        ("cosine", 0.4, 0.8535533905932737),
        ("cosine", 0.6, 0.5),
        ("cosine", 1.0, 0.0),
        ("constant", 0.1, 0.5),
        ("constant", 0.2, 1.0),
        ("constant", 1.0, 1.0),
    ],
)
def test_the_rate_rises_to_its_peak_and_falls_by_its_schedule(
    schedule, progress: float, factor: float
) -> None:
    found = rate_factor(progress, warmup_ratio=0.2, schedule=schedule)
    assert found == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_without_a_warm_up_training_starts_at_the_peak(schedule) -> None:
    assert rate_factor(0.0, warmup_ratio=0.0, schedule=schedule) == 1.0


@STEADY
@given(
    st.sampled_from(["linear", "cosine", "constant"]),
    st.floats(0, 0.99),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_rate_never_passes_its_peak_and_never_rises_after_the_warm_up(
    schedule, warmup: float, one: float, two: float
) -> None:
    early, late = sorted((one, two))
    first, second = (
        rate_factor(at, warmup_ratio=warmup, schedule=schedule) for at in (early, late)
    )
    assert 0 <= first <= 1
    assert 0 <= second <= 1
    if early >= warmup:
        assert second <= first
    elif late < warmup:
        assert first <= second
