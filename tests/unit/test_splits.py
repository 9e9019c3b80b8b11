"""The split: exact quotas, no text on two sides, and nothing depends on order."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.classifier.text import salted
from jobs.selection import Wanted, count_bins, members, select
from jobs.splits import TEST, TRAIN, VALIDATION, Cuts, Texts, place_of, quota, table
from tests.unit.memory import STEADY
from tests.unit.splitting import CLASSES, TRIPLES, cut, settled, sides

# Shares in whole per cent, which leave something to train on.
SHARES = st.tuples(st.integers(0, 99), st.integers(0, 99)).filter(lambda s: sum(s) < 100)


def split(texts: Texts, validation: float, test: float, seed: int = 0) -> dict[int, int]:
    """Text id → side."""
    cuts = cut(texts, CLASSES, validation=validation, test=test, seed=seed)
    return dict(zip(texts.ids.tolist(), sides(texts, cuts, seed).tolist(), strict=True))


def rounded(texts: int, validation: int, test: int) -> list[int]:
    """The largest-remainder rounding in exact fractions: [train, validation, test]."""
    shares = [Fraction(100 - validation - test, 100), Fraction(validation, 100)]
    shares.append(Fraction(test, 100))
    whole = [int(share * texts) for share in shares]
    rest = [share * texts - count for share, count in zip(shares, whole, strict=True)]
    for k in sorted((0, 1, 2), key=lambda k: (-rest[k], k))[: texts - sum(whole)]:
        whole[k] += 1
    return whole


@settings(STEADY, max_examples=1000)
@given(st.integers(1, 5000), SHARES)
def test_quotas_are_the_rounded_shares_unless_a_floor_lifts_one(
    texts: int, shares: tuple[int, int]
) -> None:
    validation, test = quota(texts, shares[0] / 100, shares[1] / 100)
    found = [texts - validation - test, validation, test]
    expected = rounded(texts, *shares)
    needed = [True, shares[0] > 0 and texts >= 3, shares[1] > 0 and texts >= 3]
    lacking = [k for k in range(3) if needed[k] and expected[k] == 0]
    if not lacking:
        assert found == expected
        return
    assert all(found[k] == 1 for k in lacking)
    assert sum(abs(a - b) for a, b in zip(found, expected, strict=True)) == 2 * len(lacking)


@STEADY
@given(st.integers(1, 5000), SHARES)
def test_a_class_keeps_a_text_to_train_on_and_three_texts_reach_every_split(
    texts: int, shares: tuple[int, int]
) -> None:
    validation, test = quota(texts, shares[0] / 100, shares[1] / 100)
    assert validation >= 0
    assert test >= 0
    assert texts - validation - test >= 1
    for found, share in zip((validation, test), shares, strict=True):
        assert found == 0 or share > 0
        assert found > 0 or share == 0 or texts < 3


@pytest.mark.parametrize(
    ("texts", "validation", "test", "expected"),
    [
        (1, 0.1, 0.1, (0, 0)),
        (1, 0.45, 0.45, (0, 0)),
        (2, 0.1, 0.1, (0, 0)),
        (2, 0.45, 0.45, (0, 1)),  # of two equal, validation gives up its text
        (2, 0.3, 0.5, (0, 1)),
        (3, 0.1, 0.1, (1, 1)),
        (3, 0.5, 0.49, (1, 1)),
        (3, 0.1, 0.0, (1, 0)),
        (3, 0.0, 0.1, (0, 1)),
        (4, 0.1, 0.1, (1, 1)),
        (10, 0.1, 0.1, (1, 1)),
        (15, 0.1, 0.1, (2, 1)),
        (25, 0.1, 0.1, (3, 2)),
        (30, 0.1, 0.1, (3, 3)),
        (101, 0.32, 0.34, (32, 34)),  # 34.34 to train and to test: a tie that training wins
        (101, 0.4, 0.2, (40, 20)),
        (1000, 0.1, 0.1, (100, 100)),
        (1000, 0.0, 0.0, (0, 0)),
        (1000, 0.6, 0.3, (600, 300)),
        (10_000_000, 0.1, 0.2, (1_000_000, 2_000_000)),
        # Of very many texts too the remainders decide: .6, .3 and .1; .5, .25 and .25.
        (11_111_111_111, 0.3, 0.1, (3_333_333_333, 1_111_111_111)),
        (99_999_999_995, 0.15, 0.15, (14_999_999_999, 14_999_999_999)),
    ],
)
def test_quotas_worked_out_by_hand(
    texts: int, validation: float, test: float, expected: tuple[int, int]
) -> None:
    assert quota(texts, validation, test) == expected


@STEADY
@given(TRIPLES, SHARES, st.integers(0, 3))
def test_every_class_gets_exactly_its_quotas(
    triples: list[tuple[int, int, int]], shares: tuple[int, int], seed: int
) -> None:
    validation, test = shares[0] / 100, shares[1] / 100
    texts = settled(triples)
    cuts = cut(texts, CLASSES, validation=validation, test=test, seed=seed)
    counted = table(sides(texts, cuts, seed), texts.owners, CLASSES)
    assert counted.shape == (CLASSES, 3)
    assert counted.sum() == len(texts.ids)
    for label in range(CLASSES):
        count = int((texts.owners == label).sum())
        expected = quota(count, validation, test) if count else (0, 0)
        assert tuple(counted[label, [VALIDATION, TEST]]) == expected
        assert counted[label, TRAIN] == count - sum(expected)


@STEADY
@given(TRIPLES, SHARES, st.randoms(use_true_random=False))
def test_no_order_and_no_cutting_into_files_changes_a_side(
    triples: list[tuple[int, int, int]], shares: tuple[int, int], random
) -> None:
    validation, test = shares[0] / 100, shares[1] / 100
    # Every row a triple of its own, as if each stood in another file.
    single = [(text, label, 1) for text, label, rows in triples for _ in range(rows)]
    random.shuffle(single)
    assert split(settled(single), validation, test) == split(settled(triples), validation, test)


@STEADY
@given(TRIPLES, SHARES)
def test_a_text_stands_on_one_side_under_whatever_label_its_rows_are(
    triples: list[tuple[int, int, int]], shares: tuple[int, int]
) -> None:
    texts = settled(triples)
    found = split(texts, shares[0] / 100, shares[1] / 100)
    assert len(set(texts.ids.tolist())) == len(texts.ids) == len({text for text, _, _ in triples})
    # Rows look their text's owner up and ask again, one by one, in any order.
    cuts = cut(texts, CLASSES, validation=shares[0] / 100, test=shares[1] / 100, seed=0)
    for text, owner in reversed(list(zip(texts.ids, texts.owners, strict=True))):
        again = cuts.sides(salted(np.array([text]), 0), np.array([owner]))
        assert again.dtype == np.int8
        assert again.tolist() == [found[int(text)]]


def thousand(per_class: int = 250) -> Texts:
    return settled([(text, text % CLASSES, 1) for text in range(per_class * CLASSES)])


def test_another_seed_draws_other_texts_in_the_same_numbers() -> None:
    texts = thousand()
    first, second = (split(texts, 0.1, 0.1, seed) for seed in (0, 1))
    assert (
        Counter(first.values())
        == Counter(second.values())
        == {
            TRAIN: 800,
            VALIDATION: 100,
            TEST: 100,
        }
    )
    both = [text for text in first if first[text] == TEST == second[text]]
    assert len(both) < 30


def test_the_test_rows_stay_when_only_the_share_of_validation_changes() -> None:
    texts = thousand()
    first, second = split(texts, 0.1, 0.1), split(texts, 0.2, 0.1)
    assert {t for t in first if first[t] == TEST} == {t for t in second if second[t] == TEST}


def test_new_texts_move_few_old_ones() -> None:
    before, after = split(thousand(), 0.1, 0.1), split(thousand(260), 0.1, 0.1)
    assert sum(after[text] != side for text, side in before.items()) < 50


def test_classes_without_texts_have_cuts_that_take_nothing() -> None:
    texts = settled([(1, 2, 1), (2, 2, 1), (3, 2, 1)])
    cuts = cut(texts, CLASSES, validation=0.1, test=0.1, seed=0)
    assert cuts.test[[0, 1, 3]].tolist() == cuts.validation[[0, 1, 3]].tolist() == [0, 0, 0]
    other = Cuts(cuts.test, cuts.validation).sides(
        np.array([5], dtype=np.uint64), np.array([0], dtype=np.int32)
    )
    assert other.tolist() == [TRAIN]


@STEADY
@given(st.lists(st.integers(0, 30)), st.lists(st.integers(0, 30), unique=True))
def test_places_are_those_in_the_sorted_array(ids: list[int], of: list[int]) -> None:
    among = sorted(of)
    found = place_of(np.array(ids, dtype=np.uint64), np.array(among, dtype=np.uint64))
    assert found.tolist() == [among.index(text) if text in among else -1 for text in ids]


@settings(STEADY, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(2, 64),
    st.integers(1, 8),
    st.data(),
)
def test_a_selection_finds_what_sorting_finds_however_little_it_may_hold(
    texts: list[tuple[int, int]], counters: int, most: int, data: st.DataObject
) -> None:
    # Also hashes that share all but their last bits: the deepest way down.
    shared = data.draw(st.booleans())
    order = np.array([v >> 58 if shared else v for v, _ in texts], np.uint64)
    owners = np.array([c for _, c in texts], np.int32)
    ranked = {c: np.sort(order[owners == c]) for c in set(owners.tolist())}
    targets = [(c, data.draw(st.integers(0, len(ranked[c]) - 1))) for c in sorted(ranked)] * 2
    classes, ranks = np.array(targets, np.int64).T
    found = select(
        Wanted(classes, ranks, np.zeros(len(targets), np.uint64)),
        lambda now, more: count_bins(now, more, order, owners),
        lambda now: members(now, order, owners),
        most_counters=counters,
        most_members=most,
    )
    assert found.tolist() == [int(ranked[c][rank]) for c, rank in targets]


def test_nothing_wanted_is_nothing_found() -> None:
    none = np.zeros(0, np.int64)

    def never(*_: object) -> None:
        raise AssertionError("no text has to be looked at")

    assert select(Wanted(none, none, none.astype(np.uint64)), never, never).shape == (0,)


def test_a_class_that_trains_whole_has_cuts_that_let_nothing_in() -> None:
    from jobs.splits import choose_cuts

    def find(wanted: Wanted) -> np.ndarray:
        assert set(wanted.classes.tolist()) == {1}
        return np.arange(len(wanted.ranks), dtype=np.uint64) + 7

    cuts = choose_cuts(
        np.array([100, 100]), find, validation=0.1, test=0.1, whole=np.array([True, False])
    )
    assert cuts.test.tolist() == [0, 7]
    assert cuts.validation.tolist() == [0, 8]
