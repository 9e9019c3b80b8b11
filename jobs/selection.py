"""Order statistics of many classes at once, over texts that lie in many places.

Radix selection: histograms over the next leading bits find the bin of each statistic, until so
few texts are left that they can be looked at. Whoever holds the texts counts and gathers; here is
what to ask, and how much is ever held at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from jobs.classifier.text import Hashes

Ints = npt.NDArray[np.int64]
Classes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Wanted:
    """Order statistics that are looked for: the salted id of rank `ranks[k]` in class `classes[k]`.

    `prefixes[k]`: the leading bits that are known of it, `bits` of them; ranks count from the
    first text with that prefix.
    """

    classes: Ints
    ranks: Ints
    prefixes: Hashes
    bits: int = 0

    @cached_property
    def _known(self) -> tuple[Hashes, int, Ints]:
        """(distinct prefixes, number of classes, sorted distinct codes of (prefix, class))."""
        prefixes, classes = np.unique(self.prefixes), int(self.classes.max(initial=0)) + 1
        codes = np.searchsorted(prefixes, self.prefixes) * classes + self.classes
        return prefixes, classes, np.unique(codes)

    @property
    def cells(self) -> int:
        """How many different (class, prefix) pairs are wanted."""
        return len(self._known[2])

    def places(self, prefixes: Hashes, owners: npt.NDArray[np.integer]) -> Ints:
        """int64: which cell each (prefix, class) is, or -1."""
        known, classes, cells = self._known
        at = np.minimum(np.searchsorted(known, prefixes), len(known) - 1)
        codes = at * classes + owners
        places = np.minimum(np.searchsorted(cells, codes), len(cells) - 1)
        there = (known[at] == prefixes) & (owners < classes) & (cells[places] == codes)
        return np.where(there, places, -1).astype(np.int64)

    def places_of(self, order: Hashes, owners: Classes) -> Ints:
        """int64: which cell each text stands in, or -1."""
        # A shift by all 64 bits is undefined.
        prefixes = order >> np.uint64(64 - self.bits) if self.bits else np.zeros_like(order)
        return self.places(prefixes, owners)


def count_bins(wanted: Wanted, more: int, order: Hashes, owners: Classes) -> Ints:
    """int64 [cells, 2^more]: texts of each cell by the next `more` bits of their salted ids."""
    places = wanted.places_of(order, owners)
    inside = np.flatnonzero(places >= 0)
    shifted = order[inside] >> np.uint64(64 - wanted.bits - more)
    bins = (shifted & np.uint64((1 << more) - 1)).astype(np.int64)
    flat = np.bincount((places[inside] << more) + bins, minlength=wanted.cells << more)
    return flat.reshape(wanted.cells, 1 << more).astype(np.int64)


def members(wanted: Wanted, order: Hashes, owners: Classes) -> tuple[Ints, Hashes]:
    """(cell, salted id) of the texts that stand in a wanted cell."""
    places = wanted.places_of(order, owners)
    inside = np.flatnonzero(places >= 0)
    return places[inside], order[inside]


# Bounds of what a selection holds on the driver: counters of a histogram, and salted ids.
MOST_COUNTERS = 1 << 18
MOST_MEMBERS = 1 << 20


def select(
    wanted: Wanted,
    count: Callable[[Wanted, int], Ints],
    gather: Callable[[Wanted], tuple[Ints, Hashes]],
    *,
    most_counters: int = MOST_COUNTERS,
    most_members: int = MOST_MEMBERS,
) -> Hashes:
    """The wanted order statistics, by radix selection: histograms over the next leading bits find
    the bin of each, until so few texts are left that they can be looked at.

    `count` and `gather` give `count_bins` and `members` over all texts, wherever they lie.
    """
    result = np.zeros(len(wanted.classes), np.uint64)
    if len(wanted.classes) == 0:
        return result
    while wanted.bits < 64:
        room = int(np.log2(max(2, most_counters // wanted.cells)))
        more = max(1, min(10, room, 64 - wanted.bits))
        below = np.cumsum(count(wanted, more), axis=1)
        cell = wanted.places(wanted.prefixes, wanted.classes)
        pairs = zip(cell, wanted.ranks, strict=True)
        bins = np.array([np.searchsorted(below[c], rank, side="right") for c, rank in pairs])
        before = np.where(bins > 0, below[cell, np.maximum(bins, 1) - 1], 0)
        left = int((below[cell, bins] - before).sum())
        prefixes = (wanted.prefixes << np.uint64(more)) | bins.astype(np.uint64)
        wanted = Wanted(wanted.classes, wanted.ranks - before, prefixes, wanted.bits + more)
        if left <= most_members:
            break
    cells, found = gather(wanted)
    order = np.lexsort((found, cells))
    starts = np.searchsorted(cells[order], wanted.places(wanted.prefixes, wanted.classes))
    return np.asarray(found[order][starts + wanted.ranks], dtype=np.uint64)
