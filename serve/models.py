"""Loading what is served: a bundle by its URI, checked, warmed, named."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster import storage
from cluster.errors import BundleError
from jobs.classifier import bundle
from jobs.classifier.precision import Precision
from jobs.classifier.predictor import Predictor
from serve.schema import ModelName

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

    @property
    def named(self) -> ModelName:
        return ModelName(name=self.name, version=self.version)


def load(
    uri: str,
    name: str,
    *,
    precision: Precision,
    threads: int | None,
    version: str | None = None,
    before: Loaded | None = None,
) -> Loaded:
    """The bundle at `uri`, ready to answer; BundleError if it is not sound.

    `before`: a model that is loaded already. Its tokenizer is taken where it is the same, which it
    mostly is: making one keeps Python's lock longer than all the rest, and requests wait for it.

    Without a version of a registry's it is the beginning of the SHA-256 of bundle.json, which
    holds the hash of every other file: two bundles that could differ in any answer have different
    versions.
    """
    with storage.local_copy(uri) as folder:
        predictor = Predictor(
            folder,
            precision=precision,
            threads=threads,
            before=before.predictor if before is not None else None,
        )
        version = version or version_of((folder / bundle.COMMIT).read_bytes())
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    _warm(predictor, uri)
    return Loaded(predictor, name, version, uri, {k: metrics[k] for k in _HEADLINE if k in metrics})


def version_of(commit: bytes) -> str:
    """The version of a bundle outside a registry, from its bundle.json."""
    return hashlib.sha256(commit).hexdigest()[:12]


def _warm(predictor: Predictor, uri: str) -> None:
    """Answers a few texts: the first pass takes several times as long as the second, and a model
    whose numbers are none must be found out before it answers anybody."""
    for text in ("warm", "a somewhat longer text to warm up with " * 8):
        if not np.isfinite(predictor.predict([text]).logits).all():
            raise BundleError(f"The model in {uri} gives no finite numbers: its weights are unfit.")
