"""Dropout whose draws are cheap on a CPU and follow from a seed.

torch draws one number after the other on a CPU, which is a tenth of a training step of a small
BERT; numpy's SFC64 fills memory with random bits at several times that rate.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

_LEVELS = 1 << 16


class Draws:
    """Where all dropout layers of one network take their random numbers from."""

    def __init__(self) -> None:
        self._generator = np.random.Generator(np.random.SFC64(0))

    def seed(self, *position: int) -> None:
        """Starts anew: the same position gives the same numbers."""
        self._generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(position)))

    def levels(self, shape: torch.Size) -> torch.Tensor:
        """int16 of `shape`, each value equally likely."""
        count = shape.numel()
        bits = self._generator.integers(
            0, np.iinfo(np.uint64).max, size=-(-count // 4), dtype=np.uint64, endpoint=True
        )
        return torch.from_numpy(bits.view(np.int16)[:count]).view(shape)


class _Times(torch.autograd.Function):
    """x · mask, with a mask that wants no gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradient * mask, None


class SeededDropout(nn.Module):
    """As nn.Dropout; `p` is rounded to a multiple of 1/65536."""

    def __init__(self, p: float, draws: Draws) -> None:
        super().__init__()
        self._draws = draws
        self._left_out = min(round(p * _LEVELS), _LEVELS - 1)
        self.p = self._left_out / _LEVELS

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self._left_out == 0:
            return x
        kept = self._draws.levels(x.shape) >= self._left_out - _LEVELS // 2
        mask = kept.to(x.dtype).mul_(1 / (1 - self.p))
        # torch gives `apply` no types.
        found: torch.Tensor = _Times.apply(x, mask)  # type: ignore[no-untyped-call]  # torch has no types here
        return found


def replace_dropout(network: nn.Module, draws: Draws) -> None:
    """Puts a SeededDropout in the place of every nn.Dropout below `network`."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(module, name, SeededDropout(child.p, draws))
