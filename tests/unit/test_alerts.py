"""The alerts, run by promtool on made-up series: each fires in its own fault and in no other.

Debian's package prometheus brings promtool; without it these are skipped.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.monitoring import dashboard
from tests.unit.test_monitoring import RULES

FOLDER = Path(dashboard.__file__).parent
PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")

APP = 'application="switchyard"'
CLASSIFY = f'{APP},route="/v1/classify"'
SERVED = f'ray_switchyard_model_info{{{APP},replica="a",name="router",version="1"}}'
SECONDS = f"ray_switchyard_request_seconds_bucket_total{{{CLASSIFY},le="
QUEUE = f'ray_switchyard_stage_seconds_bucket_total{{{APP},stage="queue",le='
FRONT = 'haproxy_frontend_http_responses_total{instance="10.0.0.1:9101",proxy="http_frontend",code='
# A day on which all is well: by series, its values in promtool's notation, one a
# minute unless a fault wants it otherwise.
HEALTHY = {
    SERVED: "1x1600",
    f'ray_switchyard_requests_total{{{CLASSIFY},status="200"}}': "0+600x1600",
    f'ray_switchyard_requests_total{{{CLASSIFY},status="429"}}': "0+6x1600",
    f'ray_switchyard_requests_total{{{CLASSIFY},status="500"}}': "0+1x1600",
    f'{FRONT}"2xx"}}': "0+600x1600",
    f'{FRONT}"5xx"}}': "0+1x1600",
    f'{SECONDS}"0.1"}}': "0+599x1600",
    f'{SECONDS}"2.5"}}': "0+600x1600",
    f'{SECONDS}"+Inf"}}': "0+600x1600",
    f'{QUEUE}"0.1"}}': "0+590x1600",
    f'{QUEUE}"1"}}': "0+600x1600",
    f'{QUEUE}"+Inf"}}': "0+600x1600",
    f"ray_switchyard_label_drift_share{{{APP}}}": "0.02x1600",
    f'ray_switchyard_answers_total{{{APP},label="mail"}}': "0+600x1600",
    f"ray_switchyard_abstentions_total{{{APP}}}": "0+30x1600",
    f"ray_switchyard_feedback_total{{{APP}}}": "0+1x1600",
    f"ray_switchyard_model_refused{{{APP}}}": "0x1600",
    'ray_switchyard_training_idle_seconds{run="nightly"}': "3x1600",
    'ray_node_disk_utilization_percentage{ip="10.0.0.1"}': "40x1600",
    'up{job="ray",instance="10.0.0.1:8080"}': "1x1600",
    'up{job="haproxy",instance="10.0.0.2:9101"}': "0x1600",
}


@dataclass(frozen=True)
class Fault:
    """What is otherwise than on the day when all is well; None: the series is missing."""

    series: Mapping[str, str | None]
    minutes: int = 90
    every: int = 1  # minutes between samples
    with_it: frozenset[str] = field(default_factory=frozenset)  # other alerts that fire rightly


FAULTS = {
    "SwitchyardNoReplica": Fault({SERVED: None}),
    "SwitchyardErrors": Fault(
        {f'ray_switchyard_requests_total{{{CLASSIFY},status="500"}}': "0+12x100"}
    ),
    "SwitchyardFrontErrors": Fault({f'{FRONT}"5xx"}}': "0+12x100"}),
    "SwitchyardOverloaded": Fault(
        {f'ray_switchyard_requests_total{{{CLASSIFY},status="429"}}': "0+60x100"}
    ),
    "SwitchyardQueue": Fault({f'{QUEUE}"0.1"}}': "0+500x100"}),
    "SwitchyardSlow": Fault({f'{SECONDS}"0.1"}}': "0+580x100"}),
    "SwitchyardDrift": Fault({f"ray_switchyard_label_drift_share{{{APP}}}": "0.15x100"}),
    "SwitchyardAbstains": Fault(
        {f"ray_switchyard_abstentions_total{{{APP}}}": "0+30x150 4500+120x9"},
        minutes=1580,
        every=10,
    ),
    "SwitchyardVersionsDiffer": Fault({SERVED.replace('"a"', '"b"').replace('"1"', '"2"'): "1x99"}),
    "SwitchyardModelRefused": Fault({f"ray_switchyard_model_refused{{{APP}}}": "1x100"}),
    # Two weeks, one with corrections and one without.
    "SwitchyardFeedbackStopped": Fault(
        {f"ray_switchyard_feedback_total{{{APP}}}": "0+1x165 165x200"}, minutes=20_400, every=60
    ),
    "SwitchyardTrainingStalled": Fault(
        {'ray_switchyard_training_idle_seconds{run="nightly"}': "0+60x100"}
    ),
    "SwitchyardNodeUnseen": Fault({'up{job="ray",instance="10.0.0.1:8080"}': "0x100"}),
    "SwitchyardDiskFilling": Fault(
        {'ray_node_disk_utilization_percentage{ip="10.0.0.1"}': "88x100"}
    ),
    "SwitchyardDiskFull": Fault(
        {'ray_node_disk_utilization_percentage{ip="10.0.0.1"}': "94x100"},
        with_it=frozenset({"SwitchyardDiskFilling"}),
    ),
}


def promtool(*words: str, cwd: Path = FOLDER) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def expect(folder: Path, fault: Fault, firing: set[str]) -> None:
    """That exactly these alerts fire at the end of the fault, and else none is even pending."""
    series: dict[str, Any] = {**HEALTHY, **fault.series}
    state = "" if not firing else '{alertstate="firing"}'
    test = {
        "interval": f"{fault.every}m",
        "input_series": [
            {"series": name, "values": values}
            for name, values in series.items()
            if values is not None
        ],
        "promql_expr_test": [
            {
                "expr": f"count by (alertname) (ALERTS{state}) > bool 0",
                "eval_time": f"{fault.minutes}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)
                ],
            }
        ],
    }
    written = {
        "rule_files": [str(FOLDER / "alerts.yaml")],
        "evaluation_interval": f"{fault.every}m",
        "tests": [test],
    }
    (folder / "test.yaml").write_text(json.dumps(written))  # which is YAML too
    promtool("test", "rules", "test.yaml", cwd=folder)


def test_prometheus_takes_the_configuration_and_the_rules_that_it_names() -> None:
    promtool("check", "config", "prometheus.yml")


def test_on_a_healthy_day_no_alert_fires(tmp_path: Path) -> None:
    expect(tmp_path, Fault({}), set())


@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_in_its_fault_and_no_other_does(alert: str, tmp_path: Path) -> None:
    expect(tmp_path, FAULTS[alert], {alert, *FAULTS[alert].with_it})


def test_an_alert_that_did_not_fire_would_be_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="FAILED"):
        expect(tmp_path, Fault({}), {"SwitchyardErrors"})


def test_every_alert_has_a_fault() -> None:
    assert {rule["alert"] for rule in RULES} == set(FAULTS)
