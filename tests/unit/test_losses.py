"""The loss as a sum over rows."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from jobs.classifier.losses import cross_entropy_sum

LOGITS = [[2.0, 0.5, -1.0], [0.0, 0.0, 0.0], [-1.0, 3.0, 1.0], [0.2, 0.1, 4.0]]
LABELS = [0, 2, 2, 1]
OFFSETS = torch.tensor([-0.5, -2.0, -1.0])


def given(rows: list[float] | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.tensor(LOGITS, requires_grad=True),
        torch.tensor(LABELS),
        torch.tensor([1.0] * 4 if rows is None else rows),
    )


def by_hand(smoothing: float = 0.0) -> np.ndarray:
    """The loss of each row, from the definition."""
    logits = np.array(LOGITS)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = np.full((4, 3), smoothing / 3)
    target[np.arange(4), LABELS] += 1 - smoothing
    return -(target * log_p).sum(axis=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_it_is_the_sum_of_the_cross_entropy_of_the_rows(smoothing: float) -> None:
    found = cross_entropy_sum(*given(), label_smoothing=smoothing)
    assert found.item() == pytest.approx(by_hand(smoothing).sum(), rel=1e-6)


def test_a_row_of_even_logits_costs_the_logarithm_of_the_number_of_classes() -> None:
    logits, labels, rows = given([0.0, 1.0, 0.0, 0.0])
    assert cross_entropy_sum(logits, labels, rows).item() == pytest.approx(math.log(3))


def test_rows_that_do_not_count_give_no_loss_and_no_gradient() -> None:
    logits, labels, rows = given([1.0, 0.0, 1.0, 0.0])
    loss = cross_entropy_sum(logits, labels, rows, label_smoothing=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(by_hand(0.1)[[0, 2]].sum(), rel=1e-6)
    assert logits.grad is not None
    assert logits.grad[[1, 3]].abs().max() == 0
    assert logits.grad[[0, 2]].abs().min() > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_row_carries_the_weight_of_its_own_label_whole(smoothing: float) -> None:
    weights = torch.tensor([3.0, 0.25, 0.5])
    found = cross_entropy_sum(*given(), class_weights=weights, label_smoothing=smoothing)
    expected = (by_hand(smoothing) * weights.numpy()[LABELS]).sum()
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_offsets_are_added_to_the_logits() -> None:
    # Even logits and shares of 1/2, 1/4, 1/4: what is left is the share itself.
    offsets = torch.tensor([0.5, 0.25, 0.25]).log()
    even = torch.zeros(3, 3)
    found = [
        cross_entropy_sum(even[:1], torch.tensor([k]), torch.ones(1), logit_offsets=offsets).item()
        for k in range(3)
    ]
    assert found == pytest.approx([math.log(2), math.log(4), math.log(4)])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_row_with_offsets_is_smoothed_as_any_other(smoothing: float) -> None:
    offsets = torch.tensor([1.0, -2.0, 0.5])
    logits, labels, rows = given()
    found = cross_entropy_sum(
        logits, labels, rows, logit_offsets=offsets, label_smoothing=smoothing
    )
    moved = cross_entropy_sum(logits + offsets, labels, rows, label_smoothing=smoothing)
    assert found.item() == pytest.approx(moved.item())


@pytest.mark.parametrize(
    ("p", "gamma", "loss"),
    [
        # (1 - p)^γ · -ln p
        (0.9, 2, 0.01 * 0.1053605),
        (0.5, 2, 0.25 * 0.6931472),
        (0.5, 1, 0.5 * 0.6931472),
        (0.19, 0.5, 0.9 * 1.6607312),
    ],
)
def test_a_focal_row_weighs_less_the_more_it_is_learned(
    p: float, gamma: float, loss: float
) -> None:
    logits = torch.tensor([[math.log(p), math.log(1 - p)]])
    found = cross_entropy_sum(logits, torch.tensor([0]), torch.ones(1), focal_gamma=gamma)
    assert found.item() == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_with_gamma_zero_is_cross_entropy(smoothing: float) -> None:
    plain = cross_entropy_sum(*given(), label_smoothing=smoothing)
    assert torch.equal(
        cross_entropy_sum(*given(), focal_gamma=0.0, label_smoothing=smoothing), plain
    )
    near = cross_entropy_sum(*given(), focal_gamma=1e-6, label_smoothing=smoothing)
    assert near.item() == pytest.approx(plain.item(), rel=1e-4)


def test_a_smoothed_focal_row_is_modulated_whole_by_the_probability_of_its_own_label() -> None:
    # Even logits: each label has 1/3, and a smoothed row costs ln 3 like any other.
    logits, labels, rows = given([0.0, 1.0, 0.0, 0.0])
    found = cross_entropy_sum(logits, labels, rows, focal_gamma=2.0, label_smoothing=0.3)
    assert found.item() == pytest.approx(4 / 9 * math.log(3))
    own = np.exp(-by_hand())
    found = cross_entropy_sum(*given(), focal_gamma=1.5, label_smoothing=0.3)
    assert found.item() == pytest.approx(((1 - own) ** 1.5 * by_hand(0.3)).sum(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_focal_row_that_is_learned_wholly_has_a_finite_slope(
    gamma: float, smoothing: float
) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    loss = cross_entropy_sum(
        logits,
        torch.tensor([0, 0]),
        torch.ones(2),
        focal_gamma=gamma,
        label_smoothing=smoothing,
    )
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("more", [{}, {"focal_gamma": 2.0}, {"logit_offsets": OFFSETS}])
def test_the_gradient_of_two_parts_adds_up_to_that_of_the_whole(more: dict[str, Any]) -> None:
    settings = {"class_weights": torch.tensor([2.0, 0.5, 1.0]), "label_smoothing": 0.1} | more
    logits, labels, rows = given()
    cross_entropy_sum(logits, labels, rows, **settings).backward()
    whole = logits.grad
    parts, _, _ = given()
    for part in (slice(0, 3), slice(3, 4)):
        cross_entropy_sum(parts[part], labels[part], rows[part], **settings).backward()
    torch.testing.assert_close(parts.grad, whole, rtol=1e-6, atol=1e-7)


def test_logits_of_low_precision_are_summed_in_float32() -> None:
    logits, labels, rows = given()
    low = logits.detach().to(torch.bfloat16)
    found = cross_entropy_sum(low, labels, rows)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(cross_entropy_sum(low.float(), labels, rows).item())
