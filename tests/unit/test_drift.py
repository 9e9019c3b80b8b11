"""Drift of the label mix: silent under chance, loud under a shift, whatever classes and window."""

import numpy as np
import pytest

from serve import drift
from serve.drift import ALARM, MIN_ANSWERS, DriftWindow, distance, expected_distance

DRAWS = 2000
PRIORS = {
    "two equal classes": np.full(2, 0.5),
    "77 equal classes": np.full(77, 1 / 77),
    "1,000 equal classes": np.full(1000, 1 / 1000),
    "a long tail of 300": 1 / np.arange(1, 301) / (1 / np.arange(1, 301)).sum(),
    "one class and a trace of another": np.array([0.9999, 0.0001]),
    "a class that never occurs": np.array([0.7, 0.3, 0.0]),
}


def excesses(drawn_from: np.ndarray, prior: np.ndarray, answers: int) -> np.ndarray:
    """The excess of many windows that are drawn independently."""
    counts = np.random.default_rng(0).multinomial(answers, drawn_from, size=DRAWS)
    chance = expected_distance(prior, answers)
    return np.array([distance(row, prior) - chance for row in counts])


@pytest.mark.parametrize("answers", [MIN_ANSWERS, drift.WINDOW])
@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_chance_alone_is_zero_on_average_and_alarms_less_than_once_in_a_hundred(
    prior: np.ndarray, answers: int
) -> None:
    found = excesses(prior, prior, answers)
    assert abs(found.mean()) < 5 * found.std() / np.sqrt(DRAWS) + 1e-12
    assert (found > ALARM).mean() < 0.01


@pytest.mark.parametrize("classes", [2, 77, 300])
def test_a_flood_of_one_label_alarms_in_a_full_window(classes: int) -> None:
    prior = np.full(classes, 1 / classes)
    flooded = 0.7 * prior
    flooded[0] += 0.3
    assert (excesses(flooded, prior, drift.WINDOW) > ALARM).mean() > 0.99


def test_labels_that_swap_their_shares_alarm() -> None:
    prior = PRIORS["a long tail of 300"]
    assert (excesses(prior[::-1], prior, MIN_ANSWERS) > ALARM).all()


def test_the_expected_distance_is_the_exact_mean_where_every_outcome_can_be_counted() -> None:
    # Two classes at 0.5 and two answers: 0.5 apart with probability a half, else equal.
    assert expected_distance(np.array([0.5, 0.5]), 2) == pytest.approx(0.25)
    # A third and two thirds, one answer: 2/3 apart once in three, 1/3 apart twice in three.
    assert expected_distance(np.array([1 / 3, 2 / 3]), 1) == pytest.approx(4 / 9)


def test_classes_that_are_certain_or_impossible_add_nothing() -> None:
    assert expected_distance(np.array([1.0, 0.0]), 100) == 0.0


def test_a_window_says_nothing_before_it_has_answers_enough() -> None:
    window = DriftWindow([0.5, 0.5])
    assert window.excess() is None
    window.add([0, 1] * (MIN_ANSWERS // 2 - 1))
    assert window.excess() is None
    window.add([0, 1])
    assert window.excess() == pytest.approx(-expected_distance(window.prior, MIN_ANSWERS))


@pytest.mark.parametrize("step", [1, 7, 300, 999, 1000, 2500])
def test_a_window_holds_the_last_answers_however_they_come(step: int) -> None:
    prior = np.array([0.2, 0.3, 0.5])
    drawn = np.random.default_rng(1).choice(3, size=5000, p=[0.6, 0.3, 0.1])
    window = DriftWindow(prior.tolist(), size=1000)
    for begin in range(0, len(drawn), step):
        window.add(drawn[begin : begin + step])
    last = np.bincount(drawn[-1000:], minlength=3)
    assert window.answers == 1000
    assert window.excess() == pytest.approx(
        distance(last, prior) - expected_distance(prior, 1000), abs=1e-12
    )


def test_a_shift_that_has_passed_is_forgotten() -> None:
    window = DriftWindow([0.5, 0.5], size=500)
    window.add([0] * 500)
    flooded = window.excess()
    assert flooded is not None
    assert flooded > ALARM
    window.add([0, 1] * 250)
    calm = window.excess()
    assert calm is not None
    assert calm < 0


def test_a_prior_that_is_given_as_counts_is_scaled() -> None:
    assert DriftWindow([30, 10]).prior.tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    "prior", [[], [0.0, 0.0], [1.5, -0.5], [float("nan"), 1.0], [float("inf"), 1.0]]
)
def test_a_prior_that_is_none_is_refused(prior: list[float]) -> None:
    with pytest.raises(ValueError, match="natural prior"):
        DriftWindow(prior)


def test_a_window_too_small_to_mean_anything_is_refused() -> None:
    with pytest.raises(ValueError, match=f"249 answers.*at least {MIN_ANSWERS}"):
        DriftWindow([0.5, 0.5], size=MIN_ANSWERS - 1)
