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
    graphs: bool = True  # of packed steps, on one GPU
    dtype: torch.dtype = torch.float32
