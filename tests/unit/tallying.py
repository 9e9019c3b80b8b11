"""A model and its answers, told to a telemetry; and a histogram, read back."""

from collections.abc import Mapping

from serve import meters
from serve.tally import Series
from serve.telemetry import Telemetry

LABELS = ["network", "printer", "mail"]
PRIOR = [0.5, 0.3, 0.2]


def model(telemetry: Telemetry, version: str = "1", labels: list[str] = LABELS) -> None:
    telemetry.model("router", version, labels, PRIOR)


def answer(telemetry: Telemetry, *labels: str) -> None:
    telemetry.answers(labels, [0.9] * len(labels), [False] * len(labels), [False] * len(labels))


def buckets(found: Mapping[Series, float], name: str, *values: str) -> dict[str, float]:
    """`le` → observations up to it."""
    return {
        series[1][-1]: rise
        for series, rise in found.items()
        if series[0] == meters.bucket(name) and series[1][:-1] == values
    }
