"""Balancing: from a strategy and the counts to numbers.

Below this module no code knows a strategy's name. A balance is a choice of training and touches
the training rows alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cluster.errors import DataError
from jobs.classifier.batches import Tokens
from jobs.classifier.text import salted
from jobs.settings import Balance

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """What training does about unequal classes.

    `rows_per_class` int64 [classes]: rows drawn an epoch. `class_weights` float64 [classes] with
    mean 1 over the drawn rows, or None. `prior` float64 [classes]: the share of each class as
    training feels it.
    """

    rows_per_class: Ints
    class_weights: Floats | None
    prior: Floats

    @property
    def rows(self) -> int:
        """Rows in an epoch."""
        return int(self.rows_per_class.sum())


def plan(settings: Balance, counts: Ints) -> Plan:
    """The numbers of a strategy for classes with `counts` training rows each.

    undersample: every class is cut to the size of the rarest (Drummond and Holte, C4.5, class
    imbalance and cost sensitivity, 2003). class-weights: a row of class c weighs N / (K · n_c)
    (King and Zeng, Logistic regression in rare events data, 2001). Classes without rows, which
    can only come from hand-made data, are an error: no strategy can teach them.
    """
    if (counts <= 0).any():
        raise DataError(
            f"{int((counts <= 0).sum())} labels have no training row. Prepare the data again: "
            "jobs.prepare keeps at least one text of every label for training."
        )
    natural = counts / counts.sum()
    even = np.full(len(counts), 1.0 / len(counts))
    if settings.strategy == "undersample":
        return Plan(np.full_like(counts, counts.min()), None, even)
    if settings.strategy == "class-weights":
        return Plan(counts, counts.sum() / (len(counts) * counts.astype(np.float64)), even)
    return Plan(counts, None, natural)


def draw(
    tokens: Tokens, rows_per_class: Ints, *, seed: int, epoch: int
) -> npt.NDArray[np.bool_] | None:
    """bool [rows]: which rows an epoch draws; None where it draws all of them.

    Exactly `rows_per_class[c]` rows of class c: those whose text ids come first in a permutation
    seeded by (seed, epoch), so that the draw does not depend on how files were cut, and other
    rows get their turn in the next epoch.
    """
    counts = np.bincount(tokens.labels, minlength=len(rows_per_class))
    if (counts <= rows_per_class).all():
        return None
    order = np.lexsort((salted(tokens.text_ids, _mix(seed, epoch)), tokens.labels))
    rank_in_class = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = np.zeros(len(order), dtype=np.bool_)
    drawn[order] = rank_in_class < rows_per_class[tokens.labels[order]]
    return drawn


def _mix(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + epoch + 1


def histogram(names: list[str], before: Ints, after: Ints, width: int = 40) -> str:
    """The class histogram before and after balancing, as lines of text."""
    order = np.argsort(-before, kind="stable")
    longest = max(len(name) for name in names)
    top = int(before.max())
    lines = [f"{'training rows by class':<{longest}}  {'before':>9} {'after':>9}"]
    for c in order:
        full = max(1, round(width * int(before[c]) / top))
        kept = max(1, round(width * int(after[c]) / top))
        bar = "█" * min(kept, full) + "░" * max(0, full - kept)
        lines.append(f"{names[c]:<{longest}}  {before[c]:>9,} {after[c]:>9,}  {bar}")
    return "\n".join(lines)
