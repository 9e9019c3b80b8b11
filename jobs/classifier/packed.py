"""Forward passes without padding: all rows of a batch as one sequence, for BERT on CUDA.

Positions start anew with every row and attention stays within it, by torch's own varlen kernel.
transformers' pooler looks at token 0 alone, so that the first token of each row is taken here.
Never run on a GPU by this project: what is tested is that it gives the padded network's logits,
with an attention row by row in the kernel's place on CPUs.
"""

from typing import Any

import torch
import torch.nn.functional as F

from jobs.classifier.attention import use_attention
from jobs.classifier.batches import Batch

NAME = "switchyard-packed"


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """[rows, length, heads, width] from query, key, value [rows, heads, length, width].

    With `cu_seq_lens_q` (int32 [packed rows + 1], where each begins) the one row given is the
    packed ones after one another; without it rows are padded, as `attention_mask` says.
    """
    if cu_seq_lens_q is None:
        found = F.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scaling
        )
        return found.transpose(1, 2), None
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [tokens, heads, width]
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        at, most = cu_seq_lens_q, max_length_q
        packed = varlen_attn(q, k, v, at, at, most, most, scale=scaling)
        return torch.as_tensor(packed).unsqueeze(0), None
    ends = cu_seq_lens_q[1:].tolist()
    rows = []
    for begin, end in zip([0, *ends], ends, strict=False):
        one, other, third = (x[begin:end].transpose(0, 1) for x in (q, k, v))
        rows.append(F.scaled_dot_product_attention(one, other, third, scale=scaling))
    return torch.cat(rows, dim=1).transpose(0, 1).unsqueeze(0), None


def can_pack(network: Any) -> bool:
    """Whether `network` is built as `logits_of_packed` needs it."""
    return str(network.config.model_type) == "bert"


def use_packed_attention(network: Any) -> None:
    """Makes a transformers BERT attend by `attend`."""
    from transformers.masking_utils import sdpa_mask

    use_attention(network, NAME, attend, sdpa_mask)


def logits_of_packed(
    network: Any, batch: Batch, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """[rows, classes], as the padded forward pass in `dtype` gives them."""
    real = batch.mask.bool()
    lengths = batch.mask.sum(1)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    positions = torch.arange(real.shape[1]).expand_as(batch.ids)[real]
    mixed = dtype is not torch.float32
    with torch.autocast(device.type, dtype=dtype if mixed else None, enabled=mixed):
        hidden = network.base_model(
            input_ids=batch.ids[real].unsqueeze(0).to(device, non_blocking=True),
            position_ids=positions.unsqueeze(0).to(device, non_blocking=True),
            cu_seq_lens_q=starts.to(device, torch.int32, non_blocking=True),
            max_length_q=int(lengths.max()),
        ).last_hidden_state
        first = hidden[0, starts[:-1].to(device)]
        pooled = network.base_model.pooler(first.unsqueeze(1))
        return torch.as_tensor(network.classifier(network.dropout(pooled)))
