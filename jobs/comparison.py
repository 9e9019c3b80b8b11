"""Whether one classifier beats another on the same rows, or chance alone explains what differs.

Rows on which both are right, or both wrong, say nothing; of the others, either is as likely to be
the right one where neither is better. That is McNemar's test, here always in its exact form:
McNemar: Note on the sampling error of the difference between correlated proportions, 1947;
Dietterich: Approximate statistical tests for comparing supervised classification learning
algorithms, 1998. Knows class ids and names; nothing of models. An answer counts as right or wrong
whether it was abstained on or not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs import intervals
from jobs.classifier import metrics
from jobs.classifier.metrics import Floats

ALPHA = 0.05
_FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "rarest_third_recall")

Ids = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def mcnemar(this_right: Mask, other_right: Mask) -> dict[str, float | int]:
    """only_this_right, only_other_right (rows), p_value (two-sided), from two masks of [rows]."""
    only_this = int((this_right & ~other_right).sum())
    only_other = int((other_right & ~this_right).sum())
    p_value = float(exact_p(np.array([only_this]), np.array([only_other]))[0])
    return {"only_this_right": only_this, "only_other_right": only_other, "p_value": p_value}


def exact_p(only_this: Ids, only_other: Ids) -> Floats:
    """Two-sided p of so uneven a division by a fair coin, float64 [n]; 1 where nothing differs."""
    from scipy.special import bdtr

    less = np.minimum(only_this, only_other)
    both = np.asarray(only_this) + np.asarray(only_other)
    found: Floats = bdtr(less.astype(np.float64), both, 0.5)
    return np.minimum(1.0, 2.0 * found)


def holm(p_values: Floats) -> Floats:
    """p adjusted for being the smallest of many, in the same order.

    With no true difference anywhere, the chance that any falls below 0.05 is at most 5%.
    Holm: A simple sequentially rejective multiple test procedure, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def compare(truth: Ids, ours: Ids, theirs: Ids, names: Sequence[str], rare: Mask) -> dict[str, Any]:
    """What `metrics.json` has under `against`, but for which bundle the other is.

    Int [rows] of class ids each. In `ours` and `theirs`, len(names) stands for an answer that is
    none of these classes: wrong, and no class of its own in the means. `rare` bool [classes].
    """
    our = metrics.counts(truth, ours, len(names) + 1)[:, : len(names)]
    their = metrics.counts(truth, theirs, len(names) + 1)[:, : len(names)]
    here, there = (
        {name: float(values[0]) for name, values in intervals.class_figures(c, rare).items()}
        for c in (our[:, None], their[:, None])
    )
    between = intervals.difference(truth, ours, theirs, rare)
    return {
        "rows": len(truth),
        **{name: value for name, value in there.items() if np.isfinite(value)},
        "difference": {
            name: {"value": here[name] - there[name], "interval": between[name]}
            for name in _FIGURES
            if name in between
        },
        "mcnemar": mcnemar(ours == truth, theirs == truth),
        "classes": _classes(truth, ours, theirs, names),
        "classes_tested": int((our[2] > 0).sum()),
    }


def _classes(truth: Ids, ours: Ids, theirs: Ids, names: Sequence[str]) -> list[dict[str, Any]]:
    """One entry for each class that has rows, from the surest gain to the surest loss.

    `p_value` is McNemar's test on the rows of that class, so it speaks of recall;
    `p_adjusted` takes into account that so many classes were tested (Holm).
    """
    count = len(names)
    our = metrics.counts(truth, ours, count + 1)[:, :count]
    their = metrics.counts(truth, theirs, count + 1)[:, :count]
    only_this = np.bincount(truth[(ours == truth) & (theirs != truth)], minlength=count)
    only_other = np.bincount(truth[(theirs == truth) & (ours != truth)], minlength=count)
    tested = np.flatnonzero(our[2])
    p_values = exact_p(only_this[tested], only_other[tested])
    recall, f1 = metrics.per_class(our)[1:]
    other_recall, other_f1 = metrics.per_class(their)[1:]
    rows = [
        {
            "label": names[c],
            "support": int(our[2, c]),
            "recall": float(recall[c]),
            "other_recall": float(other_recall[c]),
            "recall_difference": float(recall[c] - other_recall[c]),
            "f1": float(f1[c]),
            "other_f1": float(other_f1[c]),
            "f1_difference": float(f1[c] - other_f1[c]),
            "only_this_right": int(only_this[c]),
            "only_other_right": int(only_other[c]),
            "p_value": float(p),
            "p_adjusted": float(adjusted),
        }
        for c, p, adjusted in zip(tested.tolist(), p_values, holm(p_values), strict=True)
    ]
    return sorted(rows, key=_surest_gain_first)


def _surest_gain_first(row: Mapping[str, Any]) -> tuple[int, float, float, str]:
    net = row["only_this_right"] - row["only_other_right"]
    side = (net < 0) - (net > 0)
    sureness = row["p_value"] if net > 0 else -row["p_value"]
    return side, sureness, -row["recall_difference"], row["label"]


def gained(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes of which this bundle gets more rows right than the other, the surest first."""
    return [row for row in found["classes"] if row["only_this_right"] > row["only_other_right"]]


def lost(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes of which this bundle gets fewer rows right than the other, the surest first."""
    rows = [row for row in found["classes"] if row["only_this_right"] < row["only_other_right"]]
    return rows[::-1]


def p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def sentence(test: Mapping[str, Any]) -> str:
    """McNemar's test as a person says it."""
    ours, theirs, p_value = test["only_this_right"], test["only_other_right"], test["p_value"]
    if not ours and not theirs:
        return "This bundle and the other are right and wrong on the same rows."
    verdict = "beyond chance" if p_value < ALPHA else "no more than chance may do,"
    return (
        f"This bundle is right on {ours:,} {'row' if ours == 1 else 'rows'} where the other is "
        f"wrong, and wrong on {theirs:,} where it is right: {p_text(p_value)}, {verdict} at "
        f"{ALPHA:.0%}."
    )
