"""Which rows are taken: the sample that a run is held to, and what an epoch draws of it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.balance import draw, sample, sampled
from tests.unit.balancing import COUNTS, per_class, tokens_of
from tests.unit.memory import STEADY

# The sample.


def test_a_fraction_of_each_class_is_rounded_half_up_and_leaves_a_row() -> None:
    found = sampled(0.1, np.array([400, 25, 24, 4, 1]))
    assert found.tolist() == [40, 3, 2, 1, 1]
    # 0.29 · 50 is 14.5; in binary fractions it is 14.499999999999998.
    assert sampled(0.29, np.array([50, 100])).tolist() == [15, 29]
    assert sampled(1.0, COUNTS).tolist() == COUNTS.tolist()
    assert sampled(0.5, np.array([0, 3])).tolist() == [0, 2]


def test_the_whole_is_no_sample() -> None:
    assert sample(tokens_of([5, 3]), np.array([5, 3])) is None


@STEADY
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
    st.lists(st.floats(0.01, 1), min_size=2, max_size=2).map(sorted),
    st.integers(1, 4),
)
def test_a_sample_is_exact_and_lies_within_every_larger_one(
    counts: list[int], fractions: list[float], same: int
) -> None:
    tokens = tokens_of(counts, shuffled=1)
    # Some texts stand in several rows.
    tokens.text_ids[:] = tokens.text_ids // np.uint64(7919 * same)
    masks = []
    for fraction in fractions:
        kept = sampled(fraction, np.array(counts))
        mask = sample(tokens, kept)
        masks.append(np.ones(len(tokens.labels), bool) if mask is None else mask)
        assert per_class(tokens, masks[-1], len(counts)) == kept.tolist()
    assert not (masks[0] & ~masks[1]).any()


@STEADY
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_sample_holds_the_same_texts_however_rows_lie(order: int, same: int) -> None:
    tokens = tokens_of([40, 25, 9], shuffled=3)
    tokens.text_ids[:] = tokens.text_ids // np.uint64(same)
    moved = tokens.in_order(np.random.default_rng(order).permutation(74).tolist(), [30, 44])
    found = []
    for rows in (tokens, moved):
        mask = sample(rows, np.array([10, 6, 2]))
        found.append(
            sorted(zip(rows.labels[mask].tolist(), rows.text_ids[mask].tolist(), strict=True))
        )
    assert found[0] == found[1]


def test_a_sample_is_no_draw_of_an_epoch() -> None:
    tokens = tokens_of([400])
    mask = sample(tokens, np.array([40]))
    for seed in (0, 1):
        drawn = draw(tokens, np.array([40]), seed=seed, epoch=0) > 0
        assert (mask & drawn).sum() < 16


# The draw.


@STEADY
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
    st.integers(0, 5),
    st.integers(0, 5),
    st.data(),
)
def test_a_draw_takes_exactly_the_rows_asked_for_and_each_as_often_as_others_of_its_class(
    counts: list[int], seed: int, epoch: int, data: st.DataObject
) -> None:
    wanted = np.array([data.draw(st.integers(0, 4 * count)) for count in counts])
    kept = np.array([data.draw(st.integers(1, count)) for count in counts])
    tokens = tokens_of(counts, shuffled=1)
    among = data.draw(st.sampled_from([None, sample(tokens, kept)]))
    copies = draw(tokens, wanted, seed=seed, epoch=epoch, among=among)
    if copies is None:
        assert among is None
        assert wanted.tolist() == counts
        return
    assert copies.shape == tokens.labels.shape
    assert per_class(tokens, copies, len(counts)) == wanted.tolist()
    taken = np.ones(len(copies), bool) if among is None else among
    assert copies[~taken].sum() == 0
    for label in range(len(counts)):
        of_class = copies[taken & (tokens.labels == label)]
        assert of_class.max() - of_class.min() <= 1


def test_where_all_rows_are_wanted_nothing_is_drawn() -> None:
    assert draw(tokens_of([5, 3]), np.array([5, 3]), seed=0, epoch=0) is None


def test_where_the_whole_sample_is_wanted_each_of_its_rows_is_taken_once() -> None:
    tokens = tokens_of([8, 4])
    mask = sample(tokens, np.array([4, 2]))
    copies = draw(tokens, np.array([4, 2]), seed=0, epoch=0, among=mask)
    assert copies.tolist() == mask.astype(int).tolist()


def test_each_epoch_draws_other_rows_and_the_rare_class_whole() -> None:
    tokens = tokens_of([400, 100, 20], shuffled=2)
    epochs = [draw(tokens, np.array([20, 20, 20]), seed=0, epoch=epoch) for epoch in range(60)]
    again = draw(tokens, np.array([20, 20, 20]), seed=0, epoch=1)
    assert (epochs[1] == again).all()
    common = [np.flatnonzero(e * (tokens.labels == 0)) for e in epochs]
    assert len(set(common[0]) & set(common[1])) < 8
    assert all((e[tokens.labels == 2] == 1).all() for e in epochs)
    # In the long run every row has its turn: 60 · 20 draws of 400 rows miss about one in twenty.
    assert len(set(np.concatenate(common).tolist())) > 360


def test_each_epoch_repeats_other_rows_once_more() -> None:
    tokens = tokens_of([100, 40])
    more = [
        frozenset(np.flatnonzero(draw(tokens, np.array([100, 100]), seed=0, epoch=e) == 3).tolist())
        for e in range(4)
    ]
    # 100 = 2 · 40 + 20.
    assert {len(rows) for rows in more} == {20}
    assert len(set(more)) == 4


def test_another_seed_draws_other_rows_in_every_epoch() -> None:
    tokens = tokens_of([300])
    draws = [
        frozenset(np.flatnonzero(draw(tokens, np.array([30]), seed=seed, epoch=epoch)).tolist())
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
    ]
    assert len(set(draws)) == 9


@STEADY
@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([(9, 9, 9), (40, 40, 40)]))
def test_the_same_texts_are_drawn_in_whatever_order_and_files_the_rows_lie(
    order: int, same: int, wanted: tuple[int, ...]
) -> None:
    tokens = tokens_of([40, 25, 9], shuffled=3)
    # Some texts stand in several rows, which a draw may part.
    tokens.text_ids[:] = tokens.text_ids // np.uint64(same)
    moved = tokens.in_order(np.random.default_rng(order).permutation(74).tolist(), [30, 44])
    found = []
    for rows in (tokens, moved):
        taken = np.repeat(np.arange(74), draw(rows, np.array(wanted), seed=1, epoch=2))
        found.append(
            sorted(zip(rows.labels[taken].tolist(), rows.text_ids[taken].tolist(), strict=True))
        )
    assert len(found[0]) == sum(wanted)
    assert found[0] == found[1]
