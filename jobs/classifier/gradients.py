"""Gradients summed over all ranks, in buckets that travel while others are still computed.

As torch's DistributedDataParallel does, without a wrapper around the network: gradients that are
kept elsewhere (jobs.classifier.embedding) can stay out of it, and forward passes can be as many
as one likes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from jobs.classifier import ranks

# Few enough that a bucket is worth a message, many enough that most of them travel early.
BUCKET_ELEMENTS = 4_000_000


class SummedGradients:
    """Sums the gradients of `parameters` over ranks; does nothing where there is one rank."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._buckets: list[list[torch.nn.Parameter]] = []
        self._waiting: list[int] = []
        self._next = 0
        self._sent: list[tuple[int, torch.Tensor, Any]] = []
        self._armed = False
        if ranks.world() == 1:
            return
        # Backward goes from the last layer to the first: so do the buckets.
        room = 0
        for parameter in reversed(parameters):
            if room < parameter.numel():
                self._buckets.append([])
                room = BUCKET_ELEMENTS
            room -= parameter.numel()
            self._buckets[-1].append(parameter)
        for number, bucket in enumerate(self._buckets):
            for parameter in bucket:
                hook = self._on_ready(number)
                # torch gives it no types.
                parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]  # torch has no types here

    def expect(self) -> None:
        """The next backward pass is the last of this step: what it finishes may travel."""
        self._waiting = [len(bucket) for bucket in self._buckets]
        self._next = 0
        self._armed = True

    def finish(self) -> None:
        """Waits until every gradient is the sum over all ranks."""
        if not self._buckets:
            return
        self._armed = False
        # A parameter without a gradient on this rank may have one on others.
        while self._next < len(self._buckets):
            self._send()
        for number, flat, work in self._sent:
            work.wait()
            at = 0
            for parameter in self._buckets[number]:
                size = parameter.numel()
                parameter.grad = flat[at : at + size].view_as(parameter)
                at += size
        self._sent.clear()

    def _on_ready(self, number: int) -> Callable[[torch.Tensor], None]:
        def ready(_: torch.Tensor) -> None:
            if not self._armed:
                return
            self._waiting[number] -= 1
            # All ranks send the same buckets in the same order, whatever is ready first.
            while self._next < len(self._buckets) and self._waiting[self._next] == 0:
                self._send()

        return ready

    def _send(self) -> None:
        number = self._next
        self._next += 1
        flat = torch.cat(
            [
                torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
                for p in self._buckets[number]
            ]
        )
        self._sent.append((number, flat, dist.all_reduce(flat, async_op=True)))
