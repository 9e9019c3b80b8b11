"""Debian's Prometheus over a real cluster: what panels and alerts ask for is there, and is right.

The cluster serves a tiny BERT under traffic, and a run trains beside it. Without the package
prometheus these are skipped.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cluster.registry import CHAMPION, Registry
from tests.end_to_end.conftest import ROOT, Cluster
from tests.end_to_end.endpoints import KEY, Endpoint, running, until
from tests.end_to_end.scraping import MONITORING, PROMETHEUS, Prometheus, scraping
from tests.end_to_end.traffic import traffic
from tests.integration.conftest import write_tickets
from tests.unit.test_monitoring import PANELS, QUERIES, RULES, metrics_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed"),
]
NAME, RUN = "tickets", "nightly"
# Of the alerts, what this machine decides and no test: its disk, and how fast it is beside a
# training that starts. And that one text over and over is drift.
BY_THE_MACHINE = {
    "SwitchyardDiskFilling", "SwitchyardDiskFull", "SwitchyardSlow", "SwitchyardQueue",
}  # fmt: skip
EXPECTED = {"SwitchyardDrift": "pending"}
# Asks for what was two hours, a day or a week ago: on a cluster that is a minute old, for nothing.
HISTORY = re.compile(r"offset|\[\dd\]")


@pytest.fixture(scope="module")
def registry(
    tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Path]
) -> Registry:
    """A sound champion, with a damaged version beside it."""
    home = tmp_path_factory.mktemp("registry")
    made = Registry(str(home / "registry"))
    sound = made.publish(NAME, make_bundle(home / "sound"), "bundle.json")
    made.point(NAME, CHAMPION, sound, expected=None, reason="a test")
    return made


@pytest.fixture(scope="module")
def endpoint(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Endpoint]:
    home = tmp_path_factory.mktemp("endpoint")
    with pytest.MonkeyPatch.context() as patch:
        # Ray sends metrics every ten seconds, which is long to wait for. Gauges are forgotten after
        # twice this time, and some are said every five seconds: each report has them.
        patch.setenv("RAY_metrics_report_interval_ms", "6000")
        with running(home, free_port(), cpus=4) as found:
            found.deploy(
                "--registry", registry.uri, "--registry.poll_s", "0.5", "--name", NAME,
                "--keys", str(home / "keys.txt"), "--feedback.uri", str(home / "feedback"),
                "--autoscaling.max_replicas", "1", "--threads", "1",
            )  # fmt: skip
            yield found


@pytest.fixture(scope="module")
def prometheus(endpoint: Endpoint, free_port: Callable[[], int]) -> Iterator[Prometheus]:
    with scraping(endpoint.home, free_port()) as found:
        yield found


@pytest.fixture(scope="module")
def training(
    endpoint: Endpoint, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A run of `jobs.train` that does not end by itself."""
    home = tmp_path_factory.mktemp("training")
    rows: list[dict[str, object]] = [
        {"text": f"{word} is down {number}", "label": word}
        for word in ("mail", "vpn", "printer")
        for number in range(60)
    ]
    source = write_tickets(home / "source", rows)
    prepared, address = str(home / "prepared"), endpoint.written["dashboard"]
    done = Cluster(home, address).submit(
        "python", "-m", "jobs.prepare", "--source", str(source), "--output", prepared
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster.submit", "--address", address, "--working-dir", str(ROOT),
         "--", "python", "-m", "jobs.train", "--data", prepared, "--output", str(home / RUN),
         "--model.name", str(tiny_model), "--model.max_tokens", "16", "--scaling.workers", "1",
         "--train.epochs", "100000", "--checkpoint.keep", "1"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:  # the job itself ends with its cluster
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def asked(endpoint: Endpoint, prometheus: Prometheus, training: None) -> int:
    """How many requests were answered with 200, after others that were refused."""
    headers = {"Authorization": f"Bearer {KEY}"}
    correction = {"text": "vpn is down", "label": "network"}
    assert post(endpoint, "/v1/feedback", correction, headers) == 200
    assert post(endpoint, "/v1/classify", {"texts": 7}, headers) == 422
    assert post(endpoint, "/v1/classify", {"texts": ["vpn"]}, {}) == 401
    with traffic(endpoint.url, KEY, clients=2) as seen:
        until(lambda: len(seen.calls) > 600, "600 answers", 120)
    assert not any(call.failed for call in seen.calls)
    return len(seen.calls)


def post(endpoint: Endpoint, route: str, body: Any, headers: dict[str, str]) -> int:
    return httpx.post(f"{endpoint.url}{route}", json=body, headers=headers).status_code


def test_nodes_and_their_haproxy_are_found_and_answer(prometheus: Prometheus) -> None:
    def up() -> set[str]:
        return {labels["job"] for labels, value in prometheus.ask("up") if value == 1}

    until(lambda: up() == {"ray", "haproxy"}, "every target")


def test_the_counter_of_requests_agrees_with_the_clients(
    prometheus: Prometheus, asked: int
) -> None:
    count = 'sum(ray_switchyard_requests_total{route="/v1/classify",status="200"})'
    until(lambda: prometheus.value(count) == asked, f"{asked} requests")
    fronts = 'sum(haproxy_frontend_http_responses_total{proxy="http_frontend",code="2xx"})'
    until(lambda: (prometheus.value(fronts) or 0) > asked, "HAProxy's count")
    refused = count.replace("sum(", "sum by (status) (").replace('status="200"', 'status!="200"')

    def counted() -> dict[str, int]:
        return {labels["status"]: round(value) for labels, value in prometheus.ask(refused)}

    until(lambda: counted() == {"401": 1, "422": 1}, lambda: f"two refused, and not {counted()}")


def test_a_run_says_that_it_moves(prometheus: Prometheus, asked: int) -> None:
    batches = f'sum by (part) (ray_switchyard_training_batches_total{{run="{RUN}"}})'
    until(lambda: len(prometheus.ask(batches)) == 2, "both parts", 180)
    before = {labels["part"]: value for labels, value in prometheus.ask(batches)}
    until(
        lambda: all(value > before[labels["part"]] for labels, value in prometheus.ask(batches)),
        "more batches",
    )
    idle = f'ray_switchyard_training_idle_seconds{{run="{RUN}"}}'
    until(lambda: [0 <= value < 60 for _, value in prometheus.ask(idle)] == [True], "idle seconds")


def test_every_metric_that_is_asked_for_is_there(prometheus: Prometheus, asked: int) -> None:
    wanted = set().union(*(metrics_of(query) for query in QUERIES))

    def missing() -> set[str]:
        return wanted - set(prometheus.get("label/__name__/values"))

    until(lambda: not missing(), lambda: f"the metrics {missing()}")


def test_every_panel_shows_something(prometheus: Prometheus, asked: int) -> None:
    queries = {
        panel["title"]: [
            target["expr"].replace("$__rate_interval", "5m").replace("$application", ".*")
            for target in panel["targets"]
        ]
        for panel in PANELS
    }
    for title, exprs in queries.items():
        for expr in exprs:
            # Some come late, and are gone for a while: Serve's controller says its own rarely.
            until(partial(prometheus.ask, expr), f"figures for {expr} in the panel {title}")


def test_every_alert_is_understood_and_none_is_so_much_as_pending_without_a_cause(
    prometheus: Prometheus, asked: int
) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    until(lambda: {rule["health"] for rule in rules()} == {"ok"}, "rules that were evaluated")
    assert {rule["name"] for rule in rules()} == {rule["alert"] for rule in RULES}

    def stirring() -> dict[str, str]:
        found = {rule["name"]: rule["state"] for rule in rules() if rule["state"] != "inactive"}
        return {name: state for name, state in found.items() if name not in BY_THE_MACHINE}

    until(lambda: stirring() == EXPECTED, lambda: f"{EXPECTED} and not {stirring()}")
    for rule in RULES:
        # What it looks at, whatever that is now, and of whatever status.
        query = re.sub(r" (?:[<>]|==) [\d.]+$", "", rule["expr"])
        query = re.sub(r'(status=~?|code=)"[^"]*"', "", query)
        if not HISTORY.search(query) and "absent" not in query:
            until(partial(prometheus.ask, query), f"what {rule['alert']} looks at")


def test_a_champion_that_is_refused_is_seen(
    prometheus: Prometheus, endpoint: Endpoint, registry: Registry, asked: int,
    tmp_path: Path, make_bundle: Callable[..., Path],
) -> None:  # fmt: skip
    refused = "max(ray_switchyard_model_refused)"
    until(lambda: prometheus.value(refused) == 0, "a model that is not refused")
    damaged = make_bundle(tmp_path / "damaged")
    with (damaged / "model.safetensors").open("ab") as file:
        file.write(b"x")
    version = registry.publish(NAME, damaged, "bundle.json")
    before = registry.aliases(NAME)[CHAMPION]
    registry.point(NAME, CHAMPION, version, expected=before, reason="a test")
    until(lambda: prometheus.value(refused) == 1, "the refusal")
    registry.roll_back(NAME, CHAMPION, reason="it is damaged")
    until(lambda: prometheus.value(refused) == 0, "the rollback")
    assert endpoint.info()["model"]["version"] == before


def test_ray_makes_its_dashboards_where_grafana_looks_for_them(endpoint: Endpoint) -> None:
    written = yaml.safe_load((MONITORING / "grafana/dashboards/dashboards.yaml").read_text())
    (path,) = [p["options"]["path"] for p in written["providers"] if p["name"] == "ray"]
    found = Path(path.replace("$RAY_TEMP", endpoint.written["temp"])).glob("*.json")
    titles = {json.loads(file.read_text())["title"] for file in found}
    assert {"Default Dashboard", "Serve Dashboard", "Train Dashboard"} <= titles
