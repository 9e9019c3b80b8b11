"""A replica's telemetry as Prometheus sees it: at the metrics port of Ray's own node agent."""

import re
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest
import ray
from ray import serve

from serve.exporter import ray_telemetry
from serve.meters import bucket, parts

LIMIT_S = 35
CALM_S = 2.0
_LINE = re.compile(r"(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# What Prometheus and the agent add themselves, and no one asked for.
_OURS = ("application", "deployment", "replica", "route", "status", "error_type", "stage", "le")
_OURS += ("label", "name", "version")

Labels = dict[str, str]
Scraped = list[tuple[str, Labels, float]]


# Ray sends metrics every ten seconds, which is long to wait for.
QUICKLY = {"env_vars": {"RAY_metrics_report_interval_ms": "1000"}}


@serve.deployment(ray_actor_options={"num_cpus": 0, "runtime_env": QUICKLY})
class Observed:
    """A replica without a model that says what one would say."""

    def __init__(self) -> None:
        self.telemetry = ray_telemetry()
        self.telemetry.model("router", "7", ["network", "mail"], [0.5, 0.5])

    def __call__(self) -> None:
        said = self.telemetry
        for _ in range(3):
            said.request("/v1/classify", 200, None, 0.03)
        said.request("/v1/classify", 429, "overloaded", 0.001)
        said.stage("queue", 0.02)
        said.batch(3, 60)
        said.waiting(4, 80)
        said.answers(["mail"] * 300, [0.75] * 300, [True] * 30 + [False] * 270, [False] * 300)
        said.refused(True)
        said.feedback(2)


@pytest.fixture(scope="module")
def scraped() -> Iterator[Scraped]:
    """What the node's exporter says once all of it has arrived."""
    serve.start(proxy_location="Disabled")
    handle = serve.run(Observed.bind(), name="watched", route_prefix=None)
    handle.remote().result(timeout_s=30)
    try:
        yield scrape(complete)
    finally:
        serve.shutdown()


def complete(found: Scraped) -> bool:
    """Every name is there, and what was said last has been counted."""
    last = [number for name, _, number in found if name == "ray_switchyard_feedback_total"]
    return {name for name, _, _ in found} >= exported() and last == [2.0]


def exported() -> set[str]:
    return {f"ray_{meter.name}" for meter in parts()}


def scrape(arrived: Callable[[Scraped], bool]) -> Scraped:
    port = ray.nodes()[0]["MetricsExportPort"]
    end = time.monotonic() + LIMIT_S
    found: Scraped = []
    same_since = time.monotonic()
    while time.monotonic() < end:
        before = found
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
            found = read(reply.read().decode())
        if found != before:
            same_since = time.monotonic()
        # Metric after metric arrives: all are there once nothing has changed for some reports.
        if arrived(found) and time.monotonic() - same_since >= CALM_S:
            return found
        time.sleep(0.2)
    missing = exported() - {name for name, _, _ in found}
    raise AssertionError(f"incomplete after {LIMIT_S} s; not exported: {sorted(missing)}")


def read(page: str) -> Scraped:
    # What trained on the same node before has series of its own.
    lines = (line for line in page.splitlines() if "switchyard_training" not in line)
    matches = (_LINE.match(line) for line in lines if "switchyard_" in line)
    return [
        (m["name"], {k: v for k, v in _LABEL.findall(m["labels"]) if k in _OURS}, float(m["value"]))
        for m in matches
        if m is not None
    ]


def value(scraped: Scraped, metric: str, /, **wanted: str) -> float:
    found = [
        number
        for seen, labels, number in scraped
        if seen == f"ray_{metric}" and wanted.items() <= labels.items()
    ]
    assert len(found) == 1, f"{len(found)} series of {metric} {wanted}"
    return found[0]


def test_counters_arrive_with_their_names_and_values(scraped: Scraped) -> None:
    route = "/v1/classify"
    assert value(scraped, "switchyard_requests_total", route=route, status="200") == 3
    assert value(scraped, "switchyard_requests_total", route=route, status="429") == 1
    assert value(scraped, "switchyard_errors_total", route=route, error_type="overloaded") == 1
    assert value(scraped, "switchyard_answers_total", label="mail") == 300
    assert value(scraped, "switchyard_abstentions_total") == 30
    assert value(scraped, "switchyard_feedback_total") == 2


def test_counters_that_have_not_counted_are_there_as_next_to_nothing(scraped: Scraped) -> None:
    assert 0 < value(scraped, "switchyard_truncations_total") < 1e-300
    assert 0 < value(scraped, "switchyard_answers_total", label="network") < 1e-300


def test_histograms_arrive_whole_and_with_their_true_sum(scraped: Scraped) -> None:
    seconds = "switchyard_request_seconds"
    by_bound = {
        labels["le"]: number for name, labels, number in scraped if name == f"ray_{bucket(seconds)}"
    }
    assert len(by_bound) == 15
    assert [round(by_bound[le]) for le in ("0.001", "0.025", "0.05", "+Inf")] == [1, 1, 4, 4]
    assert value(scraped, f"{seconds}_sum_total") == pytest.approx(0.091)
    assert value(scraped, "switchyard_stage_seconds_sum_total", stage="queue") == pytest.approx(
        0.02
    )
    assert value(scraped, "switchyard_batch_tokens_sum_total") == 60


def test_gauges_say_what_holds_now(scraped: Scraped) -> None:
    assert value(scraped, "switchyard_model_info", name="router", version="7") == 1
    assert value(scraped, "switchyard_waiting_tokens") == 80
    assert value(scraped, "switchyard_model_refused") == 1
    assert value(scraped, "switchyard_label_prior_share", label="mail") == 0.5
    assert value(scraped, "switchyard_label_window_answers") == 300
    assert value(scraped, "switchyard_label_drift_share") == pytest.approx(0.5, abs=0.03)


def test_every_series_names_its_replica_as_ray_serve_does(scraped: Scraped) -> None:
    assert {labels["application"] for _, labels, _ in scraped} == {"watched"}
    assert {labels["deployment"] for _, labels, _ in scraped} == {"Observed"}
    assert len({labels["replica"] for _, labels, _ in scraped}) == 1
