"""Adds up what the endpoint says of itself, in plain Python: one thread, no Ray, no clock."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from serve import drift, meters
from serve.drift import DriftWindow
from serve.meters import METERS
from serve.telemetry import Stage, Telemetry

# A metric's name, and the values of its labels in the order of `Meter.labels`.
Series = tuple[str, tuple[str, ...]]
_OF_A_MODEL = {
    "switchyard_model_info",
    "switchyard_label_prior_share",
    "switchyard_label_drift_share",
    "switchyard_label_window_answers",
}


class Ladder:
    """A histogram since it was last taken."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.names = [*(f"{bound:g}" for bound in bounds), "+Inf"]
        self.clear()

    def clear(self) -> None:
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def rungs(self) -> Iterator[tuple[str, int]]:
        """Every `le` with the number of observations up to it."""
        return zip(self.names, accumulate(self._counts), strict=True)

    def __bool__(self) -> bool:
        return any(self._counts)


class Tally(Telemetry):
    """What was said since it was last taken, and what holds now; for one thread."""

    def __init__(self, window: int = drift.WINDOW) -> None:
        """`window`: answers that the drift is computed from."""
        self._size = window
        self._window: DriftWindow | None = None
        self._ids: dict[str, int] = {}  # of the labels of the present model
        self._named: set[str] = set()  # labels that were ever shown under their own name
        self._answered: list[int] = []  # class ids that the window has not seen yet
        self._levels: dict[Series, float] = {}
        self._ladders: dict[Series, Ladder] = {}
        self._new: list[Series] = []  # ladders that were never taken
        # What counts from zero shows its first event as a rise, and not as a beginning.
        self._added: defaultdict[Series, float] = defaultdict(float)
        for meter in METERS.values():
            if meter.kind == "counter" and not meter.labels:
                self._added[meter.name, ()] = 0.0
            if meter.kind == "histogram" and not meter.labels:
                self._ladder(meter.name, ())
        for stage in ("queue", "tokenize", "infer"):
            self._ladder("switchyard_stage_seconds", (stage,))

    def request(self, route: str, status: int, error_type: str | None, seconds: float) -> None:
        route = meters.route_name(route)
        self._added["switchyard_requests_total", (route, meters.status_name(status))] += 1
        if error_type is not None:
            self._added["switchyard_errors_total", (route, meters.error_name(error_type))] += 1
        self._ladder("switchyard_request_seconds", (route,)).observe(seconds)

    def stage(self, name: Stage, seconds: float) -> None:
        self._ladder("switchyard_stage_seconds", (name,)).observe(seconds)

    def batch(self, rows: int, tokens: int) -> None:
        self._ladder("switchyard_batch_rows", ()).observe(rows)
        self._ladder("switchyard_batch_tokens", ()).observe(tokens)

    def waiting(self, requests: int, tokens: int) -> None:
        self._levels["switchyard_waiting_requests", ()] = requests
        self._levels["switchyard_waiting_tokens", ()] = tokens

    def answers(
        self,
        labels: Sequence[str],
        scores: Sequence[float] | npt.NDArray[np.float32],
        abstained: Sequence[bool] | npt.NDArray[np.bool_],
        truncated: Sequence[bool] | npt.NDArray[np.bool_],
    ) -> None:
        ladder = self._ladder("switchyard_answer_score", ())
        for label, score in zip(labels, np.asarray(scores).tolist(), strict=True):
            self._added["switchyard_answers_total", (self._shown(label),)] += 1
            ladder.observe(score)
            if label in self._ids:
                self._answered.append(self._ids[label])
        self._added["switchyard_abstentions_total", ()] += np.count_nonzero(abstained)
        self._added["switchyard_truncations_total", ()] += np.count_nonzero(truncated)

    def model(
        self, name: str, version: str, labels: Sequence[str], natural_prior: Sequence[float]
    ) -> None:
        """As in Telemetry; ValueError for a prior that is none, and then there is no drift.

        Of more labels than may have names the most frequent get them.
        """
        self._levels = {s: v for s, v in self._levels.items() if s[0] not in _OF_A_MODEL}
        self._levels["switchyard_model_info", (name, version)] = 1.0
        self._window, self._answered = None, []
        self._ids = {label: number for number, label in enumerate(labels)}
        if len(natural_prior) != len(labels):
            raise ValueError(
                f"{name} {version} has {len(labels)} labels and {len(natural_prior)} shares in its "
                "natural prior: there is one for each."
            )
        self._window = DriftWindow(natural_prior, self._size)
        for number in np.argsort(-self._window.prior, kind="stable").tolist():
            if len(self._named) < meters.MOST_LABELS:
                self._named.add(labels[number])
            share = float(self._window.prior[number])
            self._add_prior(self._shown(labels[number]), share)

    def refused(self, is_refused: bool) -> None:
        self._levels["switchyard_model_refused", ()] = float(is_refused)

    def feedback(self, count: int = 1) -> None:
        self._added["switchyard_feedback_total", ()] += count

    def take(self) -> tuple[dict[Series, float], dict[Series, float]]:
        """What every counter rose by since the last time, zero where one begins; and every gauge.

        Gauges come every time: Ray forgets one that is not set again.
        """
        self._look_for_drift()
        rises = dict(self._added)
        self._added.clear()
        for series, ladder in self._ladders.items():
            if ladder or series in self._new:
                rises |= _rises(series, ladder)
                ladder.clear()
        self._new.clear()
        return rises, dict(self._levels)

    def _look_for_drift(self) -> None:
        if self._window is None:
            return
        if self._answered:
            self._window.add(self._answered)
            self._answered = []
        self._levels["switchyard_label_window_answers", ()] = self._window.answers
        excess = self._window.excess()
        if excess is not None:
            self._levels["switchyard_label_drift_share", ()] = excess

    def _ladder(self, name: str, values: tuple[str, ...]) -> Ladder:
        series = (name, values)
        if series not in self._ladders:
            self._ladders[series] = Ladder(METERS[name].bounds)
            self._new.append(series)
        return self._ladders[series]

    def _shown(self, label: str) -> str:
        known = label in self._ids and label in self._named
        return label if known else meters.OTHER_LABEL

    def _add_prior(self, label: str, share: float) -> None:
        self._added["switchyard_answers_total", (label,)] += 0.0
        series = ("switchyard_label_prior_share", (label,))
        self._levels[series] = self._levels.get(series, 0.0) + share


def _rises(series: Series, ladder: Ladder) -> dict[Series, float]:
    name, values = series
    buckets: dict[Series, float] = {
        (meters.bucket(name), (*values, rung)): count for rung, count in ladder.rungs()
    }
    return buckets | {(meters.total(name), values): ladder.sum}
