"""Row embeddings against torch's own: the same gradient, the same AdamW."""

from typing import Any

import pytest
import torch
from torch import nn

from jobs.classifier.embedding import RowAdamW, RowEmbedding

ROWS, WIDTH = 40, 6
RATES = {"weight_decay": 0.1, "betas": (0.9, 0.999), "eps": 1e-8}


def table() -> nn.Parameter:
    torch.manual_seed(3)
    return nn.Parameter(torch.randn(ROWS, WIDTH))


def steps(count: int) -> list[torch.Tensor]:
    """Ids of a few rows below 30, which differ from step to step; some stand twice."""
    made = torch.Generator().manual_seed(5)
    return [torch.randint(0, 30, (3, 4), generator=made) for _ in range(count)]


def loss(values: torch.Tensor) -> torch.Tensor:
    return (values.pow(2) * torch.arange(1.0, WIDTH + 1)).sum()


def test_the_rows_that_are_looked_up_are_those_of_the_table() -> None:
    ids = torch.tensor([[1, 1, 7], [0, 39, 2]])
    assert torch.equal(RowEmbedding(table())(ids), nn.functional.embedding(ids, table()))


def test_the_gradient_is_that_of_the_dense_embedding_on_the_rows_of_the_batch() -> None:
    ids = torch.tensor([[5, 2, 5], [9, 2, 5]])
    dense = table()
    loss(nn.functional.embedding(ids, dense)).backward()
    rows = RowEmbedding(table())
    loss(rows(ids)).backward()
    which, gradient = rows.take_gradient()
    assert which.tolist() == [2, 5, 9]
    assert dense.grad is not None
    torch.testing.assert_close(gradient, dense.grad[which])
    assert rows.pending == []
    assert rows.weight.grad is None


def test_several_backward_passes_add_up() -> None:
    rows = RowEmbedding(table())
    for ids in (torch.tensor([1, 2]), torch.tensor([2, 3])):
        rows(ids).sum().backward()
    which, gradient = rows.take_gradient()
    assert which.tolist() == [1, 2, 3]
    assert gradient[:, 0].tolist() == [1.0, 2.0, 1.0]


def trained(count: int) -> tuple[RowEmbedding, RowAdamW]:
    rows = RowEmbedding(table())
    optimizer = RowAdamW(rows.weight, peak_lr=0.05, **RATES)
    go_on(rows, optimizer, steps(count))
    return rows, optimizer


def go_on(rows: RowEmbedding, optimizer: RowAdamW, batches: list[torch.Tensor]) -> None:
    for ids in batches:
        loss(rows(ids)).backward()
        optimizer.step(*rows.take_gradient())


def test_rows_that_were_ever_seen_move_as_under_dense_adamw_and_others_stay() -> None:
    dense = table()
    reference = torch.optim.AdamW([dense], lr=0.05, **RATES)
    for ids in steps(25):
        loss(nn.functional.embedding(ids, dense)).backward()
        reference.step()
        reference.zero_grad()
    found = trained(25)[0].weight.detach()
    seen = torch.unique(torch.cat([ids.flatten() for ids in steps(25)]))
    # A row that is first seen in a later step was decayed by the dense one before.
    first = torch.unique(steps(1)[0])
    assert 0 < len(first) < len(seen) < ROWS
    torch.testing.assert_close(found[first], dense.detach()[first], rtol=1e-5, atol=1e-6)
    moved = (found != table().detach()).any(1).nonzero().flatten()
    assert moved.tolist() == seen.tolist()


@pytest.mark.parametrize("at", [1, 7])
def test_a_saved_state_goes_on_as_if_nothing_had_happened(at: int, tmp_path: Any) -> None:
    whole, _ = trained(12)
    rows, optimizer = trained(at)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    again = RowEmbedding(nn.Parameter(rows.weight.detach().clone()))
    other = RowAdamW(again.weight, peak_lr=0.05, **RATES)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    go_on(again, other, steps(12)[at:])
    assert torch.equal(again.weight, whole.weight)
