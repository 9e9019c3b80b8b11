"""AdamW with the rates of a fine-tuning run: head, layers, warm-up, decay."""

import math
import re
from collections.abc import Iterable
from typing import Any, Literal

import torch

from jobs.classifier.embedding import RowAdamW, RowEmbedding
from jobs.classifier.gradients import SummedGradients

Schedule = Literal["linear", "cosine", "constant"]
HEAD = re.compile(r"(^|\.)(classifier|pooler|pre_classifier)\.")
LAYER = re.compile(r"\.layers?\.(\d+)\.")


class Optimizer:
    """What turns the gradients of a step into new weights, the same on all ranks.

    AdamW (`make_optimizer`) for all weights but word embeddings in a RowEmbedding, which have
    a RowAdamW of their own.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        lr: float,
        head_lr: float | None,
        layer_decay: float,
        weight_decay: float,
        clip_norm: float,
    ) -> None:
        found = [m for m in network.modules() if isinstance(m, RowEmbedding)]
        self._embedding = found[0] if found else None
        table = None if self._embedding is None else self._embedding.weight
        self.dense = make_optimizer(
            network,
            lr=lr,
            head_lr=head_lr,
            layer_decay=layer_decay,
            weight_decay=weight_decay,
            without=table,
        )
        self._rows = None
        if table is not None:
            # The embeddings are the layer below the lowest.
            rate = _rate("", lr, lr, layer_decay, _depth(network))
            self._rows = RowAdamW(table, peak_lr=rate, weight_decay=weight_decay)
        self._clip_norm = clip_norm
        self._parameters = list(parameters_of(self.dense))
        mine = {id(p) for p in self._parameters}
        self.sums = SummedGradients([p for p in network.parameters() if id(p) in mine])

    def set_rates(self, factor: float) -> None:
        """Sets every rate to `factor` times its peak."""
        set_rates(self.dense, factor)
        if self._rows is not None:
            self._rows.lr = self._rows.peak_lr * factor

    def update(self) -> None:
        """Sums the gradients over ranks, clips them as one, takes the step and clears them."""
        self.sums.finish()
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norms = [torch.nn.utils.get_total_norm(gradients)]
        rows, of_rows = None, None
        if self._embedding is not None:
            rows, of_rows = self._embedding.take_gradient()
            norms.append(torch.linalg.vector_norm(of_rows))
        norm = torch.linalg.vector_norm(torch.stack(norms))
        torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm)
        self.dense.step()
        self.dense.zero_grad(set_to_none=True)
        if self._rows is not None and rows is not None and of_rows is not None:
            of_rows.mul_((self._clip_norm / (norm + 1e-6)).clamp(max=1.0))
            self._rows.step(rows, of_rows)

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries of tensors and plain numbers; the same on all ranks."""
        rows = {} if self._rows is None else self._rows.state_dict()
        return {"dense": self.dense.state_dict(), "rows": rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.dense.load_state_dict(state["dense"])
        if self._rows is not None:
            self._rows.load_state_dict(state["rows"])


def make_optimizer(
    network: torch.nn.Module,
    *,
    lr: float,
    head_lr: float | None,
    layer_decay: float,
    weight_decay: float,
    without: torch.nn.Parameter | None = None,
) -> torch.optim.AdamW:
    """Fused AdamW; biases and norms are not decayed.

    `head_lr` is the rate of the pooler and classifier, which start without knowing the task
    (None: `lr`). Each encoder layer below the top one runs at `layer_decay` times the rate of
    the one above it (Howard and Ruder, ULMFiT, 2018); 1 turns that off.
    `without` is left out. Loshchilov and Hutter, Decoupled weight decay regularization, 2019.
    """
    named = [
        (name, p) for name, p in network.named_parameters() if p.requires_grad and p is not without
    ]
    depth = _depth(network)
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
        fused=True,
    )


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets every group's rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


class RatesOnDevice:
    """The rates of an optimizer in memory of a CUDA device, where a captured update reads them.

    They are in force in the block of this context; outside of it everything is as it was.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._optimizer = optimizer  # its groups are others once a state has been loaded
        peaks = [group["peak_lr"] for group in optimizer.param_groups]
        self._peaks = torch.tensor(peaks, device=device)
        self._rates = torch.zeros_like(self._peaks)
        self._before: list[dict[str, Any]] = []

    def set(self, factor: float) -> None:
        """Sets every rate to `factor` times its peak."""
        torch.mul(self._peaks, factor, out=self._rates)

    def __enter__(self) -> None:
        groups = self._optimizer.param_groups
        self._before = [{"lr": g["lr"], "capturable": g["capturable"]} for g in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group.update(lr=rate, capturable=True)

    def __exit__(self, *_: object) -> None:
        for group, before in zip(self._optimizer.param_groups, self._before, strict=True):
            group.update(before)


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


def _depth(network: torch.nn.Module) -> int:
    return 1 + max((layer_of(name) for name, _ in network.named_parameters()), default=-1)


def layer_of(name: str) -> int:
    """Which layer of the encoder a parameter belongs to, counted from 0; -1: to none."""
    found = LAYER.search(name)
    return int(found.group(1)) if found else -1


def _rate(name: str, lr: float, head_lr: float, layer_decay: float, depth: int) -> float:
    if HEAD.search(name):
        return head_lr
    below_top = depth - 1 - layer_of(name)  # the embeddings count as the layer below the lowest
    return float(lr * layer_decay**below_top)


def parameters_of(optimizer: torch.optim.Optimizer) -> Iterable[torch.nn.Parameter]:
    """All parameters that the optimizer changes."""
    return (p for group in optimizer.param_groups for p in group["params"])
