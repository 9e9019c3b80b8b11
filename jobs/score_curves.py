"""What scores are worth: how accurate the answers are that stay when the unsure ones go to a human.

Knows scores and whether they were right, both of shape [rows], and nothing of classes or models.
The curve is read off the rows it is drawn from: a threshold that is chosen on it looks a little
better there than it will be. Choose it on validation rows, and look at it on others.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.classifier.metrics import CALIBRATION_BINS

POINTS = 100
PRECISIONS = (0.90, 0.95, 0.98, 0.99)
COVERAGES = (0.5, 0.8, 0.9, 1.0)

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def describe(scores: npt.NDArray[Any], right: Mask) -> dict[str, Any]:
    """The part of `metrics.json` that is about scores: a curve, readings of it, and reliability.

    `coverage_curve`: at most 100 points {threshold, coverage, precision}, from few rows answered to
    all. `precision` is the accuracy of the rows whose score is at least the threshold.
    `coverage_at_precision` is None where no threshold is so precise.
    """
    scores = scores.astype(np.float64)
    thresholds, coverage, precision = _curve(scores, right)
    return {
        "coverage_curve": [
            {
                "threshold": float(thresholds[k]),
                "coverage": float(coverage[k]),
                "precision": float(precision[k]),
            }
            for k in _thinned(coverage)
        ],
        "coverage_at_precision": [
            {"precision": asked, **_at(precision >= asked, -1, thresholds, coverage, "coverage")}
            for asked in PRECISIONS
        ],
        "precision_at_coverage": [
            {"coverage": asked, **_at(coverage >= asked, 0, thresholds, precision, "precision")}
            for asked in COVERAGES
        ],
        "reliability": reliability(scores, right),
    }


def reliability(scores: Floats, right: Mask) -> list[dict[str, Any]]:
    """15 bins of equal width: from, to, rows, mean_score, accuracy (None where there are no rows).

    The bins of the calibration error, which is their mean gap weighted by rows.
    """
    bins = np.minimum((scores * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    rows = np.bincount(bins, minlength=CALIBRATION_BINS)
    hits = np.bincount(bins, weights=right.astype(np.float64), minlength=CALIBRATION_BINS)
    total = np.bincount(bins, weights=scores, minlength=CALIBRATION_BINS)
    return [
        {
            "from": k / CALIBRATION_BINS,
            "to": (k + 1) / CALIBRATION_BINS,
            "rows": int(rows[k]),
            "mean_score": float(total[k] / rows[k]) if rows[k] else None,
            "accuracy": float(hits[k] / rows[k]) if rows[k] else None,
        }
        for k in range(CALIBRATION_BINS)
    ]


def _curve(scores: Floats, right: Mask) -> tuple[Floats, Floats, Floats]:
    """(threshold, coverage, precision) at every score that occurs, the highest first.

    Rows of one score are answered together or not at all: no order among them is made up.
    """
    order = np.argsort(-scores, kind="stable")
    falling, hits = scores[order], np.cumsum(right[order])
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)[: len(falling)])
    answered = last + 1.0
    return falling[last], answered / max(1, len(scores)), hits[last] / answered


def _thinned(coverage: Floats) -> list[int]:
    """Positions, evenly spread over the coverage, of at most `POINTS` points; the last is there."""
    if len(coverage) <= POINTS:
        return list(range(len(coverage)))
    asked = np.arange(1, POINTS + 1) / POINTS
    # A hair less than asked, so that 0.07 of a hundred rows is found at seven of them.
    found = np.searchsorted(coverage, asked - 1e-9)
    return sorted({int(min(k, len(coverage) - 1)) for k in found})


def _at(good: Mask, place: int, thresholds: Floats, values: Floats, name: str) -> dict[str, Any]:
    """The value and the threshold at one of the positions that are `good`: 0 the first, -1 last."""
    found = np.flatnonzero(good)
    if len(found) == 0:
        return {name: None, "threshold": None}
    return {name: float(values[found[place]]), "threshold": float(thresholds[found[place]])}
