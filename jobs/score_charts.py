"""Where the marks of the charts of scores stand, in per cent of their width and height.

It knows the curves of `jobs.score_curves`; the templates draw. Heights are measured from the top,
as SVG and CSS do.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

# The first few rows make a precision of anything: they do not decide where the axis begins.
_SETTLED = 0.05


def coverage(
    points: Sequence[Mapping[str, float]], own: tuple[float, float] | None
) -> dict[str, Any]:
    """Precision over coverage; `own` is the (coverage, precision) of the bundle's own threshold."""
    low = _foot(points, own)

    def up(precision: float) -> float:
        return round(100 * (1 - max(0.0, precision - low) / (1 - low)), 2)

    spots = [(round(100 * point["coverage"], 2), up(point["precision"])) for point in points]
    halves = [round((one + other) / 2, 2) for (one, _), (other, _) in pairwise(spots)]
    edges = [0.0, *halves, 100.0]
    line = " L".join(f"{x} {y}" for x, y in spots)
    return {
        "line": f"M{line}",
        "slots": [
            {"x": left, "width": round(right - left, 2), **point}
            for left, right, point in zip(edges, edges[1:], points, strict=False)
        ],
        "up": [(round(100 - up(value), 2), f"{value:.0%}") for value in _ticks(low)],
        "across": [(float(part), f"{part}%") for part in (0, 25, 50, 75, 100)],
        "own": None if own is None else {"x": round(100 * own[0], 2), "y": up(own[1])},
    }


def reliability(bins: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy over the mean score of each bin, and below it how many rows each bin has."""
    most = max((found["rows"] for found in bins), default=0)
    marks = [
        {
            **found,
            "x": round(100 * found["from"], 2),
            "width": round(100 * (found["to"] - found["from"]), 2),
            "height": round(100 * found["rows"] / most, 2),
            "at": round(100 * found["mean_score"], 2),
            "y": round(100 * (1 - found["accuracy"]), 2),
        }
        for found in bins
        if found["rows"]
    ]
    line = " L".join(f"{mark['at']} {mark['y']}" for mark in marks)
    quarters = (0, 0.25, 0.5, 0.75, 1)
    return {
        "line": f"M{line}",
        "marks": marks,
        "up": [(100.0 * part, f"{part:.0%}") for part in quarters],
        "rows_up": [(0.0, "0"), (100.0, f"{most:,}")],
        "across": [(100.0 * part, f"{part:.2g}") for part in quarters],
    }


def _foot(points: Sequence[Mapping[str, float]], own: tuple[float, float] | None) -> float:
    """Where the axis of precision begins: the tenth below all that is to be seen, at most 0.9."""
    seen = [point["precision"] for point in points if point["coverage"] >= _SETTLED]
    lowest = min([*seen, *([] if own is None else [own[1]])], default=0.0)
    return min(0.9, math.floor(lowest * 10) / 10)


def _ticks(low: float) -> list[float]:
    """Four or five round levels from `low` to 1."""
    width = 1 - low
    step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.25) if width / step <= 5.01)
    count = math.floor(width / step + 1e-9)
    return sorted(round(1 - step * k, 4) for k in range(count + 1))
