"""What a training run writes down to go on from: weights, optimizer, progress.

No random state: what is random in a step follows from the seed and the position. Every file has
its SHA-256 in a manifest that is written last, so that a checkpoint without one was not finished
and a damaged one is known by its hashes.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from jobs.classifier.progress import Progress

WEIGHTS = "model.safetensors"
MANIFEST = "manifest.json"
_OPTIMIZER = "optimizer.pt"


class HasState(Protocol):
    """An optimizer; its state is nested dictionaries and lists of tensors and plain numbers."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class Damaged(Exception):
    """A checkpoint that is not what was written; the message says in which way."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says about itself; `files`: name → SHA-256."""

    progress: Progress
    files: Mapping[str, str]


@dataclass(frozen=True)
class Snapshot:
    """A copy in CPU memory that training does not change any more."""

    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    progress: Progress

    def write(self, folder: Path) -> Manifest:
        """Writes a checkpoint into an existing empty folder, the manifest last; OSError and what
        torch and safetensors raise where that fails."""
        save_file(dict(self.weights), str(folder / WEIGHTS))
        torch.save(self.optimizer, folder / _OPTIMIZER)
        files = (WEIGHTS, _OPTIMIZER)
        manifest = Manifest(self.progress, {name: _sha256(folder / name) for name in files})
        for name in files:
            _to_disk(folder / name)
        (folder / MANIFEST).write_text(_manifest_text(manifest))
        _to_disk(folder / MANIFEST)
        return manifest


def _to_disk(path: Path) -> None:
    # Older checkpoints are deleted for this one: it must not be lost with the power.
    with path.open("rb") as file:
        os.fsync(file.fileno())


def take(network: torch.nn.Module, optimizer: HasState, progress: Progress) -> Snapshot:
    """A snapshot of a run between two steps."""
    return Snapshot(_copy(network.state_dict()), _copy(optimizer.state_dict()), progress)


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(inner) for inner in value)
    return value


def read(folder: Path, *, network: torch.nn.Module, optimizer: HasState) -> Progress:
    """Restores network and optimizer in place; where to go on. The hashes are not looked at."""
    network.load_state_dict(weights(folder))
    optimizer.load_state_dict(
        torch.load(folder / _OPTIMIZER, map_location="cpu", weights_only=True)
    )
    return read_manifest((folder / MANIFEST).read_bytes()).progress


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The network's weights in a checkpoint."""
    return dict(load_file(str(folder / WEIGHTS)))


def read_manifest(data: bytes) -> Manifest:
    """The manifest out of its bytes; Damaged if they are not what was written."""
    try:
        values = json.loads(data)
        progress, files = values["progress"], dict(values["files"])
        if values["sha256"] != _digest(progress, files):
            raise Damaged(f"{MANIFEST} was changed")
        return Manifest(Progress.from_plain(progress), files)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{MANIFEST} cannot be read ({error})") from None


def _manifest_text(manifest: Manifest) -> str:
    progress, files = manifest.progress.plain(), dict(manifest.files)
    # As JSON reads it back: tuples have become lists.
    progress = json.loads(json.dumps(progress))
    found = {"progress": progress, "files": files, "sha256": _digest(progress, files)}
    return json.dumps(found, indent=1) + "\n"


def _digest(progress: Any, files: Mapping[str, str]) -> str:
    text = json.dumps([progress, dict(files)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
