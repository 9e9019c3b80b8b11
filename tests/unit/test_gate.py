"""The gate on answers that were made up: what it lets pass, what it refuses, and what it says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from jobs import comparison, evaluation
from tuning import checks, gate
from tuning.checks import Check, Limits

# Class → (rows, rows that both get right, only the candidate, only the champion).
Answers = Mapping[str, tuple[int, int, int, int]]
EQUAL: Answers = {"mail": (200, 180, 6, 6), "network": (100, 85, 4, 4), "rare": (20, 14, 2, 2)}


def rows_of(answers: Answers) -> tuple[Any, Any, Any]:
    """(truth, candidate, champion) as class ids; a wrong answer is the next class."""
    truth, ours, theirs = [], [], []
    for c, (rows, both, ours_alone, theirs_alone) in enumerate(answers.values()):
        right = [(True, True)] * both + [(True, False)] * ours_alone
        right += [(False, True)] * theirs_alone
        right += [(False, False)] * (rows - len(right))
        wrong = (c + 1) % len(answers)
        truth += [c] * rows
        ours += [c if mine else wrong for mine, _ in right]
        theirs += [c if its else wrong for _, its in right]
    return np.array(truth), np.array(ours), np.array(theirs)


def judged(
    answers: Answers,
    *,
    score: float = 0.9,
    rare: Sequence[str] = ("rare",),
    limits: Limits | None = None,
    **other: Any,
) -> gate.Verdict:
    """The verdict on a candidate whose scores all say `score`."""
    truth, ours, theirs = rows_of(answers)
    names = list(answers)
    is_rare = np.array([name in rare for name in names])
    compared = {
        **comparison.compare(truth, ours, theirs, names, is_rare),
        "calibration_error": 0.0,
        "rare_labels": list(rare),
        "absent_labels": [],
        "only_candidate": [],
        "only_champion": [],
        "left_out": 0,
    }
    return gate.against(alone(truth, ours, names, score), compared | other, limits or Limits())


def alone(truth: Any, ours: Any, names: Sequence[str], score: float) -> dict[str, Any]:
    prior = [1 / len(names)] * len(names)
    scores, none = np.full(len(truth), score), np.zeros(len(truth), np.bool_)
    found = evaluation.from_columns(truth, ours, scores, none, names, prior)
    return found | evaluation.uncertainty(truth, ours, scores, none, prior)


def check(verdict: gate.Verdict, name: str) -> Check:
    (found,) = [found for found in verdict.checks if found.name == name]
    return found


def refused_by(verdict: gate.Verdict) -> list[str]:
    return [found.name for found in verdict.checks if not found.passed]


def test_an_equal_candidate_passes_and_every_question_is_answered_with_figures() -> None:
    verdict = judged(EQUAL)
    assert verdict.passed
    assert [found.name for found in verdict.checks] == [
        "rows", "accuracy", "macro_f1", "class_recall", "rare_classes", "calibration", "labels"
    ]  # fmt: skip
    assert all(found.figures and found.words.endswith(".") for found in verdict.checks)
    assert check(verdict, "accuracy").words == (
        "Right on 12 rows where the champion is wrong, wrong on 12 where it is right: p = 1.000, "
        "which chance may do."
    )
    assert verdict.plain()[0] == {
        "name": "rows",
        "passed": True,
        "words": "320 test rows that neither was trained on and whose label both know, 0 rows "
        "left out.",
        "figures": {"rows": 320, "needed": 20, "left_out": 0},
    }


def test_a_candidate_that_is_worse_beyond_chance_is_refused_with_both_figures() -> None:
    verdict = judged({**EQUAL, "mail": (2000, 1800, 10, 30)})
    assert "accuracy" in refused_by(verdict)
    assert "16 rows where the champion is wrong, wrong on 36" in verdict.in_words()
    assert "beyond chance" in verdict.in_words()
    assert "Both know the same labels" not in verdict.in_words(), "only what speaks against it"


def test_a_candidate_that_is_worse_as_chance_may_do_passes() -> None:
    assert judged({**EQUAL, "mail": (2000, 1800, 10, 18)}).passed


def test_macro_f1_is_asked_for_where_accuracy_hides_the_loss() -> None:
    # Gained on the large class, lost on four small ones, in none of them beyond the limit.
    small = {f"small{k}": (60, 30, 0, 2) for k in range(12)}
    verdict = judged({"mail": (3000, 2700, 60, 0), **small}, rare=["small0"])
    assert refused_by(verdict) == ["macro_f1"]
    found = check(verdict, "macro_f1")
    assert found.figures["interval"][1] < 0
    assert "worse beyond chance" in found.words
    assert check(verdict, "accuracy").passed


def test_a_class_that_loses_beyond_limit_and_chance_is_named() -> None:
    verdict = judged({**EQUAL, "mail": (200, 180, 20, 0), "network": (100, 70, 0, 15)})
    assert refused_by(verdict) == ["class_recall"]
    (row,) = check(verdict, "class_recall").figures["losing"]
    assert (row["label"], row["support"]) == ("network", 100)
    assert row["recall_difference"] == pytest.approx(-0.15)
    assert verdict.in_words() == (
        "1 class loses more than 0.05 of recall: network (0.850 to 0.700 of 100 rows)."
    )


def test_the_limit_itself_is_allowed_and_can_be_moved() -> None:
    # 0.95 - 0.90 is a hair more than 0.05 in floating-point numbers.
    answers = {**EQUAL, "mail": (200, 180, 20, 0), "network": (100, 90, 0, 5)}
    assert check(judged(answers), "class_recall").passed
    tight = Limits(max_class_drop=0.04)
    assert refused_by(judged(answers, limits=tight)) == ["class_recall"]


@pytest.mark.parametrize(
    ("answers", "losing"),
    [
        ((5, 3, 0, 1), False),  # one row of five is 0.2
        ((5, 4, 1, 0), False),
        ((13, 8, 0, 4), False),  # p = 0.0625
        ((13, 7, 0, 5), True),
        ((13, 6, 2, 5), False),
        ((5, 0, 0, 5), True),
        ((3, 0, 0, 3), True),  # blind: never beyond chance, and never to be let pass
        ((4, 1, 0, 3), False),
        ((4, 0, 1, 3), False),
        ((2, 0, 0, 2), False),  # too few to be judged alone
    ],
)
def test_a_small_class_counts_as_losing_beyond_chance_or_when_it_goes_blind(
    answers: tuple[int, int, int, int], losing: bool
) -> None:
    verdict = judged(
        {"mail": (200, 180, 10, 0), "small": answers, "other": (50, 45, 0, 0)}, rare=[]
    )
    assert check(verdict, "class_recall").passed == (not losing)


def test_strict_takes_the_limit_to_the_letter() -> None:
    answers = {**EQUAL, "mail": (200, 180, 10, 0), "rare": (20, 14, 0, 2)}
    lenient = check(judged(answers), "class_recall")
    assert lenient.passed
    assert [row["label"] for row in lenient.figures["within_chance"]] == ["rare"]
    assert "but as chance may do: rare (0.800 to 0.700 of 20 rows)" in lenient.words
    assert refused_by(judged(answers, limits=Limits(strict=True))) == [
        "class_recall",
        "rare_classes",
    ]


def test_rare_classes_are_judged_together_where_each_alone_is_too_small() -> None:
    small = {f"small{k}": (4, 1, 0, 1) for k in range(8)}
    verdict = judged({"mail": (300, 250, 20, 0), **small}, rare=list(small))
    assert check(verdict, "class_recall").passed
    assert not check(verdict, "rare_classes").passed
    assert "0 rows gained and 8 lost, more than 0.05 is lost" in verdict.in_words()
    fewer = dict.fromkeys(small, (4, 2, 0, 0)) | {"small0": (4, 1, 0, 1)}
    verdict = judged({"mail": (300, 250, 20, 0), **fewer}, rare=list(small))
    assert check(verdict, "rare_classes").passed


def test_rare_classes_without_rows_are_said_to_be_so() -> None:
    verdict = judged(EQUAL, rare=[], absent_labels=["gone"])
    assert verdict.passed
    assert check(verdict, "rare_classes").words == "None of the rarest classes has a row here."
    assert "without a row to compare: gone" in check(verdict, "class_recall").words


def test_scores_that_promise_too_much_are_refused() -> None:
    sure = {"mail": (1000, 700, 20, 20), "network": (500, 350, 10, 10)}
    verdict = judged(sure, score=0.95, rare=[])
    assert refused_by(verdict) == ["calibration"]
    assert "Calibration error 0.23" in verdict.in_words()
    assert "at most 0.0500 is allowed" in verdict.in_words()
    assert judged(sure, score=0.95, rare=[], calibration_error=0.25).passed, "the champion is worse"
    assert judged(sure, score=0.95, rare=[], limits=Limits(max_calibration_error=0.3)).passed
    bound = Limits(max_calibration_error=0.1)
    verdict = judged(sure, score=0.95, rare=[], calibration_error=0.25, limits=bound)
    assert refused_by(verdict) == ["calibration"]


def test_what_chance_adds_to_the_calibration_error_of_few_rows_is_excused_unless_strict() -> None:
    few = {"mail": (40, 33, 0, 0), "network": (20, 15, 0, 0)}
    verdict = judged(few, score=0.88, rare=[])
    found = check(verdict, "calibration")
    assert found.figures["calibration_error"] == pytest.approx(0.08)
    assert found.passed
    assert "and chance may add the rest" in found.words
    strict = Limits(strict=True)
    assert refused_by(judged(few, score=0.88, rare=[], limits=strict)) == ["calibration"]


def test_labels_that_only_one_knows_are_listed_and_have_to_be_accepted() -> None:
    unlike: dict[str, Any] = {"only_candidate": ["new"], "only_champion": ["a", "b"]}
    verdict = judged(EQUAL, **unlike)
    assert refused_by(verdict) == ["labels"]
    assert verdict.in_words() == (
        "There are 1 label only the candidate knows (new) and 2 labels only the champion knows "
        "(a and b): say --accept-labels if that is meant."
    )
    accepted = judged(EQUAL, limits=Limits(accept_labels=True), **unlike)
    assert accepted.passed
    assert check(accepted, "labels").figures["only_champion"] == ["a", "b"]


def test_too_few_rows_are_no_ground_for_a_verdict() -> None:
    verdict = judged({"mail": (11, 11, 0, 0), "network": (8, 8, 0, 0)}, rare=[], left_out=180)
    assert refused_by(verdict) == ["rows"]
    assert verdict.in_words() == (
        "Only 19 test rows that neither was trained on and whose label both know, 180 rows left "
        "out: at least 20 are needed. Prepare more test rows (--split.test), cut as the champion's "
        "data was (--split.like)."
    )
    assert judged(EQUAL, limits=Limits(min_rows=320)).passed
    assert refused_by(judged(EQUAL, limits=Limits(min_rows=321))) == ["rows"]


# The first version.


def first(answers: Answers, score: float = 0.9, limits: Limits | None = None) -> gate.Verdict:
    truth, ours, _ = rows_of(answers)
    names = list(answers)
    most = np.full(len(truth), int(np.argmax([rows for rows, *_ in answers.values()])))
    baseline = comparison.compare(truth, ours, most, names, np.zeros(len(names), np.bool_))
    found = alone(truth, ours, names, score) | {"baseline": baseline}
    return gate.first(found, limits or Limits())


def test_the_first_version_has_to_be_calibrated_and_better_than_one_label_for_all() -> None:
    assert first(EQUAL).passed
    assert refused_by(first(EQUAL, score=0.3)) == ["calibration"]
    assert refused_by(first(EQUAL, limits=Limits(min_rows=400))) == ["rows"]


def test_a_first_version_that_only_knows_the_largest_class_is_refused_whatever_its_accuracy() -> (
    None
):
    blind = {"mail": (980, 980, 0, 0), "network": (20, 0, 0, 0)}
    verdict = first(blind, score=0.98)
    assert refused_by(verdict) == ["baseline"]
    assert "does not beat the 0.4949 of always giving the most frequent label" in verdict.in_words()


def test_a_first_version_may_be_less_accurate_than_one_label_for_all() -> None:
    fair = {"mail": (980, 940, 0, 0), "network": (20, 18, 0, 0)}
    assert first(fair, score=0.96).passed


def test_the_letter_of_the_limit_would_refuse_most_models_that_are_as_good() -> None:
    """The figures in the module's docstring, in a smaller simulation of the same kind."""
    rng, trials = np.random.default_rng(0), 200
    refused = {True: 0, False: 0}
    for _ in range(trials):
        answers: dict[str, tuple[int, int, int, int]] = {}
        for k in range(20):
            right = int(rng.binomial(20, 0.85))
            lost = int(rng.binomial(right, 0.03))
            gained = int(rng.binomial(20 - right, 0.03 * 0.85 / 0.15))
            answers[f"team{k:02d}"] = (20, right - lost, gained, lost)
        truth, ours, theirs = rows_of(answers)
        none = np.zeros(20, np.bool_)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(comparison.intervals, "RESAMPLES", 2)  # not looked at here
            found = comparison.compare(truth, ours, theirs, list(answers), none)
        for strict in refused:
            verdict = checks.class_recall(found | {"absent_labels": []}, Limits(strict=strict))
            refused[strict] += not verdict.passed
    assert refused[True] / trials > 0.6
    assert refused[False] / trials < 0.02
