"""What `jobs.evaluate` prints beside its table of classes: how sure it is, and who is better.

It knows the contract of metrics.json, and English.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jobs import comparison
from jobs.profiling import figures

TOP = 5  # classes gained, and as many lost, that are printed; metrics.json has all
_SHOWN = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "weighted_f1",
    "rarest_third_recall",
    "calibration_error",
    "coverage",
    "answered_accuracy",
)


def summary(found: Mapping[str, Any], width: int = 28) -> str:
    """The headline figures with their intervals."""
    level = found["bootstrap"]["level"]
    lines = [f"{'':<{width}} {'value':>9}   {level:.0%} interval"]
    for name in _SHOWN:
        if name == "answered_accuracy" and found["coverage"] == 1:
            continue  # it is the accuracy
        value, interval = found[name], found["intervals"].get(name)
        told = "–" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
        lines.append(f"{words(name):<{width}} {figures.decimal(value, 4):>9}   {told}")
    if warning := too_sure(found):
        lines.append(warning)
    return "\n".join(lines)


def words(name: str) -> str:
    """A figure of metrics.json as a person writes it."""
    return name.replace("_", " ").replace(" f1", " F1")


def too_sure(found: Mapping[str, Any]) -> str:
    """A warning where the interval of the accuracy has no width, or nothing.

    Resamples of rows without a mistake have none either. The bound is the rule of three: Hanley,
    Lippman-Hand: If nothing goes wrong, is everything all right?, 1983.
    """
    low, high = found.get("intervals", {}).get("accuracy", (0.0, 1.0))
    rows = found.get("rows", 0)
    if low != high or not rows:
        return ""
    which = "right" if high == 1 else "wrong"
    return (
        f"All of {figures.several(rows, 'row', 'rows')} answered {which}: resamples of them cannot "
        f"differ, but up to {min(1.0, 3 / rows):.1%} of other rows may."
    )


def against(found: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """The comparison with another bundle; `found` is `against` of metrics.json, `mine` all."""
    lines = [f"Against {found['bundle']}", comparison.sentence(found["mcnemar"])]
    lines += [
        f"{words(name)}: {mine[name]:.4f} here, {found[name]:.4f} there, a "
        f"difference of {difference['value']:+.4f} ({difference['interval'][0]:+.4f} to "
        f"{difference['interval'][1]:+.4f})"
        for name, difference in found["difference"].items()
    ]
    lines += [*reservations(found), multiple(found)]
    lines += _classes("Gained most surely", comparison.gained(found), found)
    lines += _classes("Lost most surely", comparison.lost(found), found)
    return "\n".join(lines)


def reservations(found: Mapping[str, Any]) -> list[str]:
    """Sentences on rows that the other bundle could not get right."""
    told = []
    if names := found.get("unknown_labels"):
        told.append(
            f"The other bundle does not know {figures.several(len(names), 'label', 'labels')} "
            f"of these rows ({figures.listing(names[:5], len(names))}): their "
            f"{figures.several(found['unknown_rows'], 'row', 'rows')} count as its errors."
        )
    if rows := found.get("unanswered_rows"):
        told.append(
            f"The other bundle found no text in {figures.several(rows, 'row', 'rows')}: "
            "they count as its errors."
        )
    return told


def multiple(found: Mapping[str, Any]) -> str:
    """How many classes of a comparison differ beyond chance, honest about how many were tested."""
    sure = sum(row["p_adjusted"] < comparison.ALPHA for row in found["classes"])
    count = figures.several(found["classes_tested"], "class", "classes")
    which = {0: "none differs", 1: "1 differs"}.get(sure, f"{sure:,} differ")
    return f"Of {count} tested together, {which} beyond chance at 5% (Holm)."


def _classes(title: str, rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> list[str]:
    if not rows:
        return []
    return [
        f"{title} ({min(TOP, len(rows))} of {figures.several(len(rows), 'class', 'classes')}):",
        *(
            f"  {row['label'][:28]:<28} recall {row['other_recall']:.3f} → {row['recall']:.3f}, "
            f"F1 {row['other_f1']:.3f} → {row['f1']:.3f}, "
            f"{figures.several(row['support'], 'row', 'rows')}"
            f"{_verdict(row, found['classes_tested'])}"
            for row in rows[:TOP]
        ),
    ]


def _verdict(row: Mapping[str, Any], tested: int) -> str:
    """The class's own test, and what is left of it where many classes were looked at."""
    told = f": {comparison.p_text(row['p_value'])}"
    if tested > 1:
        told += f", of {tested:,} classes {comparison.p_text(row['p_adjusted'])}"
    return told + (", beyond chance" if row["p_adjusted"] < comparison.ALPHA else "")
