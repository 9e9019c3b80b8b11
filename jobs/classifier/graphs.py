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

from cluster.errors import SettingError
from jobs.classifier.optimizer import Optimizer, RatesOnDevice
from jobs.classifier.packed import Packed, Shape

MOST = 48  # graphs; other shapes are trained without

Step = Callable[[Packed], torch.Tensor]


@dataclass(frozen=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    packed: Packed  # where it reads
    loss: torch.Tensor  # where it writes


class Graphs:
    """Runs steps on packed rows: the first time that a shape comes as they are, then as a graph.

    A step takes rows on the device, changes the weights by `optimizer`, and gives the loss.
    Dropout follows from torch's random state at each call, graph or not. Graphs keep the memory of
    a step to themselves; where steps without one then have too little, there are none from then on.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self._device = device
        self._optimizer = optimizer.dense
        self._rates = RatesOnDevice(optimizer.dense, device)
        self._graphs: dict[Shape, _Graph] = {}
        self._seen: set[Shape] = set()
        self._most = MOST
        # What a graph holds has to come from the stream on which it is captured: so do all steps.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types here
        self._pool: Any = None

    def __len__(self) -> int:
        return len(self._graphs)

    def __call__(self, step: Step, packed: Packed, rate: float) -> torch.Tensor:
        """One step, always the same, at `rate` times the peak rates; `packed` in pinned memory."""
        caller = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            self._rates.set(rate)
            loss = self._run(step, packed)
        caller.wait_stream(self._stream)
        return loss

    def _run(self, step: Step, packed: Packed) -> torch.Tensor:
        shape = packed.shape
        if shape not in self._graphs and shape in self._seen and len(self._graphs) < self._most:
            self._capture(step, packed)
        found = self._graphs.get(shape)
        if found is None:
            self._seen.add(shape)
            return self._as_it_is(step, packed)
        found.packed.numbers.copy_(packed.numbers, non_blocking=True)
        found.packed.weights.copy_(packed.weights, non_blocking=True)
        found.graph.replay()
        return found.loss.clone()

    def _as_it_is(self, step: Step, packed: Packed) -> torch.Tensor:
        before = torch.cuda.get_rng_state(self._device)
        try:
            with self._rates:
                return step(packed.to(self._device))
        except torch.OutOfMemoryError as error:
            if not self._graphs:
                raise
            self._give_up(error)
        torch.cuda.set_rng_state(before, self._device)
        return self._as_it_is(step, packed)

    def _capture(self, step: Step, packed: Packed) -> None:
        """Nothing of it is computed before the graph runs."""
        inputs, loss = packed.to(self._device), torch.zeros((), device=self._device)
        graph = torch.cuda.CUDAGraph()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        about: dict[str, Any] = {"pool": self._pool, "stream": self._stream}
        torch.cuda.synchronize(self._device)  # what failed before is not to be called a capture's
        try:
            # Batches are made in another thread, which may take pinned memory meanwhile.
            with self._rates, torch.cuda.graph(graph, capture_error_mode="thread_local", **about):
                loss.copy_(step(inputs))
        except RuntimeError as error:
            if _is_want_of_memory(error):
                self._give_up(error)
                return
            # Torch's random state may be of no use from here on.
            told = str(error).splitlines()[0]
            raise SettingError(
                f"A step cannot be made a CUDA graph here: {told}. Train with --train.packed false."
            ) from error
        self._graphs[packed.shape] = _Graph(graph, inputs, loss)

    def _give_up(self, error: RuntimeError) -> None:
        told = str(error).splitlines()[0]
        warnings.warn(f"Steps run without CUDA graphs, and slower for it: {told}", stacklevel=2)
        self._most, self._pool = 0, None
        self._graphs.clear()
        # Those of a step that was not finished.
        self._optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()


def _is_want_of_memory(error: RuntimeError) -> bool:
    """Also what CUDA says, which makes a graph from memory that torch does not deal out."""
    told = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in told
