"""What the parameters of a search had to do with its figures, drawn: importance, slices, and all
at once as parallel coordinates. See tuning.drawing for what a chart is.

Parallel coordinates are drawn as lines: plotly's own kind needs WebGL, which a browser without a
GPU may not have, and has no place for a parameter that is not in force.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jobs.profiling import figures
from tuning.analysis import OBJECTIVE
from tuning.drawing import Chart, Trace, axis, by_kind, figure_axis, plain, text
from tuning.findings import share_text
from tuning.importance import Group
from tuning.overview import Overview
from tuning.parameters import Parameter, shown

JITTER = 0.32  # so that trials of one value do not cover each other
NAMES_SIDE_BY_SIDE = 30  # letters that have room below a slice
IDLE = -0.14  # where a parameter stands that is not in force, below its axis


def importance(found: Overview) -> Chart:
    """Shares of the parameters with their intervals, the largest on top."""
    rows = [row for row in found.assessment.rows if row.share is not None]
    shares = [row.share for row in rows if row.share is not None]
    names = [
        text(row.parameter.key) + (f"<br>(in {row.trials} trials)" if row.parameter.when else "")
        for row in rows
    ]
    bars: Trace = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": [share.value for share in shares],
        "marker": {"color": ["--second" if row.parameter.when else "--go" for row in rows]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [share.high - share.value for share in shares],
            "arrayminus": [share.value - share.low for share in shares],
            "color": "--ink",
            "thickness": 1.5,
            "width": 5,
        },
        "hoverinfo": "skip",
    }
    told = "; ".join(f"{row.parameter.key} {share_text(row.share)}" for row in rows)
    return Chart(
        "importance",
        "Share of the differences between trials",
        f"Share of each parameter, and the middle 80% of its resamples: {told}.",
        [bars],
        {
            "xaxis": axis("share", tickformat=".0%", rangemode="tozero"),
            "yaxis": {"autorange": "reversed", "automargin": True, "ticksuffix": " "},
            "showlegend": False,
            "height": 90 + 42 * len(rows),
        },
    )


def slices(found: Overview) -> list[Chart]:
    """Macro-F1 over each parameter, of the trials in which it was in force; all on one scale."""
    up = figure_axis(found.trials[OBJECTIVE])
    told = {row.parameter.key: row.groups for row in found.assessment.rows}
    return [
        _slice(found, parameter, f"slice-{place}", up, told.get(parameter.key, ()))
        for place, parameter in enumerate(found.parameters)
    ]


def _slice(
    found: Overview, parameter: Parameter, name: str, up: dict[str, Any], groups: Sequence[Group]
) -> Chart:
    values, mask = found.trials[parameter.key], parameter.in_force(found.trials)
    if parameter.is_choice:
        middle = pd.Series(parameter.positions(values), index=values.index)
        x = middle + _spread(found.trials)
        across = {
            "tickvals": list(range(len(parameter.values))),
            "ticktext": [text(shorten(value)) for value in parameter.values],
            "range": [-0.6, len(parameter.values) - 0.4],
            # Slanted so, long names do not stick out on the right.
            "tickangle": -30 if sum(map(len, parameter.values)) > NAMES_SIDE_BY_SIDE else 0,
        }
    else:
        x = pd.to_numeric(values, errors="coerce").astype(float)
        across = _numbers(parameter)
    title = parameter.key + (f" (where {parameter.condition()})" if parameter.when else "")
    summary = figures.several(int(mask.sum()), "trial", "trials") + "."
    if groups:
        told = (f"{g.name}: median {g.median:.3f} in {g.trials}" for g in groups)
        summary += f" Macro F1, stopped trials levelled, by value: {'; '.join(told)}."
    layout = {"xaxis": across, "yaxis": up, "showlegend": False}
    return Chart(name, title, summary, by_kind(found, x.where(mask)), layout)


def _numbers(parameter: Parameter) -> dict[str, Any]:
    """An axis over all that was searched, whose numbers are written as everywhere else."""
    low, high = parameter.low, parameter.high
    if parameter.kind == "log-uniform":
        first, last = math.log10(low), math.log10(high)
        steps = (1, 3) if last - first > 1 else (1, 2, 3, 5)
        powers = range(math.floor(first), math.ceil(last) + 1)
        ticks = [step * 10.0**power for power in powers for step in steps]
        edge = 0.04 * (last - first)
        span = [first - edge, last + edge]
        named = {"tickvals": ticks, "ticktext": [shown(tick) for tick in ticks]}
        return {"type": "log", "range": span, **named}
    edge = 0.04 * (high - low)
    whole = {"tickformat": "d", "dtick": max(1, round((high - low) / 6))}
    return {"range": [low - edge, high + edge], **(whole if parameter.kind == "integer" else {})}


def _spread(trials: pd.DataFrame) -> "pd.Series[Any]":
    """The same small distance for a trial wherever it is drawn."""
    golden = (trials["trial"].astype(float) * 0.618034) % 1.0
    return (golden - 0.5) * 2 * JITTER


def parallel(found: Overview) -> Chart:
    """A line a trial through all its values, and its macro-F1 as the last axis."""
    frame = found.trials[found.trials[OBJECTIVE].notna() & (found.trials["state"] != "failed")]
    axes = [_heights(parameter, frame) for parameter in found.parameters]
    low, high = float(frame[OBJECTIVE].min()), float(frame[OBJECTIVE].max())
    axes.append(((frame[OBJECTIVE] - low) / ((high - low) or 1.0)).to_numpy(float))
    heights = np.stack(axes, axis=1)
    keys = [p.key for p in found.parameters] + [OBJECTIVE]
    marks = [_ticks(p) for p in found.parameters] + [[(0.0, f"{low:.3f}"), (1.0, f"{high:.3f}")]]
    notes = [note for place, found_ in enumerate(marks) for note in _notes(place, found_)]
    return Chart(
        "parallel",
        "All parameters at once",
        f"One line for each of {len(frame)} trials, from its parameters to its macro F1 on the "
        "right; a parameter that is not in force lies below its axis. The leaderboard has the "
        "values. With a mouse, draw a box over a part of an axis to see only the lines through it; "
        "double-click for all.",
        _groups(found, frame, heights),
        {
            "xaxis": {
                "tickvals": list(range(len(keys))),
                "ticktext": [text(key).replace(".", ".<br>", 1) for key in keys],
                "side": "top",
                "range": [-0.3, len(keys) - 0.35],
                "showgrid": False,
            },
            "yaxis": {"visible": False, "range": [IDLE - 0.06, 1.06]},
            "annotations": notes,
            "shapes": [_stem(place) for place in range(len(keys))],
            "dragmode": "select",
            "legend": {"orientation": "h", "x": 0, "y": -0.01, "yanchor": "top"},
        },
    )


def _heights(parameter: Parameter, frame: pd.DataFrame) -> Any:
    """Where each trial crosses an axis of length 1; IDLE where the parameter is not in force."""
    found = parameter.positions(frame[parameter.key])
    if parameter.is_choice:
        spread = _spread(frame).to_numpy(float)
        found = (found + 0.5 + spread * 0.8) / len(parameter.values)
    return np.where(parameter.in_force(frame) & np.isfinite(found), found, IDLE)


def _ticks(parameter: Parameter) -> list[tuple[float, str]]:
    if parameter.is_choice:
        count = len(parameter.values)
        found = [((place + 0.5) / count, v) for place, v in enumerate(parameter.values)]
    else:
        found = [(at, shown(parameter.at(at))) for at in (0.0, 0.5, 1.0)]
    return [*found, (IDLE, "not in force")] if parameter.when else found


def _notes(place: int, marks: Sequence[tuple[float, str]]) -> list[dict[str, Any]]:
    return [
        {
            "x": place, "y": at, "text": text(shorten(value)), "showarrow": False,
            "xanchor": "left", "xshift": 5, "bgcolor": "--card", "opacity": 0.85,
            "borderpad": 1, "font": {"size": 11, "color": "--ink"},
        }
        for at, value in marks
    ]  # fmt: skip


def shorten(value: str, most: int = 18) -> str:
    return value if len(value) <= most else value[: most - 1] + "…"


def _stem(place: int) -> dict[str, Any]:
    line = {"color": "--edge", "width": 1.5}
    return {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "line": line}


def _groups(found: Overview, frame: pd.DataFrame, heights: Any) -> list[Trace]:
    """Lines in the order in which they are drawn: the winner's lies on top."""
    best = list(found.ranked["name"])
    upper, lower = best[1 : (len(best) + 1) // 2], best[(len(best) + 1) // 2 :]
    others = [name for name in frame["name"] if name not in best]
    groups = [
        ("did not finish", others, {"color": "--rest", "width": 1}),
        ("lower half of the finished", lower, {"color": "--second", "width": 1.3}),
        ("upper half of the finished", upper, {"color": "--go", "width": 1.8}),
        ("the winner", best[:1], {"color": "--third", "width": 4}),
    ]
    names = frame["name"].to_numpy()
    return [
        _through(heights[np.isin(names, chosen)], names[np.isin(names, chosen)], kind, line)
        for kind, chosen, line in groups
        if chosen
    ]


def _through(heights: Any, names: Any, kind: str, line: dict[str, Any]) -> Trace:
    axes = range(heights.shape[1])
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": kind,
        "x": [at for _ in names for at in (*axes, None)],
        "y": [at for row in heights for at in (*plain(row), None)],
        "customdata": [name for each in names for name in (*[str(each)] * len(axes), None)],
        "line": line,
        "marker": {"size": 4, "color": line["color"]},
        "opacity": 0.9,
    }
