"""Where the marks of a chart stand, in per cent of its width and height.

It knows numbers, axes and SVG paths; the templates draw, and nothing here knows what is counted.
Heights are measured from the top, as SVG and CSS do.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

_RANKS = 160  # more marks than this cannot be told apart on a screen


class LogAxis:
    """A logarithmic axis from `start` to a little above `largest`; what is below lies at the foot.

    Counts start below 1, so that a single one has a height.
    """

    def __init__(self, largest: float, start: float = 0.6) -> None:
        self.start = start
        self.span = math.log10(max(2.0, largest) * 1.25 / start)

    def at(self, value: float) -> float:
        """How far along the axis `value` stands, in per cent."""
        return round(100 * math.log10(max(self.start, value) / self.start) / self.span, 2)

    def ticks(self) -> list[tuple[float, str]]:
        powers = (10**p for p in range(13))
        return [(self.at(power), f"{power:,}") for power in powers if self.at(power) <= 100]


def rank_size(names: Sequence[str], sizes: Sequence[int], marks: Sequence[int]) -> dict[str, Any]:
    """`sizes`, descending, over their rank, both axes logarithmic; `marks` are levels to compare.

    A straight line is a power law; a level line is classes of equal size.
    """
    across, up = LogAxis(len(sizes), start=1), LogAxis(max(sizes))
    ranks = sorted({round(len(sizes) ** (k / (_RANKS - 1))) for k in range(_RANKS)})
    spots = [(across.at(rank), 100 - up.at(sizes[rank - 1])) for rank in ranks]
    halves = [(one + other) / 2 for (one, _), (other, _) in pairwise(spots)]
    edges = [0.0, *halves, 100.0]
    line = " L".join(f"{x} {round(y, 2)}" for x, y in spots)
    return {
        "line": f"M{line}",
        "area": f"M{spots[0][0]} 100 L{line} L{spots[-1][0]} 100 Z",
        "spots": [
            {
                "x": x,
                "y": round(y, 2),
                "left": round(left, 2),
                "width": round(right - left, 2),
                "name": names[rank - 1],
                "rank": rank,
                "size": sizes[rank - 1],
            }
            for rank, (x, y), left, right in zip(ranks, spots, edges, edges[1:], strict=False)
        ],
        "across": across.ticks(),
        "up": up.ticks(),
        "marks": [(round(100 - up.at(mark), 2), mark) for mark in marks],
    }


def histogram(edges: Sequence[int], counts: Sequence[int], limit: int) -> dict[str, Any]:
    """Bars between `edges` (see jobs.profiling.lengths.histogram); those beyond `limit` are cut.

    A last bar that is wider than the others is drawn as wide as they are, and open.
    """
    widths = [right - left for left, right in pairwise(edges)]
    usual = max(widths[:-1], default=widths[0])
    is_open = widths[-1] > usual
    reach = edges[-2] + usual if is_open else edges[-1]
    top, rows = max(1, *counts), max(1, sum(counts))
    return {
        "bars": [
            {
                "x": round(100 * left / reach, 2),
                "width": round(100 * (min(right, reach) - left) / reach, 2),
                "height": round(100 * count / top, 2),
                "cut": left >= limit,
                "from": left + 1,
                "to": None if is_open and right == edges[-1] else right,
                "count": count,
                "share": count / rows,
            }
            for left, right, count in zip(edges, edges[1:], counts, strict=False)
        ],
        "limit": round(100 * limit / reach, 2) if limit <= reach else None,
        "across": [(round(100 * value / reach, 2), f"{value:,}") for value in _round(reach)],
        "up": [(0.0, "0"), (100.0, f"{top:,} texts")],
    }


def before_and_after(
    names: Sequence[str], before: Sequence[int], after: Sequence[int], largest: int
) -> dict[str, Any]:
    """Bands over the classes, from the largest: what is kept, what is left out, what is added.

    The height is logarithmic, up to `largest`, so that charts beside each other compare.
    """
    up = LogAxis(largest)
    slots = min(_RANKS, len(before))
    cuts = [len(before) * k // slots for k in range(slots + 1)]
    # Where several classes share a slot, the first of them is drawn.
    old = [100 - up.at(before[k]) for k in cuts[:-1]]
    new = [100 - up.at(after[k]) for k in cuts[:-1]]
    edges = [round(100 * cut / len(before), 2) for cut in cuts]
    floor = [100.0] * slots
    return {
        "kept": _band(edges, [max(pair) for pair in zip(old, new, strict=True)], floor),
        "left_out": _band(edges, old, [max(pair) for pair in zip(old, new, strict=True)]),
        "added": _band(edges, new, [max(pair) for pair in zip(old, new, strict=True)]),
        "slots": [
            {
                "x": left,
                "width": round(right - left, 2),
                "names": (names[first], names[last - 1]),
                "ranks": (first + 1, last),
                "before": (before[first], before[last - 1]),
                "after": (after[first], after[last - 1]),
            }
            for left, right, first, last in zip(edges, edges[1:], cuts, cuts[1:], strict=False)
        ],
        "up": up.ticks(),
    }


def _band(edges: Sequence[float], tops: Sequence[float], bottoms: Sequence[float]) -> str:
    """The path of a band of steps; slots in which it has no height are left out."""
    return "".join(
        f"M{left} {round(top, 2)}H{right}V{round(bottom, 2)}H{left}Z"
        for left, right, top, bottom in zip(edges, edges[1:], tops, bottoms, strict=False)
        if bottom > top
    )


def _round(reach: int) -> list[int]:
    """At most seven round numbers from 0 up to `reach`."""
    step = next(
        factor * 10**power
        for power in range(12)
        for factor in (1, 2, 4, 5)
        if reach / (factor * 10**power) <= 6
    )
    return list(range(0, reach + 1, step))
