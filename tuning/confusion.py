"""The confusion matrix of a trial, for the heatmap of the reports and for a table."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

TOP = 12


def confusion(cells: Sequence[Sequence[int]], labels: Sequence[str]) -> dict[str, Any] | None:
    """From [truth, called, rows] of class ids: the cells that hold rows, the largest class first,
    as flat pairs (column, rows) a row; and the most frequent mistakes. None without any row."""
    there = [
        (truth, called, rows)
        for truth, called, rows in cells
        if rows and max(truth, called) < len(labels)
    ]
    if not there:
        return None
    totals: Counter[int] = Counter()
    for truth, _, rows in there:
        totals[truth] += rows
    wrong = sorted((cell for cell in there if cell[0] != cell[1]), key=lambda cell: -cell[2])
    return {
        "matrix": _matrix(there, labels, totals),
        "mistakes": [
            {"true": labels[t], "called": labels[c], "rows": n, "share": n / totals[t]}
            for t, c, n in wrong[:TOP]
        ],
        "rows": sum(totals.values()),
        "wrong": sum(n for _, _, n in wrong),
    }


def _matrix(
    cells: Sequence[tuple[int, int, int]], labels: Sequence[str], totals: Counter[int]
) -> dict[str, Any]:
    order = sorted(range(len(labels)), key=lambda c: (-totals[c], labels[c]))
    place = {c: k for k, c in enumerate(order)}
    flat: list[list[int]] = [[] for _ in labels]
    for truth, called, rows in cells:
        flat[place[truth]] += [place[called], rows]
    return {"labels": [labels[c] for c in order], "cells": flat}
