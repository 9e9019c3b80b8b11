"""Runs of the training loop on a tiny model and a few separable rows, and a look at their steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from jobs.classifier.checkpoint import Snapshot
from jobs.classifier.loop import train
from jobs.classifier.network import new_network
from jobs.classifier.recipe import Recipe
from tests.unit.memory import MemoryFeed, separable

CPU = torch.device("cpu")
NAMES = ("mail", "network", "printing")
RECIPE = Recipe(epochs=6, lr=1e-2, head_lr=3e-2, layer_decay=0.9, label_smoothing=0.0)
# How long a step took is the only thing that may differ between runs.
CLOCKS = ("epoch_seconds", "tokens_per_second")


def feed(count: int = 37, **about: Any) -> MemoryFeed:
    return MemoryFeed(separable(count), separable(11, seed=5), **about)


def run(
    model: Path,
    recipe: Recipe = RECIPE,
    *,
    given: MemoryFeed | None = None,
    dropout: float = 0.1,
    seed: int = 0,
    keep: Path | None = None,
    network: Any = None,
    **about: Any,
) -> tuple[Any, list[dict[str, float]]]:
    """The trained network, and what was reported without the clocks; checkpoints go to `keep`."""
    network = (
        network if network is not None else new_network(model, NAMES, dropout=dropout, seed=seed)
    )
    reports: list[dict[str, float]] = []

    def report(metrics: dict[str, float], take: Any) -> None:
        reports.append({name: v for name, v in metrics.items() if name not in CLOCKS})
        if keep is not None:
            put(take(), keep / str(len(reports)))

    train(network, given or feed(), recipe, report=report, device=CPU, seed=seed, **about)
    return network, reports


def put(snapshot: Snapshot, folder: Path) -> None:
    folder.mkdir()
    snapshot.write(folder)


@contextmanager
def looking(look: Callable[[torch.optim.Optimizer], None]) -> Iterator[None]:
    """Calls `look` before every step of any optimizer."""
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: look(optimizer))
    try:
        yield
    finally:
        hook.remove()


def gradient_norm(optimizer: torch.optim.Optimizer) -> float:
    grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
    return float(torch.cat([grad.flatten() for grad in grads]).norm())


def assert_same_weights(one: Any, other: Any) -> None:
    others = dict(other.named_parameters())
    for name, value in one.named_parameters():
        assert torch.equal(value, others[name]), name
