"""Settling texts: whose each is, on which given side it stands, what leaks, what is earlier."""

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given

from jobs.splits import FREE, TEST, TRAIN, VALIDATION, Texts, settle
from tests.unit.memory import STEADY
from tests.unit.splitting import TRIPLES, settled


@STEADY
@given(TRIPLES)
def test_a_text_belongs_to_its_most_frequent_class_and_ties_go_to_the_smallest(
    triples: list[tuple[int, int, int]],
) -> None:
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for text, label, rows in triples:
        votes[text * 0x9E3779B97F4A7C15 % 2**64][label] += rows
    found = settled(triples)
    assert found.ids.tolist() == sorted(votes)
    for text, owner, conflicting in zip(
        found.ids.tolist(), found.owners.tolist(), found.conflicting.tolist(), strict=True
    ):
        counted = votes[text]
        most = max(counted.values())
        assert owner == min(label for label, rows in counted.items() if rows == most)
        assert conflicting == (len(counted) > 1)


def test_a_majority_may_be_gathered_from_several_places() -> None:
    # Class 3 has two rows at once, class 1 three rows in three files.
    found = settled([(7, 3, 2), (7, 1, 1), (7, 1, 1), (8, 2, 5), (7, 1, 1), (9, 3, 2), (9, 0, 2)])
    owners = dict(zip(found.ids.tolist(), found.owners.tolist(), strict=True))
    golden = 0x9E3779B97F4A7C15
    assert [owners[text * golden % 2**64] for text in (7, 8, 9)] == [1, 2, 0]
    assert found.conflicting.sum() == 2


def test_no_triples_settle_to_no_texts() -> None:
    none = np.zeros(0)
    found = settle(none.astype(np.uint64), none.astype(np.int32), none.astype(np.int64))
    assert found.ids.shape == found.owners.shape == found.conflicting.shape == (0,)


def records(rows: list[tuple[int, int, int, int]]) -> Texts:
    """Texts from (text, class, rows, given side)."""
    ids, classes, counts, given_sides = zip(*rows, strict=True)
    return settle(
        np.array(ids, np.uint64),
        np.array(classes, np.int32),
        np.array(counts, np.int64),
        np.array(given_sides, np.int8),
    )


def test_a_text_stands_where_it_is_held_out_most_and_its_other_rows_are_leaks() -> None:
    found = records(
        [
            (1, 0, 5, FREE),
            (1, 0, 1, TEST),
            (2, 0, 1, VALIDATION),
            (2, 0, 1, TEST),
            (3, 1, 1, FREE),
            (4, 1, 2, VALIDATION),
        ]
    )
    assert found.ids.tolist() == [1, 2, 3, 4]
    assert found.given.tolist() == [TEST, TEST, FREE, VALIDATION]
    assert found.leaking.tolist() == [True, True, False, False]


def test_leaking_rows_have_no_say_in_whose_a_text_is() -> None:
    found = records([(1, 0, 5, FREE), (1, 2, 1, TEST), (2, 1, 1, FREE), (2, 0, 3, FREE)])
    assert found.owners.tolist() == [2, 0]
    assert found.conflicting.tolist() == [False, True]
    places, classes, counts = found.pairs
    assert list(zip(places, classes, counts, strict=True)) == [(1, 0, 3), (1, 1, 1)]


def test_earlier_data_is_remembered_but_adds_no_text_and_no_row() -> None:
    found = records([(1, 0, 2, FREE), (1, 0, 0, TEST), (2, 0, 1, FREE), (3, 0, 0, TRAIN)])
    assert found.ids.tolist() == [1, 2]
    assert found.earlier.tolist() == [TEST, FREE]
    assert found.given.tolist() == [FREE, FREE]
    assert not found.leaking.any()
    assert not found.conflicting.any()
