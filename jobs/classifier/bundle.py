"""The bundle: a Hugging Face model folder that says all about itself and checks itself.

`AutoModelForSequenceClassification.from_pretrained(bundle)` loads it unchanged and offline. Only
safetensors, never pickle. `bundle.json` holds what transformers has no place for, and the SHA-256
of every other file; it is written last. Sees local folders alone.
"""

import hashlib
import importlib.metadata
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from cluster.errors import BundleError

FORMAT_VERSION = 1
COMMIT = "bundle.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)


@dataclass(frozen=True, kw_only=True)
class About:
    """`bundle.json` without its hashes.

    The priors, the offset and `labels` are in the order of class ids. `training_prior` is None
    where the loss was not that of any prior (focal). `temperature`, the prior
    correction and the offset are already folded into the last layer of the network: its argmax
    is the label, and softmax(logits - decision_offset) gives the calibrated scores. `calibration`
    holds figures of that on the validation rows (jobs.bundles has their names); it is empty in
    bundles that were made before there was any.
    """

    labels: list[str]
    max_tokens: int
    text_columns: list[str]
    training_prior: list[float] | None
    natural_prior: list[float]
    temperature: float = 1.0
    decision_offset: list[float] = field(default_factory=list)
    abstention_threshold: float = 0.0
    calibration: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    manifest_digest: str = ""
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def write(
    folder: Path,
    *,
    network: Any,
    tokenizer_folder: Path,
    about: About,
    metrics: Mapping[str, Any],
    card: str,
) -> None:
    """Writes a whole bundle into a new local folder; `bundle.json` comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    network.to(torch.float32).save_pretrained(str(folder), safe_serialization=True)
    for name in _TOKENIZER_FILES:
        if (tokenizer_folder / name).exists():
            shutil.copyfile(tokenizer_folder / name, folder / name)
    _limit_tokenizer(folder, about.max_tokens)
    (folder / "README.md").write_text(card, encoding="utf-8")
    _write_json(folder / "metrics.json", metrics)
    hashes = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    _write_json(folder / COMMIT, asdict(about) | {"sha256": hashes})


def read_about(folder: Path) -> About:
    """`bundle.json` of a local folder; BundleError if there is none or it is of another format."""
    raw = _read_raw(folder)
    # What a later version added within this format is passed over.
    known = {field.name for field in fields(About)}
    try:
        return About(**{name: value for name, value in raw.items() if name in known})
    except TypeError as error:
        raise BundleError(
            f"{folder / COMMIT} does not fit format {FORMAT_VERSION}: {error}."
        ) from None


def check(folder: Path) -> About:
    """Compares every file with its SHA-256; BundleError naming the first that differs."""
    hashes: dict[str, str] = _read_raw(folder).get("sha256", {})
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if name not in hashes:
            raise BundleError(f"The bundle {folder} is incomplete: bundle.json names no {name}.")
    for name, expected in hashes.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise BundleError(f"The bundle {folder} is incomplete: {name} is missing.")
        if _sha256(path) != expected:
            raise BundleError(
                f"{path} was changed after the bundle was made: its SHA-256 is not the one in "
                "bundle.json. Copy the bundle again from where it was trained."
            )
    return read_about(folder)


def tokenizer_hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file that the tokenizer of a checked bundle is made of."""
    hashes: dict[str, str] = _read_raw(folder)["sha256"]
    return {name: hashes[name] for name in _TOKENIZER_FILES if name in hashes}


def amend(folder: Path, files: Mapping[str, str]) -> None:
    """Replaces or adds text files of a whole bundle; their hashes in `bundle.json` follow, last."""
    raw = _read_raw(folder)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        raw["sha256"][name] = _sha256(folder / name)
    raw["sha256"] = dict(sorted(raw["sha256"].items()))
    _write_json(folder / COMMIT, raw)


def versions() -> dict[str, str]:
    """The versions that decide what a bundle's numbers are."""
    packages = ("ray", "torch", "transformers", "tokenizers", "numpy", "pyarrow")
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _limit_tokenizer(folder: Path, max_tokens: int) -> None:
    """Makes other programs cut texts where we do: the files may carry a limit of their own."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise BundleError(
            f"{folder} has no tokenizer.json: only models with a fast tokenizer are supported."
        )
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["padding"] = None
    tokenizer["truncation"] = {
        "direction": "Right",
        "max_length": max_tokens,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    if settings.exists():
        config = json.loads(settings.read_text(encoding="utf-8"))
        _write_json(settings, config | {"model_max_length": max_tokens})


def _read_raw(folder: Path) -> dict[str, Any]:
    path = folder / COMMIT
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"{folder} is no bundle: there is no {COMMIT} in it. A training run puts its bundle "
            "into RUN/bundle."
        ) from None
    except ValueError as error:
        raise BundleError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(raw, dict) or raw.get("format_version") != FORMAT_VERSION:
        found = raw.get("format_version") if isinstance(raw, dict) else None
        raise BundleError(f"{path} is of format {found}; this version reads {FORMAT_VERSION}.")
    return raw


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
