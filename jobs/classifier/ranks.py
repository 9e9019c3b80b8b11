"""What the ranks of a data-parallel run do together; without torch.distributed there is one."""

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
