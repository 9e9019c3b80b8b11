"""AdamW with the rates of a fine-tuning run: head, layers, warm-up, decay."""

import math
import re
from collections.abc import Iterable
from typing import Literal

import torch

Schedule = Literal["linear", "cosine", "constant"]
HEAD = re.compile(r"(^|\.)(classifier|pooler|pre_classifier)\.")
LAYER = re.compile(r"\.layers?\.(\d+)\.")


def make_optimizer(
    network: torch.nn.Module,
    *,
    lr: float,
    head_lr: float | None,
    layer_decay: float,
    weight_decay: float,
    fused: bool = True,
) -> torch.optim.AdamW:
    """Fused AdamW; biases and norms are not decayed.

    `head_lr` is the rate of the pooler and classifier, which start without knowing the task
    (None: `lr`). Each encoder layer below the top one runs at `layer_decay` times the rate of
    the one above it (Howard and Ruder, ULMFiT, 2018); 1 turns that off.
    Loshchilov and Hutter, Decoupled weight decay regularization, 2019.
    """
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    depth = 1 + max((_layer(name) for name, _ in named), default=-1)
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in named:
        rate = _rate(name, lr, lr if head_lr is None else head_lr, layer_decay, depth)
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        fused=fused,
    )


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets every group's rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def rate_factor(progress: float, *, warmup_ratio: float, schedule: Schedule) -> float:
    """The share of the peak rate at `progress` (0 to 1 of all rows that training will see).

    A function of rows and not of steps: the number of steps need not be known beforehand, and
    resuming needs no state.
    """
    if progress < warmup_ratio:
        return progress / warmup_ratio
    if schedule == "constant":
        return 1.0
    rest = min(1.0, (progress - warmup_ratio) / max(1e-9, 1.0 - warmup_ratio))
    return 1.0 - rest if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * rest))


def _layer(name: str) -> int:
    found = LAYER.search(name)
    return int(found.group(1)) if found else -1


def _rate(name: str, lr: float, head_lr: float, layer_decay: float, depth: int) -> float:
    if HEAD.search(name):
        return head_lr
    below_top = depth - 1 - _layer(name)  # the embeddings count as the layer below the lowest
    return float(lr * layer_decay**below_top)


def parameters_of(optimizer: torch.optim.Optimizer) -> Iterable[torch.nn.Parameter]:
    """All parameters that the optimizer changes."""
    return (p for group in optimizer.param_groups for p in group["params"])
