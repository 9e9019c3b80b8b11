"""Whether the mix of labels that is answered is still the mix that the model was made for.

The measure is the total variation distance between the labels of the last answers and the natural
prior: the share of answers that would need another label for the two mixes to be equal. Chance
alone keeps it from zero, all the more with many classes and few answers (0.11 with 77 equal classes
and 1,000 answers), so what chance alone is expected to give is taken off: no drift reads as zero on
average, whatever the classes and the window.

One answer more or less moves the distance by at most 1/n. By McDiarmid's inequality an excess of t
or more then happens by chance with a probability below exp(-2 n t²), whatever the prior: for
ALARM = 0.1 that is 0.7% at MIN_ANSWERS = 250 and 2e-9 at 1,000. This supposes independent answers:
a burst of one incident is not chance, and is meant to show.

What it does not know: a decision offset makes rare labels more frequent than the prior says. The
level that a model settles at after its promotion is its own normal.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

WINDOW = 1000
MIN_ANSWERS = 250
ALARM = 0.1

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


class DriftWindow:
    """The labels of the last answers of one model, compared with its natural prior."""

    def __init__(self, prior: Sequence[float], size: int = WINDOW) -> None:
        """`prior`: share of each class, in the order of class ids; it is scaled to a sum of one.
        `size`: answers that are looked at. ValueError for a prior or a size that cannot be."""
        shares = np.asarray(prior, dtype=np.float64)
        total = shares.sum()
        if shares.ndim != 1 or not np.isfinite(total) or total <= 0 or (shares < 0).any():
            raise ValueError(
                f"The natural prior has {shares.size} shares with the sum {total:g}: it needs one "
                "for each class, none below zero, some above."
            )
        if size < MIN_ANSWERS:
            raise ValueError(
                f"A window of {size} answers says nothing: take at least {MIN_ANSWERS}."
            )
        self.prior: Floats = shares / total
        self.size = size
        self._ring: Ids = np.full(size, -1, dtype=np.int64)  # -1: not filled yet
        self._next = 0
        self._counts: Ids = np.zeros(len(shares), dtype=np.int64)
        self._chance: dict[int, float] = {}  # by answers, the newest alone

    @property
    def answers(self) -> int:
        """Answers in the window."""
        return int(self._counts.sum())

    def add(self, classes: Sequence[int] | Ids) -> None:
        """Takes class ids in the order of their answers; the oldest make room."""
        new: Ids = np.asarray(classes, dtype=np.int64)[-self.size :]
        places = (self._next + np.arange(len(new))) % self.size
        old = self._ring[places]
        self._counts += np.bincount(new, minlength=len(self._counts))
        self._counts -= np.bincount(old[old >= 0], minlength=len(self._counts))
        self._ring[places] = new
        self._next = (self._next + len(new)) % self.size

    def excess(self) -> float | None:
        """Distance from the prior less what chance gives; None below MIN_ANSWERS answers."""
        answers = self.answers
        if answers < MIN_ANSWERS:
            return None
        if answers not in self._chance:
            self._chance = {answers: expected_distance(self.prior, answers)}
        return distance(self._counts, self.prior) - self._chance[answers]


def distance(counts: Ids, prior: Floats) -> float:
    """Total variation distance, 0 to 1, between answers per class and shares per class."""
    return float(np.abs(counts / counts.sum() - prior).sum() / 2)


def expected_distance(prior: Floats, answers: int) -> float:
    """What `distance` is on average when that many answers are drawn from the prior.

    Exact: De Moivre's mean absolute deviation of a binomial, E|X - np| = 2 v q C(n,v) p^v q^(n-v)
    with v = floor(np) + 1 (Diaconis and Zabell, Statistical Science 6, 1991), summed over classes.
    """
    shares = prior[(prior > 0) & (prior < 1)]
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, answers + 1)))])
    above = np.minimum(np.floor(answers * shares).astype(np.int64) + 1, answers)
    log_mass = (
        log_factorial[answers]
        - log_factorial[above]
        - log_factorial[answers - above]
        + above * np.log(shares)
        + (answers - above) * np.log1p(-shares)
    )
    deviations = 2 * above * (1 - shares) * np.exp(log_mass)
    return float(deviations.sum() / (2 * answers))
