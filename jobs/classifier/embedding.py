"""Word embeddings of which a training step touches only the rows that its batch holds.

The table is half of a small BERT's weights, and a batch of tickets holds a few hundred of its
30,000 rows. A dense gradient has to be cleared, measured, and fed to AdamW whole in every step;
this one has the rows of the batch, and AdamW visits the rows that any batch has held so far.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from jobs.classifier import ranks


class _Lookup(torch.autograd.Function):
    """table[ids]; the gradient goes to `sink` and not to the table."""

    @staticmethod
    def forward(ctx: Any, table: torch.Tensor, ids: torch.Tensor, sink: list[Any]) -> torch.Tensor:
        ctx.ids, ctx.sink = ids, sink
        return table.index_select(0, ids.reshape(-1)).view(*ids.shape, -1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, None, None]:
        ctx.sink.append((ctx.ids.reshape(-1), gradient.reshape(-1, gradient.shape[-1]).float()))
        return None, None, None


class RowEmbedding(nn.Module):
    """As nn.Embedding, over the same weight; gradients gather in `pending`."""

    def __init__(self, table: nn.Parameter) -> None:
        super().__init__()
        self.weight = table
        self.pending: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        # torch gives `apply` no types.
        found: torch.Tensor = _Lookup.apply(self.weight, ids, self.pending)  # type: ignore[no-untyped-call]  # torch has no types here
        return found

    def take_gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows int64 [n] ascending, gradient float32 [n, width]), summed over all ranks.

        Leaves nothing pending. Every rank has to call it in every step.
        """
        ids = torch.cat([ids for ids, _ in self.pending])
        gradients = torch.cat([gradient for _, gradient in self.pending])
        self.pending.clear()
        rows, place = torch.unique(ids, return_inverse=True)
        if ranks.world() > 1:
            everywhere = _union(rows)
            place = torch.searchsorted(everywhere, rows)[place]
            rows = everywhere
        summed = torch.zeros(len(rows), gradients.shape[1])
        summed.index_add_(0, place, gradients)
        if ranks.world() > 1:
            dist.all_reduce(summed)
        return rows, summed


def _union(rows: torch.Tensor) -> torch.Tensor:
    """The rows that any rank has, ascending."""
    count = torch.tensor([len(rows)])
    counts = [torch.zeros_like(count) for _ in range(ranks.world())]
    dist.all_gather(counts, count)
    widest = max(int(c) for c in counts)
    mine = torch.full((widest,), -1, dtype=torch.int64)
    mine[: len(rows)] = rows
    gathered = [torch.empty_like(mine) for _ in counts]
    dist.all_gather(gathered, mine)
    found = torch.unique(torch.cat(gathered))
    return torch.as_tensor(found[found >= 0])


class RowAdamW:
    """AdamW over the rows of a RowEmbedding that have ever had a gradient.

    Those get what dense AdamW would give them, also in steps that do not touch them: their
    moments decay and go on to move them. A row without any gradient so far would only be
    decayed by the dense one; here it stays as it was pretrained.
    """

    def __init__(
        self,
        table: nn.Parameter,
        *,
        peak_lr: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self._table = table
        self.peak_lr, self.lr = peak_lr, peak_lr
        self._weight_decay, self._betas, self._eps = weight_decay, betas, eps
        self._steps = 0
        self._rows = torch.zeros(0, dtype=torch.int64)  # in the order of their first gradient
        self._place = torch.full((len(table),), -1, dtype=torch.int64)
        self._first = torch.zeros(0, table.shape[1])
        self._second = torch.zeros(0, table.shape[1])

    @torch.no_grad()
    def step(self, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        """One update from the gradient of some rows (int64 [n], float32 [n, width])."""
        self._steps += 1
        self._admit(rows)
        whole = torch.zeros_like(self._first)
        whole[self._place[rows]] = gradient
        beta1, beta2 = self._betas
        self._first.lerp_(whole, 1 - beta1)
        self._second.mul_(beta2).addcmul_(whole, whole, value=1 - beta2)
        spread = self._second.sqrt().div_(math.sqrt(1 - beta2**self._steps)).add_(self._eps)
        values = self._table.index_select(0, self._rows)
        values.mul_(1 - self.lr * self._weight_decay)
        values.addcdiv_(self._first, spread, value=-self.lr / (1 - beta1**self._steps))
        self._table.index_copy_(0, self._rows, values)

    def _admit(self, rows: torch.Tensor) -> None:
        new = rows[self._place[rows] < 0]
        if len(new) == 0:
            return
        self._place[new] = torch.arange(len(self._rows), len(self._rows) + len(new))
        self._rows = torch.cat([self._rows, new])
        nothing = torch.zeros(len(new), self._first.shape[1])
        self._first = torch.cat([self._first, nothing])
        self._second = torch.cat([self._second, nothing])

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self._steps,
            "rows": self._rows,
            "first": self._first,
            "second": self._second,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = int(state["steps"])
        self._rows = state["rows"].clone()
        self._first, self._second = state["first"].clone(), state["second"].clone()
        self._place.fill_(-1)
        self._place[self._rows] = torch.arange(len(self._rows))
