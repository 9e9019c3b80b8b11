"""How to train, in plain values."""

from dataclasses import dataclass

import torch

from jobs.classifier.optimizer import Schedule


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train, in plain values; their meaning and units stand in jobs.settings."""

    epochs: int
    lr: float
    head_lr: float | None = None
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    schedule: Schedule = "linear"
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    r_drop: float = 0.0
    micro_tokens: int | None = None
    packed: bool = False
    compiled: bool = False
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.packed and (self.r_drop > 0 or self.micro_tokens is not None):
            raise ValueError("a packed step is whole, and answers each row once")
