"""Our own training step at the benchmarks' meter; jobs.classifier alone, so that it also runs on
a bare machine with an accelerator.
"""

from itertools import count
from typing import Any

import torch

from jobs.classifier.batches import batches, pin_for, plan_epoch
from jobs.classifier.loop import LOOKS_EVERY
from jobs.classifier.step import Step
from tests.benchmarks.measure import Meter
from tests.benchmarks.rows import Rows


def step_speed(
    step: Step,
    network: Any,
    rows: Rows,
    meter: Meter,
    *,
    batch_tokens: int,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    packed: bool = False,
) -> None:
    """Trains as jobs.classifier.loop does until the meter has what it wants.

    The meter counts the work of this rank. `packed` says that the step computes no padding.
    """
    network.train()
    losses: list[torch.Tensor] = []
    pin = pin_for(next(network.parameters()).device)
    for epoch in count():
        plan = plan_epoch(rows, seed=seed, epoch=epoch, batch_tokens=batch_tokens)
        made = batches(rows, plan, pad_id=0, rank=rank, world=world, pin=pin)
        for number, batch in enumerate(made):
            own = batch.mask[batch.weights > 0]  # a stand-in of an empty share is padding
            lengths = own.sum(1)
            meter.add(lengths, int(lengths.sum()) if packed else batch.mask.numel())
            losses.append(step(batch, epoch=epoch, number=number, rate=0.5))
            if len(losses) == LOOKS_EVERY:  # as the loop, to stop where it is no number
                torch.stack(losses).tolist()
                losses.clear()
            if meter.step_done():
                return
