"""What the charts of a search are made of: plain data for plotly.js, and words.

Colours are names of the page's own (`--go`), which the page's script fills in for light and dark.
Every point carries the name of its trial as `customdata`, by which the page says and marks it. What
users wrote is escaped, since plotly reads markup.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from tuning.analysis import OBJECTIVE
from tuning.overview import Overview

HOURS_FROM_S = 3 * 3600
MINUTES_FROM_S = 180

Trace = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """`name` is its place on the page; `summary` says in words what is to be seen."""

    name: str
    title: str
    summary: str
    data: list[Trace]
    layout: dict[str, Any] = field(default_factory=dict)


def text(value: object) -> str:
    """Text for plotly, which would take `<b>` for markup."""
    return escape(str(value), quote=False)


def axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": text(title)}, **more}


def figure_axis(values: "pd.Series[Any]") -> dict[str, Any]:
    """Of macro-F1: a little wider than `values`, also where all are equal."""
    low, high = float(values.min()), float(values.max())
    edge = 0.09 * (high - low) or 0.01
    return axis("macro F1", range=[low - edge, high + edge])


def points(
    rows: pd.DataFrame, x: Sequence[float], y: Sequence[float], name: str, **look: Any
) -> Trace:
    """One mark a row, drawn as `look` says."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": plain(x),
        "y": plain(y),
        "customdata": list(rows["name"]),
        "marker": look,
    }


def plain(values: Iterable[Any]) -> list[float | None]:
    """Numbers for JSON, which has no NaN."""
    return [float(v) if np.isfinite(float(v)) else None for v in values]


# How trials of each kind are drawn in all charts.
FINISHED = {"color": "--go", "size": 9, "line": {"color": "--card", "width": 1}}
STOPPED = {"color": "--rest", "size": 8, "symbol": "circle-open", "line": {"width": 1.5}}
GOING = {"color": "--second", "size": 9, "symbol": "diamond"}
WINNER = {"color": "--third", "size": 16, "symbol": "star", "line": {"color": "--ink", "width": 1}}


def by_kind(found: Overview, x: "pd.Series[Any]", y: "pd.Series[Any] | None" = None) -> list[Trace]:
    """All trials that have a figure and did not fail, marked by what became of them."""
    y = found.trials[OBJECTIVE] if y is None else y
    state = found.trials["state"]
    kinds = [
        ("finished", state == "finished", FINISHED),
        ("stopped early", state == "stopped", STOPPED),
        ("not ended", state.isin(["running", "unfinished"]), GOING),
    ]
    best = found.best
    if best is not None:
        kinds.append(("the winner", found.trials["name"] == best["name"], WINNER))
    there = found.trials[OBJECTIVE].notna() & x.notna()
    chosen = [(name, mask & there, look) for name, mask, look in kinds]
    return [
        points(found.trials[mask], list(x[mask]), list(y[mask]), name, **look)
        for name, mask, look in chosen
        if mask.any()
    ]


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which so many seconds are told, and its length."""
    if seconds >= HOURS_FROM_S:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds >= MINUTES_FROM_S else ("seconds", 1.0)
