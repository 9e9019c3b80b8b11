"""Settling the keys: range by range of the text ids, in tasks; what stays is numbers.

Each range is small enough for one task. What it settles stays in Ray's object store, which spills
to disk; the driver gets counts per class, and the few salted ids among which a cut falls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster import resources, sharing
from jobs import selection, splits
from jobs.classifier.text import Hashes, salted
from jobs.key_files import KeyFile, read_range
from jobs.keys import label_ids
from jobs.selection import Wanted
from jobs.splits import FREE, Cuts, Ints, Texts

# Keys that one task settles at once: with what sorting takes, some 200 MB.
RANGE_KEYS = 1 << 20
# So few are settled sooner by one task than by two.
FEW_KEYS = 1 << 18
# More keys make larger ranges from here on: every range reads a piece of every key file.
MOST_RANGES = 256
# What a row has to be told that its own label and side do not tell.
SPECIAL = np.dtype(
    [("id", "<u8"), ("owner", "<i4"), ("side", "i1"), ("given", "i1"), ("conflict", "?")]
)


@dataclass(frozen=True)
class Summary:
    """Counts of distinct texts per class, int64 [classes]; they add up over ranges.

    `owned`: all. `open`: those that did not come with a side. `free`: those that the cuts divide.
    `conflicts`: texts under several labels.
    """

    owned: Ints
    open: Ints
    free: Ints
    conflicts: int


class Ranges:
    """All distinct texts of a source, spread over the cluster in ranges of their ids."""

    def __init__(
        self,
        files: Sequence[KeyFile],
        count: int,
        names: Sequence[str],
        *,
        seed: int,
        drop_conflicts: bool,
    ) -> None:
        """`names`: all labels in sorted order; the position is the class number."""
        import ray

        self.count, self.classes = count, len(names)
        hashed = label_ids(names)
        order = np.argsort(hashed)
        settle = ray.remote(num_cpus=resources.TASK_CPUS, num_returns=2)(_settle)
        known = ray.put((list(files), hashed[order], order.astype(np.int32)))
        settled = sharing.spread(
            settle, ((known, r, len(names), seed, drop_conflicts) for r in range(count))
        )
        self.texts = [ref for ref, _ in settled]
        summaries: list[Summary] = ray.get([ref for _, ref in settled])
        self.summary = Summary(
            splits.add_up([s.owned for s in summaries]),
            splits.add_up([s.open for s in summaries]),
            splits.add_up([s.free for s in summaries]),
            sum(s.conflicts for s in summaries),
        )

    def find(self, wanted: Wanted) -> Hashes:
        """The wanted order statistics of the free texts' salted ids."""
        import ray

        bins = ray.remote(num_cpus=resources.TASK_CPUS)(_count_bins)
        gather = ray.remote(num_cpus=resources.TASK_CPUS)(_members)

        def count(now: Wanted, more: int) -> Ints:
            return _added(sharing.spread(bins, ((ref, now, more) for ref in self.texts)))

        def members(now: Wanted) -> tuple[Ints, Hashes]:
            found = ray.get(sharing.spread(gather, ((ref, now) for ref in self.texts)))
            return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

        return selection.select(wanted, count, members)

    def decide(self, cuts: Cuts) -> tuple[Ints, Any]:
        """(int64 [classes, 3] distinct texts per class and split, reference to all SPECIALs)."""
        import ray

        decide = ray.remote(num_cpus=resources.TASK_CPUS, num_returns=2)(_decide)
        decided = sharing.spread(decide, ((ref, cuts, self.classes) for ref in self.texts))
        counts = _added([ref for ref, _ in decided])
        join = ray.remote(num_cpus=resources.TASK_CPUS)(_join)
        return counts, join.remote(*[ref for _, ref in decided])


def _added(refs: Sequence[Any]) -> Ints:
    """The sum of arrays that tasks give; the driver holds one of them at a time."""
    import ray

    total: Ints = ray.get(refs[0])
    for ref in refs[1:]:
        total = total + ray.get(ref)
    return total


@dataclass(frozen=True)
class Settled:
    """What a task leaves in the object store: distinct texts, and their salted ids."""

    texts: Texts
    order: Hashes
    counted: splits.Mask  # texts that count: all, or those without a conflict

    @property
    def free(self) -> splits.Mask:
        """bool [texts]: those whose side the cuts decide."""
        open_ = (self.texts.given == FREE) & (self.texts.earlier == FREE)
        return np.asarray(open_ & self.counted)


def _settle(
    known: tuple[list[KeyFile], Hashes, npt.NDArray[np.int32]],
    number: int,
    classes: int,
    seed: int,
    drop_conflicts: bool,
) -> tuple[Settled, Summary]:
    files, hashed, numbers = known
    keys = read_range(files, number)
    at = np.minimum(np.searchsorted(hashed, keys["label"]), len(hashed) - 1)
    texts = splits.settle(
        np.ascontiguousarray(keys["id"]),
        numbers[at],
        keys["rows"].astype(np.int64),
        np.ascontiguousarray(keys["given"]),
    )
    conflicting = texts.conflicting
    counted = ~conflicting if drop_conflicts else np.ones_like(conflicting)
    settled = Settled(texts, salted(texts.ids, seed), counted)

    def count(of: splits.Mask) -> Ints:
        return np.bincount(texts.owners[of & counted], minlength=classes).astype(np.int64)

    summary = Summary(
        count(counted), count(texts.given == FREE), count(settled.free), int(conflicting.sum())
    )
    return settled, summary


def _count_bins(settled: Settled, wanted: Wanted, more: int) -> Ints:
    free = settled.free
    return selection.count_bins(wanted, more, settled.order[free], settled.texts.owners[free])


def _members(settled: Settled, wanted: Wanted) -> tuple[Ints, Hashes]:
    free = settled.free
    return selection.members(wanted, settled.order[free], settled.texts.owners[free])


def _decide(settled: Settled, cuts: Cuts, classes: int) -> tuple[Ints, npt.NDArray[np.void]]:
    texts = settled.texts
    by_cuts = cuts.sides(settled.order, texts.owners)
    sides = np.where(texts.earlier != FREE, texts.earlier, by_cuts)
    sides = np.where(texts.given != FREE, texts.given, sides).astype(np.int8)
    conflicting = texts.conflicting
    moved = (texts.given == FREE) & (sides != by_cuts)
    told = np.flatnonzero(conflicting | texts.leaking | moved)
    special = np.zeros(len(told), SPECIAL)
    special["id"], special["owner"] = texts.ids[told], texts.owners[told]
    special["side"], special["given"] = sides[told], texts.given[told]
    special["conflict"] = conflicting[told]
    kept = settled.counted
    return splits.table(sides[kept], texts.owners[kept], classes), special


def _join(*parts: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    return np.concatenate(parts)
