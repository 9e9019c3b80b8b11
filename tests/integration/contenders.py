"""Bundles whose quality is known without training: labels are what the good one answers."""

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from cluster import storage
from jobs.classifier import bundle
from jobs.classifier.predictor import Predictor
from jobs.prepared import open_prepared
from jobs.preparer import Prepare, prepare
from tests.conftest import WORDS
from tests.integration.conftest import write_tickets
from tests.unit.memory import write_sharp_bundle

LABELS = ("mail", "network", "printing")
TEXTS = [f"{' '.join(pair)} {k}" for k, pair in enumerate(product(WORDS[:20], WORDS))]


def good_bundle(folder: Path, model: Path) -> Path:
    """A bundle that gives each label about as often, with scores near one."""
    write_sharp_bundle(folder, model)
    middle = np.median(Predictor(folder).predict(TEXTS).logits, axis=0)

    def even(weights: dict[str, Any]) -> None:
        weights["classifier.bias"] = (weights["classifier.bias"] - middle) * 50
        weights["classifier.weight"] *= 50

    reshape(folder, even)
    return folder


def deaf_to(label: str, good: Path, folder: Path) -> Path:
    """A copy that never gives one of the labels."""
    shutil.copytree(good, folder)

    def silence(weights: dict[str, Any]) -> None:
        weights["classifier.bias"][LABELS.index(label)] -= 1e6

    reshape(folder, silence)
    return folder


def reshape(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})
    rewrite(folder, sha256={path.name: storage.sha256(path)})


def rewrite(folder: Path, *, sha256: dict[str, str] | None = None, **values: Any) -> None:
    """Other values in bundle.json, and other hashes of some files."""
    raw = json.loads((folder / bundle.COMMIT).read_text())
    raw["sha256"] |= sha256 or {}
    (folder / bundle.COMMIT).write_text(json.dumps(raw | values))


def tickets(good: Path, texts: list[str]) -> list[dict[str, object]]:
    found = Predictor(good).predict(texts).labels
    return [{"text": t, "label": LABELS[c]} for t, c in zip(texts, found, strict=True)]


def prepare_for(folder: Path, rows: list[dict[str, object]], **split: Any) -> str:
    """Prepared data of the rows; its URI."""
    source = write_tickets(folder / "source", rows)
    prepare(Prepare(source=str(source), output=str(folder / "prepared"), split=split))
    return str(folder / "prepared")


def trained_on(data: str, made: Path) -> Path:
    """The bundle, which says that it was trained on that data."""
    rewrite(made, data={"uri": data}, manifest_digest=open_prepared(data).digest)
    return made
