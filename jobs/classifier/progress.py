"""How far a run has come: plain values, the same on every rank."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Metrics = dict[str, float]


@dataclass(frozen=True, order=True)
class Position:
    """The next batch to train: number `batch` of epoch `epoch`."""

    epoch: int = 0
    batch: int = 0

    def __str__(self) -> str:
        return f"{self.epoch} epochs and {self.batch} steps"


@dataclass(frozen=True)
class Progress:
    """All that a run has to know, beside weights and optimizer, to go on as if never disturbed.

    `loss`, `rows`, `tokens`: sums over all ranks in the epoch that is under way; `seconds`: how
    long that has trained. `history`: the figures of every finished epoch; the best epoch and
    early stopping follow from it.
    """

    position: Position = Position()
    loss: float = 0.0
    rows: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    history: tuple[Metrics, ...] = ()

    @property
    def ended_epoch(self) -> Metrics | None:
        """The figures of the epoch that has just ended; None within one and before the first."""
        return self.history[-1] if self.position.batch == 0 and self.history else None

    def plain(self) -> dict[str, Any]:
        """For JSON, which keeps every bit of a float."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Progress":
        """The inverse of `plain`; KeyError, TypeError or ValueError for anything else."""
        named = dict(values)
        position = Position(**named.pop("position"))
        history = tuple(dict(figures) for figures in named.pop("history"))
        return cls(position=position, history=history, **named)
