"""The figures of the contract, from answers and truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.classifier import metrics
from jobs.classifier.predictor import Predictions


def figures(truth: npt.NDArray[Any], answers: Predictions, names: Sequence[str]) -> dict[str, Any]:
    """`metrics.json` without its baselines; `truth` int [n] holds class ids."""
    return from_columns(truth, answers.labels, answers.label_scores, answers.abstained, names)


def from_columns(
    truth: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    abstained: npt.NDArray[np.bool_],
    names: Sequence[str],
) -> dict[str, Any]:
    """The same from class ids, the score of each predicted label, and abstentions, all [n]."""
    counts = metrics.counts(truth, predicted, len(names))
    rows = len(truth)
    return {
        "rows": rows,
        **metrics.from_counts(counts),
        "calibration_error": metrics.calibration_error(
            scores.astype(np.float64), truth == predicted
        ),
        "coverage": float(1.0 - abstained.mean()) if rows else 0.0,
        "per_class": metrics.class_table(counts, names),
        "baselines": {},
    }


def table(found: dict[str, Any], width: int = 28) -> str:
    """Precision, recall and F1 per class, largest class first, and the baselines, as text."""
    per_class = sorted(found["per_class"].items(), key=lambda item: -item[1]["support"])
    lines = [f"{'class':<{width}} {'precision':>9} {'recall':>9} {'F1':>9} {'rows':>8}"]
    shown = per_class if len(per_class) <= 30 else [*per_class[:15], *per_class[-15:]]
    for position, (name, row) in enumerate(shown):
        if position == 15 and len(per_class) > 30:
            lines.append(f"… {len(per_class) - 30} more classes, all in metrics.json …")
        lines.append(
            f"{name[:width]:<{width}} {row['precision']:>9.3f} {row['recall']:>9.3f} "
            f"{row['f1']:>9.3f} {row['support']:>8,}"
        )
    lines += ["", f"{'':<{width}} {'accuracy':>9} {'macro-F1':>9} {'macro-rec':>9}"]
    for name, row in [("this model", found), *found.get("baselines", {}).items()]:
        if row is not None:
            lines.append(
                f"{name[:width]:<{width}} {row['accuracy']:>9.4f} {row['macro_f1']:>9.4f} "
                f"{row['macro_recall']:>9.4f}"
            )
    return "\n".join(lines)
