"""How fast training is: real tokens, padding, and the share of the hardware's matrix products.

torch and numpy alone. Operations of a training step are counted as

    6 · (weights of the encoder's matrices) · (real tokens)
  + 6 · (weights of pooler and classifier) · (rows)
  + 12 · layers · hidden · (sum of the squared lengths)

two operations a weight and token forward, twice as many backward (Kaplan et al., Scaling laws for
neural language models, 2020); the last line is attention, whose two products take 4 · length² ·
hidden forward (Chowdhery et al., PaLM, 2022, appendix B). Padding, embeddings and whatever is
computed a second time count as nothing: utilisation is the share of the measured peak that went
into the tokens of the texts.
"""

import re
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

_PER_ROW = re.compile(r"(^|\.)(pooler|classifier)(\.|$)")


@dataclass
class Work:
    """What batches held: rows, real tokens, their positions with padding, squared lengths."""

    rows: int = 0
    tokens: int = 0
    positions: int = 0
    squares: int = 0

    def add(self, lengths: torch.Tensor, positions: int) -> None:
        """Adds rows of the given lengths that took up `positions` tokens, padding included."""
        self.rows += len(lengths)
        self.tokens += int(lengths.sum())
        self.positions += positions
        self.squares += int((lengths * lengths).sum())

    @property
    def padding(self) -> float:
        """The share of the positions that no text needed."""
        return 1 - self.tokens / max(1, self.positions)


@dataclass(frozen=True)
class Cost:
    """What a network takes: weights used for every token, for every row, and of attention."""

    per_token: int
    per_row: int
    per_square: int

    def of(self, work: Work) -> float:
        """Operations of training on `work`."""
        products = self.per_token * work.tokens + self.per_row * work.rows
        return 6.0 * products + 12.0 * self.per_square * work.squares


def cost_of(network: Any) -> Cost:
    """The cost of a transformers BERT classifier, read from its matrices."""
    found = {True: 0, False: 0}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear):
            found[bool(_PER_ROW.search(name))] += module.weight.numel()
    config = network.config
    return Cost(found[False], found[True], config.num_hidden_layers * config.hidden_size)


@dataclass
class Meter:
    """Counts steps and work, and times `steps` of them after `warm` that do not count."""

    steps: int
    warm: int
    device: torch.device
    work: Work = field(default_factory=Work)
    seconds: float = 0.0
    done: int = 0
    began: float = 0.0

    def add(self, lengths: torch.Tensor, positions: int) -> None:
        """Says what the step under way works on."""
        if self.done >= self.warm:
            self.work.add(lengths, positions)

    def step_done(self) -> bool:
        """Ends a step; whether it was the last."""
        self.done += 1
        if self.done == self.warm:
            self.start()
        elif self.done == self.warm + self.steps:
            _wait_for(self.device)
            self.seconds = time.perf_counter() - self.began
        return self.finished

    def start(self) -> None:
        _wait_for(self.device)
        self.began = time.perf_counter()

    @property
    def finished(self) -> bool:
        return self.done >= self.warm + self.steps

    def line(self, cost: Cost) -> dict[str, Any]:
        """The figures, as they are written down."""
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 4),
            **asdict(self.work),
            "tokens_per_second": round(self.work.tokens / self.seconds, 1),
            "padding": round(self.work.padding, 4),
            "flops_per_second": cost.of(self.work) / self.seconds,
        }


def peak(dtype: torch.dtype, device: torch.device, *, size: int = 0, turns: int = 5) -> float:
    """Operations per second of square matrix products in `dtype`, the best of several turns.

    `size`: rows and columns; 0: what is large for the device.
    """
    size = size or (8192 if device.type == "cuda" else 2048)
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    times = 20 if device.type == "cuda" else 3
    best = 0.0
    for _ in range(turns):
        _wait_for(device)
        began = time.perf_counter()
        for _ in range(times):
            torch.matmul(left, right)
        _wait_for(device)
        best = max(best, times * 2.0 * size**3 / (time.perf_counter() - began))
    return best


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
