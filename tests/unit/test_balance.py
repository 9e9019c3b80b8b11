"""Balancing: a strategy and counts become numbers, and numbers become rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataError
from jobs.balance import draw, histogram, plan
from jobs.settings import Balance
from tests.unit.memory import STEADY, MemoryTokens, rows_of

COUNTS = np.array([400, 100, 20], dtype=np.int64)


def tokens_of(counts: list[int], *, shuffled: int | None = None) -> MemoryTokens:
    labels = np.repeat(np.arange(len(counts)), counts)
    if shuffled is not None:
        np.random.default_rng(shuffled).shuffle(labels)
    return rows_of([4] * len(labels), labels.tolist())


def test_nothing_is_changed_without_a_strategy() -> None:
    found = plan(Balance(strategy="none"), COUNTS)
    assert found.rows_per_class.tolist() == [400, 100, 20]
    assert found.rows == 520
    assert found.class_weights is None
    assert found.prior.tolist() == pytest.approx([400 / 520, 100 / 520, 20 / 520])


def test_undersampling_cuts_every_class_to_the_rarest_and_weighs_none() -> None:
    found = plan(Balance(strategy="undersample"), COUNTS)
    assert found.rows_per_class.tolist() == [20, 20, 20]
    assert found.rows == 60
    assert found.class_weights is None
    assert found.prior.tolist() == pytest.approx([1 / 3] * 3)


def test_class_weights_keep_every_row_and_weigh_a_class_by_its_inverse_frequency() -> None:
    found = plan(Balance(strategy="class-weights"), COUNTS)
    assert found.rows_per_class.tolist() == [400, 100, 20]
    assert found.class_weights is not None
    # N / (K · n_c) with N = 520 and K = 3.
    assert found.class_weights.tolist() == pytest.approx([520 / 1200, 520 / 300, 520 / 60])
    assert found.prior.tolist() == pytest.approx([1 / 3] * 3)


@STEADY
@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=50))
def test_weights_have_mean_one_over_rows_and_give_every_class_the_same_say(
    counts: list[int],
) -> None:
    found = plan(Balance(strategy="class-weights"), np.array(counts, dtype=np.int64))
    assert found.class_weights is not None
    said = found.class_weights * np.array(counts)
    assert said.sum() / sum(counts) == pytest.approx(1)
    assert said.tolist() == pytest.approx([sum(counts) / len(counts)] * len(counts))


@STEADY
@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=50),
    st.sampled_from(["none", "undersample", "class-weights"]),
)
def test_the_prior_is_the_share_of_each_class_in_the_loss(counts: list[int], strategy) -> None:
    found = plan(Balance(strategy=strategy), np.array(counts, dtype=np.int64))
    weights = 1.0 if found.class_weights is None else found.class_weights
    said = found.rows_per_class * weights
    assert found.prior.tolist() == pytest.approx((said / said.sum()).tolist())


@pytest.mark.parametrize("strategy", ["none", "undersample", "class-weights"])
def test_a_class_without_rows_is_an_error_under_every_strategy(strategy) -> None:
    with pytest.raises(DataError, match="2 labels have no training row"):
        plan(Balance(strategy=strategy), np.array([3, 0, 4, 0]))


@STEADY
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
    st.integers(0, 5),
    st.integers(0, 5),
    st.data(),
)
def test_a_draw_holds_exactly_the_rows_asked_for_in_each_class(
    counts: list[int], seed: int, epoch: int, data: st.DataObject
) -> None:
    wanted = np.array([data.draw(st.integers(0, count)) for count in counts])
    tokens = tokens_of(counts, shuffled=1)
    drawn = draw(tokens, wanted, seed=seed, epoch=epoch)
    if drawn is None:
        assert wanted.tolist() == counts
        return
    assert drawn.dtype == np.bool_
    assert drawn.shape == tokens.labels.shape
    assert np.bincount(tokens.labels[drawn], minlength=len(counts)).tolist() == wanted.tolist()


def test_where_all_rows_are_wanted_nothing_is_drawn() -> None:
    assert draw(tokens_of([5, 3]), np.array([5, 3]), seed=0, epoch=0) is None


def test_each_epoch_draws_other_rows_and_the_rare_class_whole() -> None:
    tokens = tokens_of([400, 100, 20], shuffled=2)
    epochs = [draw(tokens, np.array([20, 20, 20]), seed=0, epoch=epoch) for epoch in range(60)]
    again = draw(tokens, np.array([20, 20, 20]), seed=0, epoch=1)
    assert (epochs[1] == again).all()
    common = [np.flatnonzero(e & (tokens.labels == 0)) for e in epochs]
    assert len(set(common[0]) & set(common[1])) < 8
    assert all(e[tokens.labels == 2].all() for e in epochs)
    # In the long run every row has its turn: 60 · 20 draws of 400 rows miss about one in twenty.
    assert len(set(np.concatenate(common).tolist())) > 360


def test_another_seed_draws_other_rows_in_every_epoch() -> None:
    tokens = tokens_of([300])
    draws = [
        frozenset(np.flatnonzero(draw(tokens, np.array([30]), seed=seed, epoch=epoch)).tolist())
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
    ]
    assert len(set(draws)) == 9


@STEADY
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_the_same_texts_are_drawn_in_whatever_order_and_files_the_rows_lie(
    order: int, copies: int
) -> None:
    tokens = tokens_of([40, 25, 9], shuffled=3)
    # Some texts stand in several rows, which a draw may part.
    tokens.text_ids[:] = tokens.text_ids // np.uint64(copies)
    moved = tokens.in_order(np.random.default_rng(order).permutation(74).tolist(), [30, 44])
    found = []
    for rows in (tokens, moved):
        drawn = draw(rows, np.array([9, 9, 9]), seed=1, epoch=2)
        found.append(
            sorted(zip(rows.labels[drawn].tolist(), rows.text_ids[drawn].tolist(), strict=True))
        )
    assert len(found[0]) == 27
    assert found[0] == found[1]


def test_the_histogram_shows_the_largest_class_first_with_what_is_kept() -> None:
    lines = histogram(
        ["rare", "common", "middle"], COUNTS[[2, 0, 1]], np.array([20, 20, 20])
    ).split("\n")
    assert [line.split()[0] for line in lines[1:]] == ["common", "middle", "rare"]
    assert [line.split()[1:3] for line in lines[1:]] == [["400", "20"], ["100", "20"], ["20", "20"]]
    assert [(line.count("█"), line.count("░")) for line in lines[1:]] == [(2, 38), (2, 8), (2, 0)]
