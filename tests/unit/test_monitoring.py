"""The dashboard and the alerts: what they ask for exists, and a person can read it."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from cluster.monitoring import dashboard, elsewhere
from jobs import pulse
from serve import drift
from serve.meters import METERS, parts

FOLDER = Path(dashboard.__file__).parent
RAY = Path(ray.__file__).parent
OURS = {f"ray_{part.name}" for part in parts()} | {f"ray_{pulse.BATCHES}", f"ray_{pulse.IDLE}"}
COUNTERS = {f"ray_{part.name}" for part in parts() if part.kind == "counter"}
COUNTERS |= {f"ray_{pulse.BATCHES}", "haproxy_frontend_http_responses_total"}
# Of Ray, with the prefix that it adds; all are gauges, which get no suffix.
RAYS = {
    "ray_node_disk_utilization_percentage",
    "ray_serve_deployment_replica_healthy",
    "ray_serve_deployment_queued_queries",
    "ray_serve_autoscaling_target_replicas",
    "ray_serve_replica_processing_queries",
}
# Of HAProxy and of Prometheus itself.
OTHERS = {"haproxy_frontend_http_responses_total", "up"}
PROMQL = {
    *("sum", "max", "avg", "count", "topk", "rate", "increase", "absent", "scalar"),
    *("histogram_quantile", "by", "on", "and", "offset"),
}
LABELS = {label for part in parts() for label in part.labels}
LABELS |= {"application", "deployment", "replica"}  # which Ray Serve adds
LABELS |= {"run", "part", "ip", "proxy", "code", "instance", "job"}

DASHBOARD: dict[str, Any] = json.loads(dashboard.FILE.read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
QUERIES += [rule["expr"] for rule in RULES]


def metrics_of(query: str) -> set[str]:
    """Every word that stands for a metric: what is left without selectors, labels and PromQL."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on) \([^)]*\)|\boffset \w+", " ", query)
    return set(re.findall(r"\b[a-zA-Z_]\w*", bare)) - PROMQL


def labels_of(query: str) -> set[str]:
    grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
    selected = re.findall(r"\{([^}]*)\}", query)
    return {name for group in grouped for name in re.findall(r"\w+", group)} | {
        name for selector in selected for name in re.findall(r"(\w+)=~?\"", selector)
    }


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_asks_for_metrics_and_labels_that_exist(query: str) -> None:
    found = metrics_of(query)
    assert found
    assert found <= OURS | RAYS | OTHERS
    assert labels_of(query) <= LABELS


@pytest.mark.parametrize("query", QUERIES)
def test_a_counter_is_read_as_a_rate_and_a_gauge_as_it_is(query: str) -> None:
    for metric in metrics_of(query):
        rated = re.search(rf"(?:rate|increase)\({metric}\b[^)]*\[[^\]]+\]", query)
        assert (rated is not None) == (metric in COUNTERS)


@pytest.mark.parametrize("query", QUERIES)
def test_parentheses_are_closed(query: str) -> None:
    depth = 0
    for sign in re.sub(r'"[^"]*"', "", query):
        depth += (sign == "(") - (sign == ")")
        assert depth >= 0
    assert depth == 0


def test_a_query_for_something_that_does_not_exist_would_be_seen() -> None:
    assert metrics_of('sum by (route) (rate(ray_typo_total{route="/"}[5m])) > 1') == {
        "ray_typo_total"
    }
    assert labels_of('sum by (typo) (rate(x{rout=~"/"}[5m]))') == {"typo", "rout"}


def test_the_metrics_of_ray_are_in_the_ray_that_is_installed() -> None:
    places = ("serve/_private/*.py", "dashboard/modules/reporter/reporter_agent.py")
    paths = [path for place in places for path in RAY.glob(place)]
    source = "".join(path.read_text(encoding="utf-8") for path in paths)
    for name in RAYS:
        defined = rf'Gauge\(\s*"{name.removeprefix("ray_")}"'
        assert re.search(defined, source), name


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    shown = set().union(*(metrics_of(query) for query in QUERIES))
    names = {*METERS, pulse.BATCHES, pulse.IDLE}
    missing = {name for name in names if not any(f"ray_{name}" in metric for metric in shown)}
    assert missing == set()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_says_what_it_shows_and_in_what_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    assert panel["datasource"]["uid"] == "${datasource}"
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)


def test_panels_lie_in_the_grid_and_not_on_one_another() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart_y = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart_x or apart_y
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_variables_that_queries_use_are_defined() -> None:
    defined = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = {name for query in QUERIES for name in re.findall(r"\$(\w+)", query)}
    assert used - {"__rate_interval"} <= defined
    assert "datasource" in defined


def test_the_file_is_what_its_source_makes() -> None:
    assert dashboard.dashboard() == DASHBOARD


@pytest.mark.parametrize(
    ("metric", "alert", "threshold"),
    [
        ("label_drift_share", "SwitchyardDrift", drift.ALARM),
        ("training_idle_seconds", "SwitchyardTrainingStalled", elsewhere.STALLED_S),
        ("node_disk_utilization", "SwitchyardDiskFilling", elsewhere.DISK_PERCENT),
    ],
)
def test_the_line_of_a_panel_is_where_its_alert_begins(
    metric: str, alert: str, threshold: float
) -> None:
    drawn = [
        step["value"]
        for panel in PANELS
        if metric in panel["targets"][0]["expr"]
        for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    ]
    assert drawn == [None, threshold]
    rule = next(rule for rule in RULES if rule["alert"] == alert)
    assert float(rule["expr"].rpartition(">")[2]) == threshold


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_what_an_alert_says_names_only_labels_that_it_has(rule: dict[str, Any]) -> None:
    said = " ".join(rule["annotations"].values())
    grouped = re.search(r"\bby \(([^)]*)\)", rule["expr"])
    kept = {"instance", "job"} if grouped is None else set(grouped[1].split(", "))
    assert set(re.findall(r"\$labels\.(\w+)", said)) <= kept


def test_alerts_have_what_prometheus_and_the_one_on_call_need() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+m", rule["for"])
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def test_prometheus_finds_nodes_by_the_file_that_ray_writes() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    scrapes = read("prometheus.yml")["scrape_configs"]
    assert [scrape["job_name"] for scrape in scrapes] == ["ray", "haproxy"]
    for scrape in scrapes:
        (place,) = scrape["file_sd_configs"]
        assert place["files"] == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]


def test_grafana_loads_our_dashboard_and_those_of_ray_and_knows_one_prometheus() -> None:
    (source,) = read("grafana/datasources/prometheus.yaml")["datasources"]
    assert source["type"] == "prometheus"
    assert source["isDefault"]
    interval = read("prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    providers = read("grafana/dashboards/dashboards.yaml")["providers"]
    paths = {provider["name"]: provider["options"]["path"] for provider in providers}
    ours = Path(paths["switchyard"].replace("$SWITCHYARD_MONITORING", str(FOLDER)))
    assert [path.name for path in ours.rglob("*.json")] == [dashboard.FILE.name]
    assert paths["ray"] == "$RAY_TEMP/session_latest/metrics/grafana/dashboards"
