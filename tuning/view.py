"""From an overview of a search to what its page shows: tiles, rows of tables, charts, sentences.

How things look is the template's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from jobs.profiling import figures
from tuning import analysis, charts, config_file, parameter_charts
from tuning.analysis import OBJECTIVE
from tuning.confusion import confusion
from tuning.drawing import Chart, text, time_unit
from tuning.findings import findings, share_text
from tuning.overview import Overview, rows
from tuning.parameters import Parameter, shown


@dataclass(frozen=True)
class Row:
    """A trial in the leaderboard; `rank` is None for one that did not finish."""

    rank: int | None
    name: str
    state: str
    origin: str
    figures: Mapping[str, float | None]
    epochs: str
    cost_seconds: float
    values: Sequence[str]


def view(found: Overview) -> dict[str, Any]:
    """The values of search.html.j2."""
    best = found.best
    return {
        "facts": _facts(found),
        "counts": analysis.counts(found.trials),
        "running": found.running,
        "best": None if best is None else _best(found, best),
        "findings": findings(found),
        "rows": _rows(found),
        "keys": [p.key for p in found.parameters],
        "failed": _failed(found.trials),
        "assessment": found.assessment,
        "importances": _importances(found),
        "charts": _charts(found),
        "told": _told(found),
        "confusion": None if best is None else _confusion(found, best),
    }


def _facts(found: Overview) -> dict[str, str]:
    first = found.experiments[0].record
    places = {
        f"Experiment {found.letters.get(e.uri, '')}".strip(): e.uri for e in found.experiments
    }
    rows = first.get("rows") or {}
    size = " and ".join(f"{count:,} {split}" for split, count in rows.items())
    searches = [_search(e.record) for e in found.experiments]
    return {
        **places,
        "Data": str(first["data"]["uri"]),
        "Rows": f"{size} in {figures.several(len(first['labels']), 'class', 'classes')}",
        "Search": "; ".join(dict.fromkeys(searches)),
    }


def _search(record: Mapping[str, Any]) -> str:
    scheduler = (record.get("scheduler") or {}).get("kind", "none")
    stops = "no early stops" if scheduler == "none" else f"early stops by {scheduler.upper()}"
    return f"{str(record.get('algorithm', '')).upper()}, {stops}, seed {record.get('seed')}"


def _best(found: Overview, row: Mapping[str, Any]) -> dict[str, Any]:
    experiment, trial = found.found_at(row)
    known = rows(found.ranked[found.ranked["origin"] == "known"])
    beaten = known[0] if known and row["origin"] == "searched" else None
    return {
        "name": row["name"],
        "figures": _figures(row),
        "epoch": int(row["best_epoch"]),
        "epochs": int(row["epochs"]),
        "lead": row[OBJECTIVE] - beaten[OBJECTIVE] if beaten else None,
        "known": beaten["name"] if beaten else "",
        "toml": config_file.best_toml(experiment, trial, row),
    }


def _figures(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: figures.number(row, name) for name in analysis.METRICS}


def _rows(found: Overview) -> list[Row]:
    """Finished trials by rank, then the others that have a figure, the best first."""
    there = found.trials[found.trials[OBJECTIVE].notna() & (found.trials["state"] != "failed")]
    others = there.drop(found.ranked.index).sort_values(OBJECTIVE, ascending=False)
    held = found.in_force()
    return [
        Row(
            place if place <= len(found.ranked) else None,
            row["name"],
            row["state"],
            row["origin"],
            _figures(row),
            f"{row['best_epoch']} of {row['epochs']}",
            row["cost_seconds"],
            [
                shown(row[p.key]) if p in held[row["name"]] else figures.MISSING
                for p in found.parameters
            ],
        )
        for place, row in enumerate(rows(pd.concat([found.ranked, others])), 1)
    ]


def _failed(trials: pd.DataFrame) -> list[dict[str, str]]:
    """Trials without a place, and why."""
    gone = trials[(trials["state"] == "failed") | trials[OBJECTIVE].isna()]
    return [
        {"name": row["name"], "state": row["state"], "reason": row["reason"] or "no figure yet"}
        for row in rows(gone)
    ]


def _importances(found: Overview) -> list[dict[str, Any]]:
    told = []
    for row in found.assessment.rows:
        groups = sorted(row.groups, key=lambda group: -group.median)
        told.append(
            {
                "key": row.parameter.key,
                "trials": row.trials,
                "condition": row.parameter.condition(),
                "share": share_text(row.share),
                "to_the_top": share_text(row.to_the_top),
                "p_value": row.p_value,
                "best": groups[0] if groups else None,
                "worst": groups[-1] if len(groups) > 1 else None,
            }
        )
    return told


def _charts(found: Overview) -> dict[str, list[Chart]]:
    """The charts of each section; an empty list where there is nothing to draw."""
    some = bool(found.trials[OBJECTIVE].notna().any())
    return {
        "progress": charts.best_so_far(found) if some else [],
        "importance": [] if found.assessment.early else [parameter_charts.importance(found)],
        "slices": parameter_charts.slices(found) if some else [],
        "parallel": [parameter_charts.parallel(found)] if some and found.parameters else [],
        "curves": [charts.curves(found)] if some else [],
        "cost": [charts.cost(found)] if some else [],
    }


def _told(found: Overview) -> dict[str, str]:
    """What the page says at a mark of a trial: markup of plotly's, so all values are escaped."""
    held = found.in_force()
    return {row["name"]: _told_of(row, held[row["name"]]) for row in rows(found.trials)}


def _told_of(row: Mapping[str, Any], held: Sequence[Parameter]) -> str:
    figure = figures.decimal(figures.number(row, OBJECTIVE), 4)
    lines = [
        f"<b>trial {text(row['name'])}</b>, {text(row['state'])}",
        f"macro F1 {figure}, epoch {row['best_epoch']} of {row['epochs']}, "
        f"{duration(row['cost_seconds'])}",
    ]
    for p in held:
        value = parameter_charts.shorten(shown(row[p.key]), 40)
        lines.append(f"{text(p.key)} = {text(value)}")
    return "<br>".join(lines)


def _confusion(found: Overview, best: Mapping[str, Any]) -> dict[str, Any] | None:
    experiment, trial = found.found_at(best)
    labels = [str(label) for label in experiment.record["labels"]]
    return confusion(experiment.folder.confusion(trial.number), labels)


def duration(seconds: float | None) -> str:
    """As a person says it: 42 s, 7 min, 3.4 h."""
    if seconds is None or math.isnan(seconds):
        return figures.MISSING
    unit, factor = time_unit(seconds)
    short = {"seconds": "s", "minutes": "min", "hours": "h"}[unit]
    return f"{seconds / factor:.{1 if unit == 'hours' else 0}f} {short}"
