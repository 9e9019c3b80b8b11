"""Texts that are all in one place, settled and split: what jobs.ranges does over a cluster."""

import numpy as np
from hypothesis import strategies as st

from jobs.classifier.text import salted
from jobs.selection import MOST_COUNTERS, MOST_MEMBERS, Wanted, count_bins, members, select
from jobs.splits import (
    FREE,
    Cuts,
    Hashes,
    Sides,
    Texts,
    choose_cuts,
    settle,
)

CLASSES = 4
# Triples as preparation gathers them: a text, the class that it stands under, in how many rows.
TRIPLES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, CLASSES - 1), st.integers(1, 4)),
    min_size=1,
    max_size=80,
)


def settled(triples: list[tuple[int, int, int]]) -> Texts:
    ids, classes, rows = zip(*triples, strict=True)
    return settle(
        np.array(ids, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15),
        np.array(classes, dtype=np.int32),
        np.array(rows, dtype=np.int64),
    )


def cut(
    texts: Texts,
    classes: int,
    *,
    validation: float,
    test: float,
    seed: int,
    most_counters: int = MOST_COUNTERS,
    most_members: int = MOST_MEMBERS,
) -> Cuts:
    """The cuts that give every class its quotas."""
    free = (texts.given == FREE) & (texts.earlier == FREE)
    order, owners = salted(texts.ids[free], seed), texts.owners[free]

    def find(wanted: Wanted) -> Hashes:
        return select(
            wanted,
            lambda now, more: count_bins(now, more, order, owners),
            lambda now: members(now, order, owners),
            most_counters=most_counters,
            most_members=most_members,
        )

    counts = np.bincount(owners, minlength=classes)
    return choose_cuts(counts, find, validation=validation, test=test)


def sides(texts: Texts, cuts: Cuts, seed: int) -> Sides:
    """The side of each text, by the cuts alone."""
    return cuts.sides(salted(texts.ids, seed), texts.owners)
