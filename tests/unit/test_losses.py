"""The loss as a sum over rows."""

import math

import numpy as np
import pytest
import torch

from jobs.classifier.losses import cross_entropy_sum

LOGITS = [[2.0, 0.5, -1.0], [0.0, 0.0, 0.0], [-1.0, 3.0, 1.0], [0.2, 0.1, 4.0]]
LABELS = [0, 2, 2, 1]


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


def test_the_gradient_of_two_parts_adds_up_to_that_of_the_whole() -> None:
    weights = torch.tensor([2.0, 0.5, 1.0])
    logits, labels, rows = given()
    cross_entropy_sum(logits, labels, rows, class_weights=weights, label_smoothing=0.1).backward()
    whole = logits.grad
    parts, _, _ = given()
    for part in (slice(0, 3), slice(3, 4)):
        cross_entropy_sum(
            parts[part], labels[part], rows[part], class_weights=weights, label_smoothing=0.1
        ).backward()
    torch.testing.assert_close(parts.grad, whole, rtol=1e-6, atol=1e-7)


def test_logits_of_low_precision_are_summed_in_float32() -> None:
    logits, labels, rows = given()
    low = logits.detach().to(torch.bfloat16)
    found = cross_entropy_sum(low, labels, rows)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(cross_entropy_sum(low.float(), labels, rows).item())
