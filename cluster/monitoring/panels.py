"""Queries and panels in Grafana's schema, and where they lie on the page. Knows no content."""

from collections.abc import Sequence
from typing import Any

_WIDTH = 24  # columns of Grafana's grid
_HEIGHT = 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
US = 'application=~"$application"'

Query = tuple[str, str]  # PromQL, legend


def rate(counter: str, by: str = "", select: str = US) -> str:
    """Events a second of all replicas, apart by a label."""
    apart = f" by ({by})" if by else ""
    return f"sum{apart} (rate(ray_switchyard_{counter}{{{select}}}[$__rate_interval]))"


def quantile(q: float, histogram: str, by: str = "", select: str = US) -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket_total', labels, select)})"


def mean(histogram: str) -> str:
    """Of all observations: their sum over their number."""
    number = rate(f"{histogram}_bucket_total", select=f'{US}, le="+Inf"')
    return f"{rate(f'{histogram}_sum_total')} / {number}"


def quantiles(histogram: str, *levels: float, select: str = US) -> list[Query]:
    return [(quantile(q, histogram, select=select), f"p{100 * q:g}") for q in levels]


def panel(
    title: str,
    unit: str,
    description: str,
    queries: Sequence[Query],
    *,
    kind: str = "timeseries",
    alarm: float | None = None,
) -> dict[str, Any]:
    """A panel without a place; `alarm` draws a line."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    custom: dict[str, Any] = {"fillOpacity": 8, "lineWidth": 1} if kind == "timeseries" else {}
    if alarm is not None:
        steps.append({"color": "red", "value": alarm})
        custom["thresholdsStyle"] = {"mode": "line"}
    options = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + k), "expr": expr, "legendFormat": legend, "range": True}
            | {"datasource": SOURCE}
            for k, (expr, legend) in enumerate(queries)
        ],
    }


def lay_out(sections: Sequence[tuple[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """A row for each section, its panels below it, three beside one another."""
    placed: list[dict[str, Any]] = []
    y, width = 0, _WIDTH // 3
    for title, panels in sections:
        place = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
        placed.append({"type": "row", "title": title, "collapsed": False, "panels": []})
        placed[-1]["gridPos"] = place
        y += 1
        for k, item in enumerate(panels):
            place = {"h": _HEIGHT, "w": width, "x": width * (k % 3), "y": y + _HEIGHT * (k // 3)}
            placed.append(item | {"gridPos": place})
        y += _HEIGHT * -(-len(panels) // 3)
    return [item | {"id": number} for number, item in enumerate(placed, 1)]
