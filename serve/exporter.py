"""From what the endpoint says of itself to Ray's metrics, which Prometheus scrapes on every node.

Saying something is one append to a deque, from any thread and without a lock. A thread of its own
adds up once a second and gives Ray the sums: 500 requests a second then cost what
tests/benchmarks/telemetry.py measures. Ray is imported when `ray_telemetry` is called.
"""

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serve import drift, meters
from serve.tally import Series, Tally
from serve.telemetry import Stage, Telemetry

# Ray sends its metrics every 10 seconds; what is waited for here only delays them.
EVERY_S = 1.0
# A minute of a very busy replica. If nobody adds up for longer, the oldest is forgotten: memory is
# worth more than numbers.
BACKLOG = 200_000
# Ray's counters refuse a rise by zero. This one is none: added to 1 it leaves 1.
NO_RISE = sys.float_info.min

Write = Callable[[Mapping[Series, float], Mapping[Series, float]], None]


class Exporter(Telemetry):
    """Telemetry that is added up and written by a thread of its own."""

    def __init__(
        self, write: Write, *, every_s: float = EVERY_S, window: int = drift.WINDOW
    ) -> None:
        """`write` is given every counter's rise and every gauge, each time; see `Tally.take`."""
        self._write = write
        self._every_s = every_s
        self._tally = Tally(window)
        self._said: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque(maxlen=BACKLOG)
        self._ended = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def request(self, route: str, status: int, error_type: str | None, seconds: float) -> None:
        self._said.append((self._tally.request, (route, status, error_type, seconds)))

    def stage(self, name: Stage, seconds: float) -> None:
        self._said.append((self._tally.stage, (name, seconds)))

    def batch(self, rows: int, tokens: int) -> None:
        self._said.append((self._tally.batch, (rows, tokens)))

    def waiting(self, requests: int, tokens: int) -> None:
        self._said.append((self._tally.waiting, (requests, tokens)))

    def answers(
        self,
        labels: Sequence[str],
        scores: Sequence[float] | npt.NDArray[np.float32],
        abstained: Sequence[bool] | npt.NDArray[np.bool_],
        truncated: Sequence[bool] | npt.NDArray[np.bool_],
    ) -> None:
        self._said.append((self._tally.answers, (labels, scores, abstained, truncated)))

    def model(
        self, name: str, version: str, labels: Sequence[str], natural_prior: Sequence[float]
    ) -> None:
        self._said.append((self._tally.model, (name, version, labels, natural_prior)))

    def refused(self, is_refused: bool) -> None:
        self._said.append((self._tally.refused, (is_refused,)))

    def feedback(self, count: int = 1) -> None:
        self._said.append((self._tally.feedback, (count,)))

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._add_up()
        self._add_up()

    def _add_up(self) -> None:
        """Never fails: an endpoint that cannot say how it does still has to work."""
        # What is said meanwhile waits for the next time.
        for _ in range(len(self._said)):
            understand, values = self._said.popleft()
            try:
                understand(*values)
            except Exception:
                self._complain()
        try:
            self._write(*self._tally.take())
        except Exception:
            self._complain()

    def _complain(self) -> None:
        """Once, or the log would have it every second."""
        if not self._complained:
            self._complained = True
            logging.getLogger("ray.serve").exception("Metrics are incomplete from here on")


def ray_telemetry() -> Exporter:
    """The telemetry of a replica; to be made in it, after Ray Serve has made it a replica.

    Ray Serve adds the labels `application`, `deployment` and `replica`, as on metrics of its own.
    """
    from ray.serve import metrics

    labels = {meter.name: meter.labels for meter in meters.parts()}
    counters: dict[str, Any] = {}
    gauges: dict[str, Any] = {}
    for meter in meters.parts():
        kind, made = (
            (metrics.Counter, counters) if meter.kind == "counter" else (metrics.Gauge, gauges)
        )
        made[meter.name] = kind(meter.name, description=meter.description, tag_keys=meter.labels)

    def write(rises: Mapping[Series, float], levels: Mapping[Series, float]) -> None:
        for (name, values), rise in rises.items():
            tags = dict(zip(labels[name], values, strict=True))
            counters[name].inc(float(rise) or NO_RISE, tags)
        for (name, values), level in levels.items():
            gauges[name].set(float(level), dict(zip(labels[name], values, strict=True)))

    return Exporter(write)
