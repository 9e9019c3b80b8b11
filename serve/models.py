"""Loading what is served: a bundle by its URI, checked, warmed, named."""

import json
from dataclasses import dataclass
from typing import Any

from cluster import storage
from jobs.classifier import bundle
from jobs.classifier.precision import Precision
from jobs.classifier.predictor import Predictor
from serve import origin
from serve.settings import Endpoint

_HEADLINE = (
    "rows",
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "weighted_f1",
    "calibration_error",
    "coverage",
)


@dataclass(frozen=True)
class Loaded:
    """A model that answers."""

    predictor: Predictor
    name: str
    version: str
    uri: str
    metrics: dict[str, Any]


def load(
    uri: str,
    name: str,
    *,
    precision: Precision,
    threads: int | None,
    version: str | None = None,
) -> Loaded:
    """The bundle at `uri`, ready to answer; BundleError if it is not sound.

    Without a version of a registry's it is the beginning of the SHA-256 of bundle.json, which
    holds the hash of every other file: two bundles that could differ in any answer have different
    versions.
    """
    with storage.local_copy(uri) as folder:
        predictor = Predictor(folder, precision=precision, threads=threads)
        version = version or storage.sha256(folder / bundle.COMMIT)[:12]
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    # The first pass through torch's kernels takes several times as long as the second.
    for text in ("warm", "a somewhat longer text to warm up with " * 8):
        predictor.predict([text])
    return Loaded(predictor, name, version, uri, {k: metrics[k] for k in _HEADLINE if k in metrics})


def load_present(settings: Endpoint) -> Loaded:
    """What an endpoint serves if it starts now: its bundle, or the champion of its registry.

    StorageError if there is no champion.
    """
    uri, version = origin.find(settings.bundle, settings.registry, settings.name)
    return load(
        uri,
        settings.name,
        precision=settings.precision,
        threads=settings.threads,
        version=version,
    )
