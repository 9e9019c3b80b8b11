"""What the ranks of a data-parallel run do together; without torch.distributed there is one."""

from typing import Any

import torch
import torch.distributed as dist


def world() -> int:
    """How many ranks train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is."""
    return dist.get_rank() if world() > 1 else 0


def sum_over_ranks(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`values` added up over all ranks, on the CPU."""
    if world() == 1:
        return values
    # NCCL adds tensors on the GPU only.
    values = values.to(device)
    dist.all_reduce(values)
    return values.cpu()


def gathered(value: Any) -> list[Any] | None:
    """On rank 0 the `value` of every rank, in their order; None on the others."""
    if world() == 1:
        return [value]
    found: list[Any] | None = [None] * world() if rank() == 0 else None
    dist.gather_object(value, found)
    return found


def from_rank_zero(value: Any) -> Any:
    """What rank 0 calls it with, on every rank."""
    if world() == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held)
    return held[0]
