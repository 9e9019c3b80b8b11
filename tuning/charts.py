"""How a search went, drawn: best so far, learning curves, quality against cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from jobs.profiling import figures
from tuning.analysis import OBJECTIVE, Experiment
from tuning.drawing import Chart, Trace, axis, by_kind, figure_axis, plain, points, time_unit
from tuning.overview import Overview, rows

TOP = 5
TICKS = 8


def best_so_far(found: Overview) -> list[Chart]:
    """Over trials, and over time since each experiment's first trial began."""
    over = found.trials["trial"].astype(float)
    since = _since(found.trials)
    unit, factor = time_unit(float(since.max()))
    return [
        _progress(found, "over-trials", "Best so far, over trials", over, "trial", "trial {:.0f}"),
        _progress(
            found,
            "over-time",
            "Best so far, over time",
            since / factor,
            f"{unit} since the first trial began",
            f"{{:.3g}} {unit}",
        ),
    ]


def _since(trials: pd.DataFrame) -> "pd.Series[Any]":
    """Seconds from the first start of its experiment to a trial's end, or its last report."""
    begun = trials.groupby("experiment")["started"].transform("min")
    until = trials["ended"].fillna(
        trials["started"] + pd.to_timedelta(trials["seconds"].fillna(0.0), unit="s")
    )
    return (until - begun).dt.total_seconds()


def _progress(
    found: Overview, name: str, title: str, x: "pd.Series[Any]", across: str, spot: str
) -> Chart:
    lines: list[Trace] = []
    told = []
    for experiment in found.experiments:
        mine = found.ranked[found.ranked["experiment"] == experiment.uri]
        if mine.empty:
            continue
        order = mine.assign(at=x).sort_values(["at", "trial"])
        best = order[OBJECTIVE].cummax()
        letter = found.letters.get(experiment.uri, "")
        until = float(x[found.trials["experiment"] == experiment.uri].max())
        lines.append(_steps([*order["at"], until], [*best, best.max()], letter, len(lines)))
        first, last = (spot.format(order["at"].iloc[k]) for k in (0, int(best.argmax())))
        told.append(
            f"{letter + ': ' if letter else ''}{best.iloc[0]:.4f} at {first}, {best.max():.4f} "
            f"from {last} on"
        )
    summary = f"Best macro F1 of the finished trials: {'; '.join(told) or 'none has finished'}."
    up = figure_axis(found.trials[OBJECTIVE])
    few = {"dtick": 1} if x.max() < TICKS else {}
    layout = {"xaxis": axis(across, rangemode="tozero", **few), "yaxis": up}
    return Chart(name, title, summary, [*by_kind(found, x), *lines], layout)


def _steps(x: Sequence[float], y: Sequence[float], letter: str, place: int) -> Trace:
    color = ("--go", "--second", "--third", "--stop")[place % 4]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"best so far {letter}".strip(),
        "x": plain(x),
        "y": plain(y),
        "line": {"shape": "hv", "width": 2.5, "color": color},
        "hoverinfo": "skip",
    }


def curves(found: Overview) -> Chart:
    """Macro-F1 over the share of each trial's own schedule, with the scheduler's cuts."""
    top = list(found.ranked["name"].head(TOP))
    state = dict(zip(found.trials["name"], found.trials["state"], strict=True))
    groups: dict[str, list[str]] = {"stopped early": [], "the others": [], "next best": top[1:]}
    for name, at in state.items():
        if name not in top:
            groups["stopped early" if at == "stopped" else "the others"].append(name)
    groups["the winner"] = top[:1]
    looks = {
        "stopped early": {"color": "--rest", "width": 1},
        "the others": {"color": "--second", "width": 1},
        "next best": {"color": "--go", "width": 1.5},
        "the winner": {"color": "--third", "width": 3.5},
    }
    data = [_lines(found.history, names, kind, looks[kind]) for kind, names in groups.items()]
    data = [trace for trace in data if trace["x"]]
    last = found.history.drop_duplicates("name", keep="last")
    cut = last[last["name"].map(state) == "stopped"]
    if len(cut):
        marks = points(
            cut,
            list(cut["percent"]),
            list(cut[OBJECTIVE]),
            "cut",
            symbol="x",
            size=7,
            color="--stop",
        )
        data.append(marks)
    rungs = sorted({rung for e in found.experiments for rung in rungs_of(e)})
    return Chart(
        "curves",
        "Learning curves",
        _curves_summary(found, len(cut), rungs),
        data,
        {
            "xaxis": axis("share of the trial's own schedule", ticksuffix="%", range=[0, 103]),
            "yaxis": figure_axis(found.history[OBJECTIVE]),
            "shapes": [_rung(rung) for rung in rungs],
        },
    )


def rungs_of(experiment: Experiment) -> list[float]:
    """At which shares of a schedule (per cent) trials were compared; none without halving."""
    scheduler: Mapping[str, Any] = experiment.record.get("scheduler") or {}
    if scheduler.get("kind") != "asha":
        return []
    rung, factor = float(scheduler["grace_percent"]), float(scheduler["reduction_factor"])
    found = []
    while rung < 100 and factor > 1:
        found.append(rung)
        rung *= factor
    return found


def _rung(at: float) -> dict[str, Any]:
    line = {"color": "--edge", "width": 1, "dash": "dot"}
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def _curves_summary(found: Overview, cut: int, rungs: Sequence[float]) -> str:
    told = f"Macro F1 after each epoch of {figures.several(len(found.trials), 'trial', 'trials')}"
    if rungs:
        told += (
            f", of which {cut} were cut early: at {' and '.join(f'{r:g}%' for r in rungs)} of its "
            "own schedule (dotted) a trial has to be among the best to go on"
        )
    return told + "."


def _lines(
    history: pd.DataFrame, names: Sequence[str], kind: str, line: Mapping[str, Any]
) -> Trace:
    """One trace for all trials of a kind, with a gap after each: a trace each would be slow."""
    x: list[float | None] = []
    y: list[float | None] = []
    who: list[str | None] = []
    for name, part in history[history["name"].isin(list(names))].groupby("name", sort=False):
        x += [*plain(part["percent"]), None]
        y += [*plain(part[OBJECTIVE]), None]
        who += [*[str(name)] * len(part), None]
    mode = "lines+markers"
    look = {"size": 4, "color": line["color"]}
    return {
        "type": "scatter", "mode": mode, "name": kind, "x": x, "y": y, "customdata": who,
        "line": dict(line), "marker": look,
    }  # fmt: skip


def cost(found: Overview) -> Chart:
    """Macro-F1 against what a trial cost, and the finished trials that none beats in both."""
    unit, factor = time_unit(float(found.trials["cost_seconds"].max() or 0.0))
    spent = found.trials["cost_seconds"].where(found.trials["cost_seconds"] > 0) / factor
    edge = front(found.ranked)
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "none is better and cheaper",
        "x": plain(edge["cost_seconds"] / factor),
        "y": plain(edge[OBJECTIVE]),
        "line": {"shape": "hv", "width": 2, "color": "--third", "dash": "dash"},
        "hoverinfo": "skip",
    }
    told = "; ".join(
        f"trial {row['name']} with {row[OBJECTIVE]:.4f} for {row['cost_seconds'] / factor:,.3g}"
        for row in rows(edge)
    )
    summary = f"Macro F1 against {unit} of training times workers."
    if told:
        summary += f" No finished trial is both better and cheaper than these: {told} {unit}."
    return Chart(
        "cost",
        "Quality against cost",
        summary,
        [line, *by_kind(found, spent)],
        {
            "xaxis": axis(f"training time times workers, {unit}", rangemode="tozero"),
            "yaxis": figure_axis(found.trials[OBJECTIVE]),
        },
    )


def front(ranked: pd.DataFrame) -> pd.DataFrame:
    """The Pareto front, the cheapest first: of these no trial is better for the same cost or
    less."""
    known = ranked[ranked["cost_seconds"] > 0]
    order = known.sort_values(["cost_seconds", OBJECTIVE], ascending=[True, False])
    return order[order[OBJECTIVE] > order[OBJECTIVE].cummax().shift(fill_value=-1.0)]
