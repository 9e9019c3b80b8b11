"""Paired tests, against scipy and by hand; honest about chance and about many classes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest

from jobs import comparison, printed

NAMES = ["a", "b", "c"]
RARE = np.array([False, False, True])


def masks(only_this: int, only_other: int, both: int = 5) -> tuple[Any, Any]:
    this = [True] * only_this + [False] * only_other + [True] * both + [False]
    other = [False] * only_this + [True] * only_other + [True] * both + [False]
    return np.array(this), np.array(other)


def rows(*cells: tuple[int, int, int, int]) -> tuple[npt.NDArray[np.int64], ...]:
    """(truth, ours, theirs, how many) → three columns."""
    table = np.array([cell[:3] for cell in cells for _ in range(cell[3])], np.int64)
    truth, ours, theirs = table.T
    return truth, ours, theirs


def compare(*cells: tuple[int, int, int, int]) -> dict[str, Any]:
    truth, ours, theirs = rows(*cells)
    return comparison.compare(truth, ours, theirs, NAMES, RARE)


@pytest.mark.parametrize(
    ("only_this", "only_other"), [(41, 20), (0, 1), (6, 0), (3, 3), (9, 2), (500, 430), (0, 3000)]
)
def test_mcnemar_is_the_exact_binomial_test_of_scipy(only_this: int, only_other: int) -> None:
    found = comparison.mcnemar(*masks(only_this, only_other))
    expected = binomtest(only_this, only_this + only_other, 0.5).pvalue
    assert found["p_value"] == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert (found["only_this_right"], found["only_other_right"]) == (only_this, only_other)


def test_mcnemar_is_worked_out_by_hand() -> None:
    # 5 to 1: 2 · (1 + 6) / 2⁶
    assert comparison.mcnemar(*masks(5, 1))["p_value"] == pytest.approx(14 / 64)


def test_rows_on_which_both_are_right_say_nothing() -> None:
    few, many = (comparison.mcnemar(*masks(9, 2, both))["p_value"] for both in (0, 1000))
    assert few == many
    assert comparison.mcnemar(*masks(0, 0))["p_value"] == 1.0


def test_of_a_million_rows_a_p_value_is_still_exact() -> None:
    found = comparison.exact_p(np.array([500_900]), np.array([499_100]))[0]
    expected = binomtest(500_900, 1_000_000, 0.5).pvalue
    assert found == pytest.approx(expected, rel=1e-6)


def test_holm_multiplies_the_smallest_most_and_never_swaps_their_order() -> None:
    found = comparison.holm(np.array([0.04, 0.01, 0.03, 0.5]))
    assert found == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert comparison.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert len(comparison.holm(np.zeros(0))) == 0


def test_without_a_true_difference_few_comparisons_find_a_class() -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(300):
        heads = rng.binomial(40, 0.5, 30)
        adjusted = comparison.holm(comparison.exact_p(heads, 40 - heads))
        alarms += bool((adjusted < comparison.ALPHA).any())
    assert alarms / 300 <= 0.05


def test_the_same_answers_differ_in_nothing() -> None:
    found = compare((0, 0, 0, 9), (1, 0, 0, 3), (2, 2, 2, 4))
    assert found["mcnemar"] == {"only_this_right": 0, "only_other_right": 0, "p_value": 1.0}
    assert found["difference"]["macro_f1"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert comparison.gained(found) == comparison.lost(found) == []
    assert {row["p_value"] for row in found["classes"]} == {1.0}
    assert comparison.sentence(found["mcnemar"]).endswith("right and wrong on the same rows.")


def test_classes_gained_and_lost_are_counted_by_hand() -> None:
    found = compare(
        (0, 0, 0, 10), (0, 0, 1, 8), (1, 1, 1, 6), (1, 0, 1, 3), (2, 2, 2, 1), (2, 0, 0, 1)
    )  # fmt: skip
    assert found["rows"] == 29
    assert found["accuracy"] == pytest.approx(20 / 29)
    assert found["difference"]["accuracy"]["value"] == pytest.approx(5 / 29)
    assert found["mcnemar"]["only_this_right"] == 8
    assert found["mcnemar"]["only_other_right"] == 3
    assert found["classes_tested"] == 3
    best, same, worst = found["classes"]
    assert (best["label"], same["label"], worst["label"]) == ("a", "c", "b")
    assert best["recall_difference"] == pytest.approx(8 / 18)
    assert (best["support"], best["only_this_right"], best["only_other_right"]) == (18, 8, 0)
    assert best["p_value"] == pytest.approx(2 / 2**8)
    assert best["p_adjusted"] == pytest.approx(3 * 2 / 2**8)
    assert best["f1"] == pytest.approx(2 * 18 / (18 + 22))
    assert worst["recall_difference"] == pytest.approx(-3 / 9)
    assert worst["p_value"] == pytest.approx(0.25)
    assert [row["label"] for row in comparison.gained(found)] == ["a"]
    assert [row["label"] for row in comparison.lost(found)] == ["b"]


def test_the_surest_gain_comes_first_and_the_surest_loss_last() -> None:
    names = [f"team {k}" for k in range(6)]
    # By class: rows that only this bundle has right, and that only the other has.
    moves = [(1, 0), (9, 1), (0, 7), (2, 2), (0, 1), (4, 0)]
    truth, ours, theirs = rows(
        *(
            cell
            for c, (up, down) in enumerate(moves)
            for cell in ((c, c, (c + 1) % 6, up), (c, (c + 1) % 6, c, down), (c, c, c, 20))
        )
    )
    found = comparison.compare(truth, ours, theirs, names, np.ones(6, np.bool_))
    order = [int(row["label"][-1]) for row in found["classes"]]
    assert order == [1, 5, 0, 3, 4, 2]
    assert [row["label"] for row in comparison.lost(found)] == ["team 2", "team 4"]


def test_an_answer_that_is_no_class_is_wrong_and_no_class_of_its_own() -> None:
    found = compare((0, 0, 3, 5), (1, 1, 1, 5))
    assert found["accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx((0 + 1) / 2)
    assert found["balanced_accuracy"] == 0.5
    assert {row["label"] for row in found["classes"]} == {"a", "b"}


def test_the_sentence_says_whether_chance_may_do_that() -> None:
    told = comparison.sentence(comparison.mcnemar(*masks(41, 20)))
    assert told == (
        "This bundle is right on 41 rows where the other is wrong, and wrong on 20 where it is "
        "right: p = 0.010, beyond chance at 5%."
    )
    told = comparison.sentence(comparison.mcnemar(*masks(1, 0)))
    assert "right on 1 row where" in told
    assert "p = 1.000, no more than chance may do, at 5%" in told
    assert "p < 0.001" in comparison.sentence(comparison.mcnemar(*masks(2000, 0)))


def test_what_is_printed_names_the_classes_and_what_the_other_does_not_know() -> None:
    found = {"bundle": "/runs/old/bundle"} | compare((0, 0, 1, 12), (1, 1, 1, 6), (1, 0, 1, 3))
    found |= {"unknown_labels": ["b"], "unknown_rows": 9, "unanswered_rows": 1}
    mine = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 0.5)
    lines = printed.against(found, mine).split("\n")
    assert lines[0] == "Against /runs/old/bundle"
    assert any(line.startswith("accuracy: 0.5000 here, 0.4286 there") for line in lines)
    assert any("does not know 1 label of these rows (b): their 9 rows count" in s for s in lines)
    assert any("found no text in 1 row" in line for line in lines)
    assert "Of 2 classes tested together, 1 differs beyond chance at 5% (Holm)." in lines
    gained = lines[lines.index("Gained most surely (1 of 1 class):") + 1]
    assert "recall 0.000 → 1.000" in gained
    assert gained.endswith("12 rows: p < 0.001, of 2 classes p < 0.001, beyond chance")
    assert lines[-1].endswith("9 rows: p = 0.250, of 2 classes p = 0.250")


def test_an_answer_of_either_that_is_none_of_the_classes_is_wrong_and_no_class_of_its_own() -> None:
    truth = np.array([0, 0, 1, 1])
    ours, theirs = np.array([0, 2, 1, 1]), np.array([0, 0, 1, 2])
    none = np.zeros(2, np.bool_)
    found = comparison.compare(truth, ours, theirs, ["a", "b"], none)
    f1 = {row["label"]: (row["f1"], row["other_f1"]) for row in found["classes"]}
    assert f1 == {"a": (pytest.approx(2 / 3), 1.0), "b": (1.0, pytest.approx(2 / 3))}
    assert found["difference"]["macro_f1"]["value"] == pytest.approx(0.0)
    assert found["mcnemar"] == {"only_this_right": 1, "only_other_right": 1, "p_value": 1.0}
