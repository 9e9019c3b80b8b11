"""What a training run writes down to go on from: weights, optimizer, position.

No random state: what is random in a step follows from the seed and the position.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
_STATE = "state.pt"
_POSITION = "position.json"


@dataclass(frozen=True)
class Position:
    """The next batch to train: number `batch` of epoch `epoch`."""

    epoch: int = 0
    batch: int = 0


def write(
    folder: Path,
    *,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    metrics: dict[str, float],
) -> None:
    """Writes a checkpoint into an existing empty folder."""
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        str(folder / WEIGHTS),
    )
    state = {"optimizer": optimizer.state_dict()}
    torch.save(state, folder / _STATE)
    about = {"position": asdict(position), "metrics": metrics}
    (folder / _POSITION).write_text(json.dumps(about, indent=1))


def read(folder: Path, *, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Restores network and optimizer in place; where to go on."""
    network.load_state_dict(load_file(str(folder / WEIGHTS)))
    state: dict[str, Any] = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    return Position(**json.loads((folder / _POSITION).read_text())["position"])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The network's weights in a checkpoint."""
    return dict(load_file(str(folder / WEIGHTS)))
