"""Balancing: a strategy and counts become numbers, and numbers become rows."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataError
from jobs.balance import (
    STRATEGIES,
    draw,
    histogram,
    idle,
    kept_whole,
    plan,
    sample,
    sampled,
)
from jobs.classifier.losses import cross_entropy_sum
from jobs.settings import Balance
from tests.unit.memory import STEADY, MemoryTokens, rows_of

COUNTS = np.array([400, 100, 20], dtype=np.int64)


def planned(counts: list[int], strategy: str, **settings: Any) -> Any:
    return plan(Balance(strategy=strategy, **settings), np.array(counts, dtype=np.int64))


def tokens_of(counts: list[int], *, shuffled: int | None = None) -> MemoryTokens:
    labels = np.repeat(np.arange(len(counts)), counts)
    if shuffled is not None:
        np.random.default_rng(shuffled).shuffle(labels)
    return rows_of([4] * len(labels), labels.tolist())


def per_class(tokens: MemoryTokens, copies: np.ndarray, classes: int) -> list[int]:
    return np.bincount(tokens.labels, weights=copies, minlength=classes).astype(int).tolist()


# The numbers of each strategy.


def test_nothing_is_changed_without_a_strategy() -> None:
    found = plan(Balance(strategy="none"), COUNTS)
    assert found.rows_per_class.tolist() == [400, 100, 20]
    assert found.rows == 520
    assert found.class_weights is None
    assert found.logit_offsets is None
    assert found.focal_gamma == 0
    assert found.prior.tolist() == pytest.approx([400 / 520, 100 / 520, 20 / 520])


def test_undersampling_cuts_every_class_to_the_rarest_and_weighs_none() -> None:
    found = plan(Balance(strategy="undersample"), COUNTS)
    assert found.rows_per_class.tolist() == [20, 20, 20]
    assert found.rows == 60
    assert found.class_weights is None
    assert found.prior.tolist() == pytest.approx([1 / 3] * 3)
    assert found.whole == ()
    assert found.redraw


def test_undersampling_to_a_multiple_of_the_rarest_is_exact() -> None:
    # 2.3 · 100 is 230; in binary fractions it is 229.99999999999997.
    found = planned([400, 100, 250, 231], "undersample", max_ratio=2.3)
    assert found.rows_per_class.tolist() == [230, 100, 230, 230]
    assert found.prior.tolist() == pytest.approx([23 / 79, 10 / 79, 23 / 79, 23 / 79])
    # 2.5 · 25 is 62.5, and a class may not have more.
    assert planned([99, 25], "undersample", max_ratio=2.5).rows_per_class.tolist() == [62, 25]


def test_undersampling_to_a_multiple_beyond_all_classes_leaves_them() -> None:
    found = planned([400, 100, 20], "undersample", max_ratio=1e300)
    assert found.rows_per_class.tolist() == [400, 100, 20]


def test_classes_under_min_rows_stay_whole_and_are_not_the_measure_for_others() -> None:
    found = planned([400, 3, 100, 19], "undersample")
    assert found.rows_per_class.tolist() == [100, 3, 100, 19]
    assert found.whole == (1, 3)
    assert found.prior.tolist() == pytest.approx([100 / 222, 3 / 222, 100 / 222, 19 / 222])
    lower = planned([400, 3, 100, 19], "undersample", min_rows=19)
    assert lower.rows_per_class.tolist() == [19, 3, 19, 19]
    assert lower.whole == (1,)


def test_where_all_classes_are_under_min_rows_the_rarest_is_the_measure() -> None:
    found = planned([12, 5, 3], "undersample")
    assert found.rows_per_class.tolist() == [3, 3, 3]
    assert found.whole == ()


def test_oversampling_lifts_every_class_to_the_largest() -> None:
    found = planned([400, 100, 3], "oversample")
    assert found.rows_per_class.tolist() == [400, 400, 400]
    assert found.prior.tolist() == pytest.approx([1 / 3] * 3)
    assert found.class_weights is None
    assert found.whole == ()


def test_oversampling_leaves_the_largest_at_most_max_ratio_times_another() -> None:
    # 400 / 3 is 133.3…; with 133 rows the largest would have more than three times as many.
    found = planned([400, 200, 20], "oversample", max_ratio=3)
    assert found.rows_per_class.tolist() == [400, 200, 134]
    assert found.prior.tolist() == pytest.approx([400 / 734, 200 / 734, 134 / 734])
    # 230 / 2.3 is 100 to the row.
    assert planned([230, 7], "oversample", max_ratio=2.3).rows_per_class.tolist() == [230, 100]


def test_class_weights_keep_every_row_and_weigh_a_class_by_its_inverse_frequency() -> None:
    found = plan(Balance(strategy="class-weights"), COUNTS)
    assert found.rows_per_class.tolist() == [400, 100, 20]
    assert found.class_weights is not None
    # N / (K · n_c) with N = 520 and K = 3.
    assert found.class_weights.tolist() == pytest.approx([520 / 1200, 520 / 300, 520 / 60])
    assert found.prior.tolist() == pytest.approx([1 / 3] * 3)


def test_class_weights_by_the_effective_number_of_samples() -> None:
    found = planned([1, 2, 3], "class-weights", beta=0.5)
    # Effective numbers 1, 3/2, 7/4; one over them 1, 2/3, 4/7; felt by 1, 2, 3 rows as 21/21,
    # 28/21, 36/21, together 85/21 where six rows of weight 1 make 6: all times 126/85.
    assert found.class_weights.tolist() == pytest.approx([126 / 85, 84 / 85, 72 / 85])
    assert found.prior.tolist() == pytest.approx([21 / 85, 28 / 85, 36 / 85])
    assert found.rows_per_class.tolist() == [1, 2, 3]


def test_the_effective_number_of_samples_lies_between_no_weights_and_inverse_frequency() -> None:
    counts = [10**7, 5000, 20]
    none = planned(counts, "class-weights", beta=1e-9).class_weights
    inverse = planned(counts, "class-weights", beta=1 - 1e-12).class_weights
    assert none.tolist() == pytest.approx([1, 1, 1])
    assert inverse.tolist() == pytest.approx(
        planned(counts, "class-weights").class_weights.tolist(), rel=1e-3
    )


def test_focal_keeps_every_row_and_has_no_prior() -> None:
    found = planned([400, 100, 20], "focal")
    assert found.rows_per_class.tolist() == [400, 100, 20]
    assert found.focal_gamma == 2
    assert found.prior is None
    assert planned([400, 100], "focal", gamma=0.5).focal_gamma == 0.5


@pytest.mark.parametrize(
    ("tau", "offsets", "prior"),
    [
        # Shares 1/2, 1/4, 1/4.
        (1, [-math.log(2), -math.log(4), -math.log(4)], [1 / 3, 1 / 3, 1 / 3]),
        (2, [-math.log(4), -math.log(16), -math.log(16)], [0.2, 0.4, 0.4]),
        (0.5, [-math.log(2) / 2, -math.log(2), -math.log(2)], [0.414214, 0.292893, 0.292893]),
        (0, [0, 0, 0], [0.5, 0.25, 0.25]),
    ],
)
def test_logit_adjustment_adds_the_log_of_the_shares_and_leaves_the_rest_of_the_prior(
    tau: float, offsets: list[float], prior: list[float]
) -> None:
    found = planned([80, 40, 40], "logit-adjustment", tau=tau)
    assert found.logit_offsets.tolist() == pytest.approx(offsets)
    assert found.prior.tolist() == pytest.approx(prior, abs=1e-6)
    assert found.rows_per_class.tolist() == [80, 40, 40]
    assert found.class_weights is None


def test_balanced_softmax_is_logit_adjustment_with_tau_one() -> None:
    alias, found = (planned([80, 40, 40], s) for s in ("balanced-softmax", "logit-adjustment"))
    assert alias.logit_offsets.tolist() == found.logit_offsets.tolist()
    assert alias.prior.tolist() == found.prior.tolist()


# What holds for several of them.


@STEADY
@given(
    st.lists(st.integers(1, 10**7), min_size=1, max_size=50),
    st.none() | st.floats(0.001, 0.9999999),
)
def test_weights_have_mean_one_over_rows(counts: list[int], beta: float | None) -> None:
    found = planned(counts, "class-weights", beta=beta)
    felt = found.class_weights * np.array(counts)
    assert felt.sum() / sum(counts) == pytest.approx(1)
    if beta is None:
        assert felt.tolist() == pytest.approx([sum(counts) / len(counts)] * len(counts))


@STEADY
@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=50),
    st.floats(1, 100),
    st.integers(1, 100),
)
def test_undersampling_holds_its_ratio_and_never_adds_a_row(
    counts: list[int], ratio: float, min_rows: int
) -> None:
    found = planned(counts, "undersample", max_ratio=ratio, min_rows=min_rows)
    rows = found.rows_per_class.tolist()
    small = {c for c, n in enumerate(counts) if n < min_rows}
    if len(small) == len(counts):
        small = set()
    assert set(found.whole) == small
    measure = min(n for c, n in enumerate(counts) if c not in small)
    for c, (there, taken) in enumerate(zip(counts, rows, strict=True)):
        assert taken <= there
        assert taken == there or (c not in small and measure <= taken <= ratio * measure)
        assert taken == there or taken + 1 > ratio * measure - 1e-6 * measure


@STEADY
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50), st.floats(1, 100))
def test_oversampling_holds_its_ratio_with_as_few_rows_as_it_can(
    counts: list[int], ratio: float
) -> None:
    rows = planned(counts, "oversample", max_ratio=ratio).rows_per_class.tolist()
    most = max(counts)
    for there, taken in zip(counts, rows, strict=True):
        assert there <= taken <= most
        assert taken * ratio >= most * (1 - 1e-9)
        assert taken == there or (taken - 1) * ratio < most * (1 + 1e-9)


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [
        ("none", {}),
        ("undersample", {"max_ratio": 1.5}),
        ("oversample", {"max_ratio": 2.5}),
        ("class-weights", {}),
        ("class-weights", {"beta": 0.98}),
        ("logit-adjustment", {"tau": 0.7}),
        ("balanced-softmax", {}),
    ],
)
def test_a_network_that_sees_no_text_comes_to_rest_at_the_prior(
    strategy: str, settings: dict[str, Any]
) -> None:
    """One row of logits for all texts: the loss of an epoch has no slope where it is log prior."""
    found = planned([90, 25, 40], strategy, **settings)
    labels = torch.from_numpy(np.repeat(np.arange(3), found.rows_per_class))
    logits = torch.from_numpy(np.log(found.prior)).float().requires_grad_()

    def number(values: np.ndarray | None) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(values).float()

    loss = cross_entropy_sum(
        logits.expand(len(labels), 3),
        labels,
        torch.ones(len(labels)),
        class_weights=number(found.class_weights),
        logit_offsets=number(found.logit_offsets),
        focal_gamma=found.focal_gamma,
    )
    loss.backward()
    assert logits.grad.abs().max() < 1e-4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_class_without_rows_is_an_error_under_every_strategy(strategy: str) -> None:
    with pytest.raises(DataError, match="2 labels have no training row"):
        planned([3, 0, 4, 0], strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_each_class_rows_and_shares_that_add_up(strategy: str) -> None:
    found = planned([400, 3, 100, 19], strategy)
    assert found.rows_per_class.dtype == np.int64
    assert found.rows_per_class.min() > 0
    assert found.prior is None or found.prior.sum() == pytest.approx(1)


def test_the_strategies_of_the_settings_are_those_that_have_a_plan() -> None:
    assert Balance.model_json_schema()["properties"]["strategy"]["enum"] == list(STRATEGIES)


@pytest.mark.parametrize(
    ("strategy", "useless"),
    [
        ("none", ["beta", "gamma", "max_ratio", "min_rows", "redraw", "tau"]),
        ("undersample", ["beta", "gamma", "tau"]),
        ("oversample", ["beta", "gamma", "min_rows", "tau"]),
        ("class-weights", ["gamma", "max_ratio", "min_rows", "redraw", "tau"]),
        ("focal", ["beta", "max_ratio", "min_rows", "redraw", "tau"]),
        ("logit-adjustment", ["beta", "gamma", "max_ratio", "min_rows", "redraw"]),
        ("balanced-softmax", ["beta", "gamma", "max_ratio", "min_rows", "redraw"]),
    ],
)
def test_keys_that_a_strategy_does_not_use_are_named_if_they_were_given(
    strategy: Any, useless: list[str]
) -> None:
    assert idle(Balance(strategy=strategy)) == []
    given = Balance(
        strategy=strategy, max_ratio=1, min_rows=20, redraw=True, beta=None, gamma=2, tau=1
    )
    assert idle(given) == useless


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


# For a person.


def test_the_histogram_shows_the_largest_class_first_with_what_is_kept() -> None:
    lines = histogram(
        ["rare", "common", "middle"], COUNTS[[2, 0, 1]], np.array([20, 20, 20])
    ).split("\n")
    assert [line.split()[0] for line in lines[1:]] == ["common", "middle", "rare"]
    assert [line.split()[1:3] for line in lines[1:]] == [["400", "20"], ["100", "20"], ["20", "20"]]
    assert [(line.count("█"), line.count("░")) for line in lines[1:]] == [(2, 38), (2, 8), (2, 0)]


def test_the_histogram_shows_what_is_repeated() -> None:
    lines = histogram(["common", "rare"], np.array([400, 20]), np.array([400, 200])).split("\n")
    marks = [(line.count("█"), line.count("░"), line.count("▓")) for line in lines[1:]]
    assert marks == [(40, 0, 0), (2, 0, 18)]


def test_small_classes_are_named() -> None:
    said = kept_whole(Balance(strategy="undersample"), ["legal", "tax"])
    assert said == "Under balance.min_rows (20), so kept whole: legal, tax"
