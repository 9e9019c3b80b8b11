"""A plan of balancing: a strategy and counts become rows of each class, weights, offsets, and the
prior that a model then learns."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataError
from jobs.balance import STRATEGIES, plan
from jobs.classifier.losses import cross_entropy_sum
from jobs.settings import Balance
from tests.unit.balancing import COUNTS, planned
from tests.unit.memory import STEADY

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
