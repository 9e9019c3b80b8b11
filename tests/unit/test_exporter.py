"""The exporter: nothing of what the endpoint says is lost, and nothing stands in its way."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from serve import drift, exporter
from serve.exporter import Exporter
from serve.tally import Series
from serve.telemetry import Telemetry
from tests.unit.tallying import LABELS, answer, buckets, model

ROOT = Path(__file__).resolve().parents[2]


class Written:
    """What an exporter wrote, added up as Prometheus would."""

    def __init__(self, fail: int = 0) -> None:
        self.rises: dict[Series, float] = {}
        self.levels: dict[Series, float] = {}
        self.times = 0
        self._fail = fail

    def __call__(self, rises: Mapping[Series, float], levels: Mapping[Series, float]) -> None:
        self.times += 1
        if self.times <= self._fail:
            raise RuntimeError("Ray is gone")
        for series, rise in rises.items():
            self.rises[series] = self.rises.get(series, 0) + rise
        self.levels = dict(levels)


def test_nothing_that_many_threads_say_at_once_is_lost() -> None:
    written = Written()
    telemetry = Exporter(written, every_s=0.001)
    model(telemetry)
    together = threading.Barrier(4)

    def talk() -> None:
        together.wait()
        for _ in range(2000):
            telemetry.request("/predict", 200, None, 0.01)
            telemetry.stage("infer", 0.01)
            answer(telemetry, "mail", "network")

    threads = [threading.Thread(target=talk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    telemetry.close()
    assert written.rises["switchyard_requests_total", ("/predict", "200")] == 8000
    assert written.rises["switchyard_answers_total", ("mail",)] == 8000
    assert buckets(written.rises, "switchyard_stage_seconds", "infer")["+Inf"] == 8000
    assert written.levels["switchyard_label_window_answers", ()] == drift.WINDOW


def test_what_was_said_last_is_written_when_the_endpoint_closes() -> None:
    written = Written()
    telemetry = Exporter(written, every_s=3600)
    telemetry.feedback()
    telemetry.batch(4, 80)
    telemetry.waiting(2, 40)
    telemetry.close()
    assert written.rises["switchyard_feedback_total", ()] == 1
    assert written.rises["switchyard_batch_tokens_sum_total", ()] == 80
    assert written.levels["switchyard_waiting_requests", ()] == 2
    assert written.times == 1


def test_a_write_that_fails_is_said_once_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    written = Written(fail=2)
    telemetry = Exporter(written, every_s=3600)
    with caplog.at_level(logging.ERROR, logger="ray.serve"):
        telemetry._add_up()
        telemetry._add_up()
        telemetry.feedback(5)
        telemetry.close()
    assert written.rises["switchyard_feedback_total", ()] == 5
    assert [record.message for record in caplog.records] == ["Metrics are incomplete from here on"]


def test_something_wrong_that_is_said_costs_itself_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    written = Written()
    telemetry = Exporter(written, every_s=3600)
    telemetry.model("router", "1", LABELS, [])
    telemetry.feedback()
    telemetry.close()
    assert written.rises["switchyard_feedback_total", ()] == 1
    assert len(caplog.records) == 1


def test_a_backlog_that_nobody_adds_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "BACKLOG", 10)
    written = Written()
    telemetry = Exporter(written, every_s=3600)
    for _ in range(100):
        telemetry.feedback()
    telemetry.close()
    assert written.rises["switchyard_feedback_total", ()] == 10


def test_the_telemetry_that_does_nothing_takes_everything() -> None:
    telemetry = Telemetry()
    model(telemetry)
    telemetry.request("/predict", 200, None, 0.1)
    telemetry.stage("queue", 0.1)
    telemetry.batch(1, 1)
    telemetry.waiting(0, 0)
    answer(telemetry, "mail")
    telemetry.refused(True)
    telemetry.feedback()
    telemetry.close()


def test_telemetry_imports_no_ray() -> None:
    program = "import sys\nsys.modules['ray'] = None\nimport serve.exporter, serve.telemetry"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
