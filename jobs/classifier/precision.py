"""Which number format to compute in, from what the hardware does fast."""

from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]


def resolve(precision: Precision, device: torch.device) -> torch.dtype:
    """bfloat16 or float32; `auto` is bfloat16 where the hardware multiplies in it.

    On a CPU with AVX512_BF16 or AMX training in bfloat16 is about twice as fast; on one without
    it is emulated and slower than float32.
    """
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32
