"""The questions of the gate: each looks at figures, and answers in plain words.

What is asked, and why so, is said in tuning.gate. Knows nothing of where the figures come from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs import comparison
from jobs.profiling import figures as wording

ALPHA = comparison.ALPHA
FAIR_CALIBRATION_ERROR = 0.05
BLIND_ROWS = 3
_SHOWN = 5  # classes that a sentence names; the figures have all
_HAIR = 1e-9  # 0.95 - 0.9 is a hair more than 0.05

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """What is still allowed.

    `max_class_drop`: of recall (0-1). `max_calibration_error`: 0-1; None: 0.05, or that of the
    champion where it has more. `min_rows`: rows that are needed to judge.
    """

    max_class_drop: float = 0.05
    max_calibration_error: float | None = None
    min_rows: int = 20
    accept_labels: bool = False
    strict: bool = False


@dataclass(frozen=True)
class Check:
    """One question, its answer in plain words, and the figures behind it."""

    name: str
    passed: bool
    words: str
    figures: dict[str, Any] = field(default_factory=dict)


def enough(rows: int, limits: Limits, left_out: int | None = None) -> Check:
    found = {"rows": rows, "needed": limits.min_rows}
    said = f"{wording.several(rows, 'test row', 'test rows')} to judge by"
    if left_out is not None:
        found["left_out"] = left_out
        rest = wording.several(left_out, "row", "rows")
        said = (
            f"{wording.several(rows, 'test row', 'test rows')} that neither was trained on and "
            f"whose label both know, {rest} left out"
        )
    if rows >= limits.min_rows:
        return Check("rows", True, f"{said}.", found)
    mend = "Prepare more test rows (--split.test)" + (
        "." if left_out is None else ", cut as the champion's data was (--split.like)."
    )
    return Check(
        "rows", False, f"Only {said}: at least {limits.min_rows} are needed. {mend}", found
    )


def baseline(found: Figures) -> Check:
    other = found["baseline"]
    change = other["difference"]["macro_f1"]
    passed = change["interval"][0] > 0
    return Check(
        "baseline",
        passed,
        f"Macro-F1 {found['macro_f1']:.4f} {'beats' if passed else 'does not beat'} the "
        f"{other['macro_f1']:.4f} of always giving the most frequent label"
        f"{' beyond chance' * (not passed)} (difference {_between(change)}).",
        {"macro_f1": found["macro_f1"], "baseline": other["macro_f1"], **change},
    )


def accuracy(other: Figures) -> Check:
    test = other["mcnemar"]
    ours, theirs, p_value = test["only_this_right"], test["only_other_right"], test["p_value"]
    passed = not (theirs > ours and p_value < ALPHA)
    certain = "beyond chance" if p_value < ALPHA else "which chance may do"
    return Check(
        "accuracy",
        passed,
        f"Right on {wording.several(ours, 'row', 'rows')} where the champion is wrong, wrong on "
        f"{theirs:,} where it is right: {comparison.p_text(p_value)}, {certain}.",
        dict(test),
    )


def macro_f1(found: Figures, other: Figures) -> Check:
    change = other["difference"]["macro_f1"]
    passed = change["interval"][1] >= 0
    here = other["macro_f1"] + change["value"]
    return Check(
        "macro_f1",
        passed,
        f"Macro-F1 {here:.4f}, the champion {other['macro_f1']:.4f} on the same rows: "
        f"{_between(change)}{'' if passed else ', worse beyond chance'}.",
        {"macro_f1": here, "champion": other["macro_f1"], **change},
    )


def class_recall(other: Figures, limits: Limits) -> Check:
    classes, absent = other["classes"], other["absent_labels"]
    over = [row for row in classes if -row["recall_difference"] > limits.max_class_drop + _HAIR]
    losing = [row for row in over if limits.strict or _is_beyond_chance(row) or _is_blind(row)]
    chance = [row for row in over if row not in losing]
    words = f"No class of {len(classes):,} loses more than {limits.max_class_drop:g} of its recall"
    if losing:
        count = wording.several(len(losing), "class loses", "classes lose")
        words = f"{count} more than {limits.max_class_drop:g} of recall: {_named(losing)}"
    elif chance:
        words += " beyond chance"
    if chance:
        words += f"; over it, but as chance may do: {_named(chance)}"
    if absent:
        words += f"; without a row to compare: {wording.listing(absent[:_SHOWN], len(absent))}"
    shown = {
        "limit": limits.max_class_drop,
        "losing": [_row(row) for row in losing],
        "within_chance": [_row(row) for row in chance],
        "absent": list(absent),
    }
    return Check("class_recall", not losing, f"{words}.", shown)


def _is_beyond_chance(row: Figures) -> bool:
    """One-sided, at 5%: half of the two-sided p where more rows are lost than gained."""
    return bool(row["only_other_right"] > row["only_this_right"] and row["p_value"] / 2 < ALPHA)


def _is_blind(row: Figures) -> bool:
    return bool(row["recall"] == 0 and row["only_other_right"] >= BLIND_ROWS)


def rare_classes(other: Figures, limits: Limits) -> Check:
    rare = [row for row in other["classes"] if row["label"] in set(other["rare_labels"])]
    change = other["difference"].get("rarest_third_recall")
    if not rare or change is None:
        return Check("rare_classes", True, "None of the rarest classes has a row here.")
    ours = sum(row["only_this_right"] for row in rare)
    theirs = sum(row["only_other_right"] for row in rare)
    p_value = float(comparison.exact_p(np.array([ours]), np.array([theirs]))[0])
    pooled = {"only_this_right": ours, "only_other_right": theirs, "p_value": p_value}
    over = -change["value"] > limits.max_class_drop + _HAIR
    passed = not (over and (limits.strict or _is_beyond_chance(pooled)))
    return Check(
        "rare_classes",
        passed,
        f"Mean recall of the {len(rare):,} rarest classes with rows: {_between(change)}, "
        f"{ours:,} rows gained and {theirs:,} lost"
        f"{'' if passed else f', more than {limits.max_class_drop:g} is lost'}.",
        {**change, **pooled, "limit": limits.max_class_drop, "classes": len(rare)},
    )


def calibration(found: Figures, champion: float | None, limits: Limits) -> Check:
    """The low end of the interval is the error less what chance adds to that of so few rows."""
    error, low = found["calibration_error"], found["intervals"]["calibration_error"][0]
    limit = limits.max_calibration_error
    if limit is None:
        limit = max(FAIR_CALIBRATION_ERROR, champion or 0.0)
    passed = (error if limits.strict else low) <= limit + _HAIR
    excused = passed and error > limit + _HAIR
    theirs = "" if champion is None else f" (the champion has {champion:.4f})"
    return Check(
        "calibration",
        passed,
        f"Calibration error {error:.4f}{theirs}, at most {limit:.4f} is allowed"
        f"{', and chance may add the rest' * excused}.",
        {"calibration_error": error, "low": low, "limit": limit, "champion": champion},
    )


def labels(other: Figures, limits: Limits) -> Check:
    new, gone = list(other["only_candidate"]), list(other["only_champion"])
    found = {"only_candidate": new, "only_champion": gone, "accepted": limits.accept_labels}
    if not new and not gone:
        return Check("labels", True, "Both know the same labels.", found)
    parts = [
        f"{wording.several(len(names), 'label', 'labels')} only {who} knows "
        f"({wording.listing(names[:_SHOWN], len(names))})"
        for names, who in ((new, "the candidate"), (gone, "the champion"))
        if names
    ]
    passed = limits.accept_labels
    verdict = "accepted" if passed else "say --accept-labels if that is meant"
    return Check("labels", passed, f"There are {' and '.join(parts)}: {verdict}.", found)


def _row(row: Figures) -> dict[str, Any]:
    kept = ("label", "support", "recall", "other_recall", "recall_difference", "p_value")
    return {name: row[name] for name in kept}


def _named(rows: Sequence[Figures]) -> str:
    worst = sorted(rows, key=lambda row: (row["recall_difference"], row["label"]))
    told = [
        f"{row['label']} ({row['other_recall']:.3f} to {row['recall']:.3f} of "
        f"{wording.several(row['support'], 'row', 'rows')})"
        for row in worst[:_SHOWN]
    ]
    return wording.listing(told, len(rows))


def _between(change: Figures) -> str:
    low, high = change["interval"]
    return f"{change['value']:+.4f} ({low:+.4f} to {high:+.4f})"
