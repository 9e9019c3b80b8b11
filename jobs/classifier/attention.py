"""Attention for training on CPUs: plain matrix products, no masked row that could be empty.

torch's flash attention takes several times as long in its backward pass at the lengths of
tickets, and its plain one guards against rows in which everything is masked, which do not occur.
"""

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
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    def mask(*args: Any, attention_mask: torch.Tensor | None = None, **about: Any) -> Any:
        # Without padding there is nothing to add to the scores.
        if attention_mask is None:
            return None
        return eager_mask(*args, attention_mask=attention_mask, **about)

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask)
    network.set_attn_implementation(NAME)
