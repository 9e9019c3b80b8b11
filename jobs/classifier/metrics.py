"""Figures of a classifier from counts, so that they can be added up over workers first.

Accuracy alone lies when a few classes hold most rows: precision, recall and F1 stand per class,
and their plain means beside them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
CALIBRATION_BINS = 15


def counts(labels: npt.NDArray[Any], predicted: npt.NDArray[Any], classes: int) -> Counts:
    """int64 [3, classes]: rows that are c and called c, rows called c, rows that are c."""
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    called = np.bincount(predicted, minlength=classes)
    support = np.bincount(labels, minlength=classes)
    return np.stack([hits, called, support]).astype(np.int64)


def from_counts(found: Counts) -> dict[str, float]:
    """The headline figures of `counts`, between 0 and 1.

    The means are over the classes that have rows or were called, as scikit-learn's are; the
    balanced accuracy is over the classes that have rows. A ratio of nothing is 0.
    """
    precision, recall, f1 = per_class(found)
    _, called, support = found
    there = (support + called) > 0
    rows = max(1, int(support.sum()))
    share = support / rows
    means = {
        "accuracy": float(found[0].sum() / rows),
        "balanced_accuracy": float(recall[support > 0].mean()) if (support > 0).any() else 0.0,
    }
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        means[f"macro_{name}"] = float(values[there].mean()) if there.any() else 0.0
        means[f"weighted_{name}"] = float((values * share).sum())
    return means


def per_class(found: Counts) -> tuple[Floats, Floats, Floats]:
    """(precision, recall, F1), each of shape [classes]."""
    hits, called, support = found.astype(np.float64)
    zero = np.zeros_like(hits)
    precision = np.divide(hits, called, out=zero.copy(), where=called > 0)
    recall = np.divide(hits, support, out=zero.copy(), where=support > 0)
    both = called + support
    return precision, recall, np.divide(2 * hits, both, out=zero.copy(), where=both > 0)


def class_table(found: Counts, names: Sequence[str]) -> dict[str, dict[str, float | int]]:
    """label → precision, recall, f1, support, for every label."""
    precision, recall, f1 = per_class(found)
    return {
        name: {
            "precision": float(precision[c]),
            "recall": float(recall[c]),
            "f1": float(f1[c]),
            "support": int(found[2, c]),
        }
        for c, name in enumerate(names)
    }


def confusion(labels: npt.NDArray[Any], predicted: npt.NDArray[Any], classes: int) -> Counts:
    """int64 [classes, classes]: rows that are the first index and were called the second."""
    flat = np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2)
    return flat.reshape(classes, classes).astype(np.int64)


def calibration_error(scores: npt.NDArray[Any], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error over 15 bins of equal width: Σ share · |accuracy - mean score|.

    Naeini, Cooper, Hauskrecht: Obtaining well calibrated probabilities using Bayesian binning,
    2015.
    """
    if len(scores) == 0:
        return 0.0
    bins = np.minimum((scores * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    rows = np.bincount(bins, minlength=CALIBRATION_BINS)
    gap = np.bincount(bins, weights=right.astype(np.float64), minlength=CALIBRATION_BINS)
    gap -= np.bincount(bins, weights=scores, minlength=CALIBRATION_BINS)
    return float(np.abs(gap[rows > 0]).sum() / len(scores))
