"""The metrics of the endpoint: names, meanings, labels, and the fixed sets of label values.

Ray adds `ray_` in front of a name, and `_total` to a counter that does not end so (2.60). A
histogram is given to Ray as counters, `NAME_bucket_total{le}` and `NAME_sum_total`, and not as
Ray's own Histogram: that one cannot add n observations at once, its node agent replays every one of
them (11 microseconds each, measured), and it makes up the sum from the middles of the buckets.
`histogram_quantile` works on these as on any other; the number of observations is `le="+Inf"`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from serve.errors import RequestError

OTHER = "other"
# A team may well be called "other".
OTHER_LABEL = "(other)"
MOST_LABELS = 1000
ROUTES = frozenset(
    {
        "/",
        "/docs",
        "/health",
        "/info",
        "/models/{name}",
        "/openapi.json",
        "/predict",
        "/ready",
        "/v1/classify",
        "/v1/feedback",
    }
)
# The last three are of answers that no error of ours makes: unknown routes, and faults.
ERROR_TYPES = frozenset(
    {
        RequestError.kind,
        *(error.kind for error in RequestError.__subclasses__()),
        "internal",
        "method_not_allowed",
        "not_found",
    }
)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Meter:
    """One metric; `bounds` are the upper bounds of a histogram's buckets, each included."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


METERS = {
    meter.name: meter
    for meter in (
        Meter("switchyard_requests_total", "counter", "requests answered", ("route", "status")),
        Meter("switchyard_errors_total", "counter", "requests refused", ("route", "error_type")),
        Meter(
            "switchyard_request_seconds",
            "histogram",
            "time from the first byte read to the reply",
            ("route",),
            _SECONDS,
        ),
        Meter(
            "switchyard_stage_seconds",
            "histogram",
            "time in a stage: queue and tokenize by request, infer by turn of the model",
            ("stage",),
            _SECONDS,
        ),
        Meter(
            "switchyard_batch_rows",
            "histogram",
            "texts in one turn of the model",
            bounds=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        ),
        Meter(
            "switchyard_batch_tokens",
            "histogram",
            "tokens in one turn of the model",
            bounds=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
        ),
        Meter("switchyard_waiting_requests", "gauge", "requests waiting for the model"),
        Meter("switchyard_waiting_tokens", "gauge", "tokens waiting for the model"),
        Meter("switchyard_answers_total", "counter", "texts answered, by their label", ("label",)),
        Meter(
            "switchyard_answer_score",
            "histogram",
            "calibrated score of the label that was answered",
            bounds=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99),
        ),
        Meter("switchyard_abstentions_total", "counter", "texts answered with: ask a human"),
        Meter("switchyard_truncations_total", "counter", "texts longer than the model reads"),
        Meter("switchyard_feedback_total", "counter", "corrections taken in"),
        Meter(
            "switchyard_model_info", "gauge", "1 for the model that answers", ("name", "version")
        ),
        Meter(
            "switchyard_model_refused",
            "gauge",
            "1 while what should answer does not: `update` in /info says why; else 0",
        ),
        Meter(
            "switchyard_label_prior_share",
            "gauge",
            "share of the label that the model was made for",
            ("label",),
        ),
        Meter(
            "switchyard_label_drift_share",
            "gauge",
            "share of the last answers by which their labels differ from the prior, less what "
            "chance gives; missing while there are too few answers",
        ),
        Meter(
            "switchyard_label_window_answers", "gauge", "answers that the drift is computed from"
        ),
    )
}


def bucket(histogram: str) -> str:
    """The counter of observations up to `le`."""
    return f"{histogram}_bucket_total"


def total(histogram: str) -> str:
    """The counter of the observed values' sum."""
    return f"{histogram}_sum_total"


def parts() -> Iterator[Meter]:
    """The counters and gauges that all metrics come down to."""
    for meter in METERS.values():
        if meter.kind != "histogram":
            yield meter
            continue
        counter = replace(meter, kind="counter", bounds=())
        yield replace(counter, name=bucket(meter.name), labels=(*meter.labels, "le"))
        yield replace(counter, name=total(meter.name))


def route_name(path: str) -> str:
    """The route of a path, from the fixed set."""
    if path.startswith("/models/"):
        return "/models/{name}"
    return path if path in ROUTES else OTHER


def status_name(status: int) -> str:
    return str(status) if 100 <= status <= 599 else OTHER


def error_name(error_type: str) -> str:
    return error_type if error_type in ERROR_TYPES else OTHER
