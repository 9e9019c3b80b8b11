"""The figures of the contract, from answers and truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs import comparison, intervals, score_curves
from jobs.classifier import metrics
from jobs.classifier.predictor import Predictions


def figures(
    truth: npt.NDArray[Any],
    answers: Predictions,
    names: Sequence[str],
    prior: Sequence[float] | None = None,
) -> dict[str, Any]:
    """`metrics.json` without its baselines; `truth` int [n] holds class ids."""
    return from_columns(
        truth, answers.labels, answers.label_scores, answers.abstained, names, prior
    )


def from_columns(
    truth: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    abstained: npt.NDArray[np.bool_],
    names: Sequence[str],
    prior: Sequence[float] | None = None,
) -> dict[str, Any]:
    """The same from class ids, the score of each predicted label, and abstentions, all [n].

    `prior`: the share of each class where rarity is to be looked up, such as the data of training;
    None takes the rows given. `rarest_third_recall` is None where no such class has rows, and
    `answered_accuracy`, that of the rows not abstained on, where there are none.
    """
    counts = metrics.counts(truth, predicted, len(names))
    rows, right = len(truth), truth == predicted
    rare = rarest_third(counts[2] if prior is None else prior)
    served = metrics.per_class(counts)[1][rare & (counts[2] > 0)]
    return {
        "rows": rows,
        **metrics.from_counts(counts),
        "rarest_third_recall": float(served.mean()) if len(served) else None,
        "calibration_error": metrics.calibration_error(scores.astype(np.float64), right),
        "coverage": float(1.0 - abstained.mean()) if rows else 0.0,
        "answered_accuracy": None if abstained.all() else float(right[~abstained].mean()),
        "per_class": metrics.class_table(counts, names),
        "baselines": {},
    }


def uncertainty(
    truth: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    abstained: npt.NDArray[np.bool_],
    prior: Sequence[float],
) -> dict[str, Any]:
    """What `metrics.json` says beside the figures: how sure they are, and what scores are worth.

    The arguments are those of `from_columns`; `prior` [classes] says which classes there are.
    """
    rare = rarest_third(prior)
    return {
        "intervals": intervals.headline(truth, predicted, scores, abstained, rare),
        "bootstrap": {
            "resamples": intervals.RESAMPLES,
            "level": intervals.LEVEL,
            "seed": intervals.SEED,
        },
        **score_curves.describe(scores, truth == predicted),
    }


def rarest_third(prior: Sequence[float] | npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """bool [classes]: the third of the classes with the smallest prior, and those as rare as they.

    At least one class. Rarity is that of the data of training wherever it is known: so the same
    classes are meant for every set of rows that a bundle is judged on.
    """
    shares = np.asarray(prior, dtype=np.float64)
    if len(shares) == 0:
        return np.zeros(0, np.bool_)
    count = max(1, len(shares) - round(2 * len(shares) / 3))
    limit = np.sort(shares)[count - 1]
    return np.asarray(shares <= limit, dtype=np.bool_)


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
    tested = any(row and row.get("mcnemar") for row in found.get("baselines", {}).values())
    if tested:
        lines[-1] += "  right where the other is wrong"
    for name, row in [("this model", found), *found.get("baselines", {}).items()]:
        if row is not None:
            lines.append(
                f"{name[:width]:<{width}} {row['accuracy']:>9.4f} {row['macro_f1']:>9.4f} "
                f"{row['macro_recall']:>9.4f}{_paired(row.get('mcnemar'))}"
            )
    return "\n".join(lines)


def _paired(test: dict[str, Any] | None) -> str:
    """Which of the two is right where the other is wrong, and whether chance may do that."""
    if not test:
        return ""
    ours, theirs, p_value = test["only_this_right"], test["only_other_right"], test["p_value"]
    return f"  this {ours:,}, it {theirs:,}: {comparison.p_text(p_value)}"
