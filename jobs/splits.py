"""An exact, stratified split that leaks no text: a function of the texts, the shares and the seed.

Works on fixed-width numbers alone: a 64-bit id a text, a class number a label. The unit is the
distinct text. A text under several labels counts under its most frequent one (ties: the smallest
class), and all its rows follow it. In each class the texts are ordered by a seeded permutation of
their ids; the lowest go to the test, the next to validation. Two cuts a class say it all, so that
no order of files, no number of workers and no rerun can change a row's side.

A row may come with its side: then its text stands there, and where rows of one text come with
several, the one that is held out most has it and the others are leaks. A text that earlier
prepared data holds stays on the side where it was.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from jobs.classifier.text import Hashes
from jobs.selection import Wanted

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
FREE = -1  # no side was given, and none remembered
Ints = npt.NDArray[np.int64]
Classes = npt.NDArray[np.int32]
Sides = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]
Labelling = TypeVar("Labelling", Classes, Hashes)  # class numbers, or hashes of labels


@dataclass(frozen=True)
class Cuts:
    """Per class the upper ends (exclusive) of the salted ids of test and validation."""

    test: Hashes
    validation: Hashes

    def sides(self, order: Hashes, owners: Classes) -> Sides:
        """TRAIN, VALIDATION or TEST for texts with the salted ids `order`."""
        sides = np.where(order < self.validation[owners], VALIDATION, TRAIN)
        return np.where(order < self.test[owners], TEST, sides).astype(np.int8)


@dataclass(frozen=True)
class Texts:
    """Distinct texts, by id, and the (text, class) pairs of those under several classes.

    `owners`: the class that a text counts under. `given`: the side that it came with, or FREE.
    `earlier`: the side in earlier data, or FREE. `leaking`: some of its rows came with another
    side. `pairs`: (position of the text, class, rows) for each class of a conflicting text.
    """

    ids: Hashes
    owners: Classes
    given: Sides
    earlier: Sides
    leaking: Mask
    pairs: tuple[Ints, Classes, Ints]

    @property
    def conflicting(self) -> Mask:
        """bool [texts]: those under several classes."""
        found = np.zeros(len(self.ids), np.bool_)
        found[self.pairs[0]] = True
        return found


def settle(
    ids: Hashes,
    classes: Classes,
    rows: Ints,
    given: Sides | None = None,
) -> Texts:
    """Distinct texts from (text id, class, rows, given side) records, which may repeat.

    A record without rows remembers where earlier data had the text. Texts that have no row, or
    none but in earlier data, are not among those returned.
    """
    given = np.full(len(ids), FREE, np.int8) if given is None else given
    now = rows > 0
    earlier_ids, earlier_sides = ids[~now], given[~now]
    ids, classes, rows, given = ids[now], classes[now], rows[now], given[now]
    ids, classes, rows, given = merge(ids, classes, rows, given)
    starts = changes(ids)
    firsts, number = np.flatnonzero(starts), np.cumsum(starts) - 1
    texts, owners, side = ids[firsts], classes[firsts], given[firsts]
    leaking = np.zeros(len(texts), np.bool_)
    # Nearly all texts have one record and are settled; the others are looked at apart.
    several = np.flatnonzero(np.bincount(number, minlength=len(texts))[number] > 1)
    number, classes, rows, given = number[several], classes[several], rows[several], given[several]
    # By text, the side that is held out most first: rows that came with another are leaks.
    order = np.lexsort((classes, -given, number))
    number, classes, rows, given = number[order], classes[order], rows[order], given[order]
    heads = changes(number)
    side[number[heads]] = given[heads]
    leaks = given != side[number]
    leaking[number[leaks]] = True
    number, classes, rows = number[~leaks], classes[~leaks], rows[~leaks]
    # One record a (text, class) now: the first with the most rows owns.
    best = np.lexsort((classes, -rows, number))
    heads = changes(number[best])
    owners[number[best][heads]] = classes[best][heads]
    torn = np.bincount(number, minlength=len(texts))[number] > 1
    pairs = (number[torn], classes[torn], rows[torn])
    return Texts(
        texts, owners, side, _remembered(texts, earlier_ids, earlier_sides), leaking, pairs
    )


def merge(
    ids: Hashes, classes: Labelling, rows: Ints, given: Sides
) -> tuple[Hashes, Labelling, Ints, Sides]:
    """One record for each (id, class, given), its rows summed, sorted by id."""
    if len(ids) == 0:
        return ids, classes, rows, given
    order = np.argsort(ids, kind="stable")
    again = ~changes(ids[order])
    if again.any():
        # Sorting by three keys is dear: only the ids that stand there several times need it.
        repeated = again.copy()
        repeated[:-1] |= again[1:]
        at = np.flatnonzero(repeated)
        some = order[at]
        order[at] = some[np.lexsort((given[some], classes[some], ids[some]))]
    ids, classes, rows, given = ids[order], classes[order], rows[order], given[order]
    starts = np.flatnonzero(changes(ids) | changes(classes) | changes(given))
    return ids[starts], classes[starts], np.add.reduceat(rows, starts), given[starts]


def changes(values: npt.NDArray[np.generic]) -> Mask:
    """Where a value differs from the one before it; the first always does."""
    differs = np.ones(len(values), dtype=np.bool_)
    differs[1:] = values[1:] != values[:-1]
    return differs


def _remembered(texts: Hashes, ids: Hashes, sides: Sides) -> Sides:
    found = np.full(len(texts), FREE, np.int8)
    if len(ids) == 0 or len(texts) == 0:
        return found
    order = np.argsort(ids, kind="stable")
    ids, sides = ids[order], sides[order]
    places = np.minimum(np.searchsorted(ids, texts), len(ids) - 1)
    there = ids[places] == texts
    found[there] = sides[places[there]]
    return found


def quota(texts: int, validation: float, test: float) -> tuple[int, int]:
    """(validation, test): how many of a class's distinct texts go there; the rest trains.

    The largest-remainder rounding of the shares (ties: training first, then validation), with a
    floor: a class with at least three texts stands in every split whose share is not zero, and a
    class always keeps one text to train on.
    """
    # As they were written: 0.1 · 30 is 3, where floats may come out a hair under it.
    asked = [Fraction(str(share)) for share in (validation, test)]
    shares = (1 - sum(asked), *asked)
    exact = [share * texts for share in shares]
    whole = [math.floor(value) for value in exact]
    by_remainder = sorted(range(3), key=lambda k: (whole[k] - exact[k], k))
    for k in by_remainder[: texts - sum(whole)]:
        whole[k] += 1
    wanted = [k for k in (VALIDATION, TEST) if shares[k] > 0] if texts >= 3 else []
    for k in [TRAIN, *wanted]:
        if whole[k] == 0 and texts > 0:
            whole[max(range(3), key=lambda other: whole[other])] -= 1
            whole[k] = 1
    return whole[VALIDATION], whole[TEST]


def choose_cuts(
    counts: Ints,
    find: Callable[[Wanted], Hashes],
    *,
    validation: float,
    test: float,
    whole: Mask | None = None,
) -> Cuts:
    """The cuts that give every class exactly its quotas.

    `counts` int64 [classes]: texts that the cuts divide. `find`: the order statistics of those
    texts. `whole` bool [classes]: classes that train whole.
    """
    quotas = [
        (0, 0) if whole is not None and whole[c] else quota(int(n), validation, test)
        for c, n in enumerate(counts)
    ]
    # A cut that lets nothing in is zero, so that it lets nothing in when the class grows either.
    targets = {(c, to_test) for c, (_, to_test) in enumerate(quotas) if to_test}
    targets |= {(c, sum(both)) for c, both in enumerate(quotas) if both[0]}
    ordered = sorted(targets)
    classes, ranks = np.array(ordered, np.int64).reshape(-1, 2).T
    found = find(Wanted(classes, ranks, np.zeros(len(ordered), np.uint64)))
    at = dict(zip(ordered, found.tolist(), strict=True))
    return Cuts(
        np.array([at.get((c, q[1]), 0) for c, q in enumerate(quotas)], np.uint64),
        np.array([at.get((c, sum(q)), 0) for c, q in enumerate(quotas)], np.uint64),
    )


def table(sides: Sides, owners: Classes, classes: int) -> Ints:
    """int64 [classes, 3]: texts per class and split."""
    flat = np.bincount(owners.astype(np.int64) * 3 + sides, minlength=classes * 3)
    return flat.reshape(classes, 3).astype(np.int64)


def place_of(ids: Hashes, among: Hashes) -> Ints:
    """int64: the position of each id in the sorted array `among`, -1 where it is not there."""
    if len(among) == 0:
        return np.full(len(ids), -1, np.int64)
    places = np.minimum(np.searchsorted(among, ids), len(among) - 1)
    return np.where(among[places] == ids, places, -1).astype(np.int64)


def add_up(parts: Sequence[Ints]) -> Ints:
    """The sum of arrays of one shape."""
    return np.asarray(np.sum(parts, axis=0), dtype=np.int64)
