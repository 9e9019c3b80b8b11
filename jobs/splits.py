"""An exact, stratified split that leaks no text: a function of the texts, the shares and the seed.

Works on fixed-width numbers alone: a 64-bit id a text, a class number a label. The unit is the
distinct text. A text under several labels counts under its most frequent one (ties: the smallest
class), and all its rows follow it. In each class the texts are ordered by a seeded permutation of
their ids; the lowest go to the test, the next to validation. Two cuts a class say it all, so that
no order of files, no number of workers and no rerun can change a row's side.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.classifier.text import Hashes, salted

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """Distinct texts: `ids` sorted, the class that owns each, and which stand under several."""

    ids: Hashes
    owners: npt.NDArray[np.int32]
    conflicting: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cuts:
    """Per class the upper ends (exclusive) of the salted ids of test and validation."""

    test: Hashes
    validation: Hashes

    def sides(self, ids: Hashes, owners: npt.NDArray[np.int32], seed: int) -> npt.NDArray[np.int8]:
        """TRAIN, VALIDATION or TEST for each text."""
        order = salted(ids, seed)
        sides = np.where(order < self.validation[owners], VALIDATION, TRAIN)
        return np.where(order < self.test[owners], TEST, sides).astype(np.int8)


def settle(ids: Hashes, classes: npt.NDArray[np.int32], rows: Ints) -> Texts:
    """Distinct texts from (text id, class, number of rows) triples, which may repeat."""
    order = np.lexsort((classes, ids))
    ids, classes, rows = ids[order], classes[order], rows[order]
    starts = np.flatnonzero(_changes(ids) | _changes(classes))
    ids, classes, rows = ids[starts], classes[starts], np.add.reduceat(rows, starts)
    # Now one triple a (text, class), by text and then class: the first with the most rows owns.
    best = np.lexsort((classes, -rows, ids))
    firsts = np.flatnonzero(_changes(ids[best]))
    sizes = np.diff(np.append(firsts, len(ids)))
    return Texts(ids[best][firsts], classes[best][firsts], sizes > 1)


def _changes(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Where a value differs from the one before it; the first always does."""
    differs = np.ones(len(values), dtype=np.bool_)
    differs[1:] = values[1:] != values[:-1]
    return differs


def quota(texts: int, validation: float, test: float) -> tuple[int, int]:
    """(validation, test): how many of a class's distinct texts go there; the rest trains.

    The largest-remainder rounding of the shares (ties: training first, then validation), with a
    floor: a class with at least three texts stands in every split whose share is not zero, and a
    class always keeps one text to train on.
    """
    shares = (1.0 - validation - test, validation, test)
    exact = [share * texts for share in shares]
    # A share such as 0.1 · 30 may come out a hair under 3.
    whole = [int(value + 1e-9) for value in exact]
    by_remainder = sorted(range(3), key=lambda k: (-(round(exact[k] - whole[k], 9)), k))
    for k in by_remainder[: texts - sum(whole)]:
        whole[k] += 1
    wanted = [k for k in (VALIDATION, TEST) if shares[k] > 0] if texts >= 3 else []
    for k in [TRAIN, *wanted]:
        if whole[k] == 0 and texts > 0:
            whole[max(range(3), key=lambda other: whole[other])] -= 1
            whole[k] = 1
    return whole[VALIDATION], whole[TEST]


def choose_cuts(texts: Texts, classes: int, *, validation: float, test: float, seed: int) -> Cuts:
    """The cuts that give every class exactly its quotas."""
    order = salted(texts.ids, seed)
    by_class = np.lexsort((order, texts.owners))
    ends = np.searchsorted(texts.owners[by_class], np.arange(classes + 1))
    cuts = Cuts(np.zeros(classes, np.uint64), np.zeros(classes, np.uint64))
    for c in range(classes):
        ranked = order[by_class[ends[c] : ends[c + 1]]]
        if len(ranked) == 0:
            continue
        to_validation, to_test = quota(len(ranked), validation, test)
        cuts.test[c] = ranked[to_test]
        cuts.validation[c] = ranked[to_test + to_validation]
    return cuts


def table(sides: npt.NDArray[np.int8], owners: npt.NDArray[np.int32], classes: int) -> Ints:
    """int64 [classes, 3]: distinct texts per class and split."""
    flat = np.bincount(owners.astype(np.int64) * 3 + sides, minlength=classes * 3)
    return flat.reshape(classes, 3).astype(np.int64)


def member(ids: Hashes, of: Hashes) -> npt.NDArray[np.bool_]:
    """Which ids stand in the sorted array `of`."""
    if len(of) == 0:
        return np.zeros(len(ids), dtype=np.bool_)
    places = np.minimum(np.searchsorted(of, ids), len(of) - 1)
    return np.asarray(of[places] == ids, dtype=np.bool_)
