"""Attention for training on CPUs: plain matrix products, no masked row that could be empty.

torch's flash attention takes several times as long in its backward pass at the lengths of
tickets, and its plain one guards against rows in which everything is masked, which do not occur.
"""

from collections.abc import Callable
from typing import Any

import torch

NAME = "switchyard"


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """[rows, length, heads, width] from query, key, value [rows, heads, length, width].

    `attention_mask` is added to the scores; float, of a shape that fits [rows, heads, length,
    length]. Vaswani et al., Attention is all you need, 2017.
    """
    scores = torch.matmul(query, key.transpose(-1, -2)).float() * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    shares = torch.softmax(scores, dim=-1).to(value.dtype)
    return torch.matmul(shares, value).transpose(1, 2).contiguous(), None


def use_plain_attention(network: Any) -> None:
    """Makes a transformers network attend by `attend`, where it lets one choose."""
    from transformers.masking_utils import eager_mask

    use_attention(network, NAME, attend, eager_mask)


def use_attention(
    network: Any, name: str, function: Callable[..., Any], mask_of: Callable[..., Any]
) -> None:
    """Makes a transformers network attend by `function`, known to transformers by `name`.

    `mask_of` is one of transformers' makers of masks. Without padding there is nothing to mask,
    and none is made: over packed rows it would be a square of all their tokens.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def mask(*args: Any, attention_mask: torch.Tensor | None = None, **about: Any) -> Any:
        if attention_mask is None:
            return None
        return mask_of(*args, attention_mask=attention_mask, **about)

    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, mask)
    network.set_attn_implementation(name)
