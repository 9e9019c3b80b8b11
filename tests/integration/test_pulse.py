"""What a run says of itself, as Prometheus sees it at the metrics port of Ray's node agent."""

import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, cast

import pytest
import ray

from jobs.classifier.batches import Batch
from jobs.pulse import observed
from tests.integration.test_telemetry import LIMIT_S, QUICKLY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

_LINE = re.compile(r"ray_switchyard_training_(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)")


class Feed:
    """As many batches that are none as it is asked for."""

    def training_rows(self, epoch: int) -> int:
        return 3

    def training(self, epoch: int, start: int) -> Iterator[Batch]:
        return iter([cast(Batch, number) for number in range(start, 3)])

    def validation(self) -> Iterator[Batch]:
        return self.training(0, 2)


@ray.remote(num_cpus=0, runtime_env=QUICKLY)
class Run:
    """Two runs one after the other, as trials of a search share a process; the second stays."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def go(self) -> None:
        with observed(Feed(), "first", 0) as feed:
            assert len(list(feed.training(0, 0))) == 3
        with observed(Feed(), "second", 0) as feed:
            assert len(list(feed.training(0, 1))) == 2
            assert len(list(feed.validation())) == 1
            assert self.ended.wait(3 * LIMIT_S)

    def end(self) -> None:
        self.ended.set()


def scrape() -> dict[tuple[str, str, str], float]:
    """(metric, run, part) → value."""
    port = ray.nodes()[0]["MetricsExportPort"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        lines = [_LINE.match(line) for line in reply.read().decode().splitlines()]
    found = {}
    for line in lines:
        if line is not None:
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line["labels"]))
            key = (line["name"], labels["run"], labels.get("part", ""))
            found[key] = float(line["value"])
    return found


def until(condition: Any) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition(scrape()):
        assert time.monotonic() < end, scrape()
        time.sleep(0.3)


def test_batches_are_counted_for_each_run_and_only_one_under_way_has_an_idle_time() -> None:
    counts = {
        ("batches_total", "first", "training"): 3.0,
        ("batches_total", "second", "training"): 2.0,
        ("batches_total", "second", "validation"): 1.0,
    }
    run = Run.options(max_concurrency=2).remote()
    gone = run.go.remote()
    ended, under_way = ("idle_seconds", "first", ""), ("idle_seconds", "second", "")
    try:
        until(lambda found: counts.items() <= found.items())
        # What the first said when it ended stays for a while, until Ray forgets it.
        until(lambda found: {ended, under_way} <= set(found))
        until(lambda found: ended not in found and under_way in found)
        assert 0 < scrape()[under_way] < 3 * LIMIT_S
        ray.get(run.end.remote())
        ray.get(gone)
    finally:
        ray.kill(run)
