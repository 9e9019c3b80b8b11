"""Whole training steps as CUDA graphs: what a step launches is launched at once.

A step of a BERT launches some two thousand kernels, and for batches of tickets a host takes longer
to launch them than a GPU to run them. A graph holds them all, from the forward pass to the update,
for one shape of packed rows (jobs.classifier.packed), which few shapes are enough for.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from jobs.classifier.optimizer import Optimizer, RatesOnDevice
from jobs.classifier.packed import Packed, Shape

MOST = 48  # graphs; other shapes are trained without


@dataclass(frozen=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    packed: Packed  # where it reads
    loss: torch.Tensor  # where it writes


class Graphs:
    """Runs `step` on packed rows: the first time that a shape comes as it is, then as a graph.

    `step(packed)` takes rows on the device, changes the weights by `optimizer`, and gives the
    loss. Dropout follows from torch's random state at each call, graph or not.
    """

    def __init__(
        self, step: Callable[[Packed], torch.Tensor], optimizer: Optimizer, device: torch.device
    ) -> None:
        self._step, self._device = step, device
        self._rates = RatesOnDevice(optimizer.dense, device)
        self._graphs: dict[Shape, _Graph] = {}
        self._seen: set[Shape] = set()
        self._most = MOST
        # What a graph holds has to come from the stream on which it is captured: so do all steps.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has none
        self._pool: Any = None

    def __call__(self, packed: Packed, rate: float) -> torch.Tensor:
        """One step at `rate` times the peak rates; `packed` in pinned memory. The loss."""
        caller = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            self._rates.set(rate)
            loss = self._run(packed)
        caller.wait_stream(self._stream)
        return loss

    def _run(self, packed: Packed) -> torch.Tensor:
        shape = packed.shape
        if shape not in self._graphs and shape in self._seen and len(self._graphs) < self._most:
            self._capture(packed)
        found = self._graphs.get(shape)
        if found is None:
            self._seen.add(shape)
            with self._rates:
                return self._step(packed.to(self._device))
        found.packed.numbers.copy_(packed.numbers, non_blocking=True)
        found.packed.weights.copy_(packed.weights, non_blocking=True)
        found.graph.replay()
        return found.loss.clone()

    def _capture(self, packed: Packed) -> None:
        """Nothing of it is computed before the graph runs."""
        inputs, loss = packed.to(self._device), torch.zeros((), device=self._device)
        graph = torch.cuda.CUDAGraph()
        if self._pool is None:
            torch.cuda.empty_cache()  # what steps without a graph have left is of no use to it
            self._pool = torch.cuda.graph_pool_handle()
        about: dict[str, Any] = {"pool": self._pool, "stream": self._stream}
        try:
            # Batches are made in another thread, which may take pinned memory meanwhile.
            with self._rates, torch.cuda.graph(graph, capture_error_mode="thread_local", **about):
                loss.copy_(self._step(inputs))
        except RuntimeError as error:
            self._most = 0
            told = str(error).splitlines()[0]
            warnings.warn(f"Steps run without CUDA graphs, and slower for it: {told}", stacklevel=2)
            return
        self._graphs[packed.shape] = _Graph(graph, inputs, loss)
