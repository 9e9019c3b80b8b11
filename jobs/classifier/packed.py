"""Forward passes without padding: all rows of a batch as one sequence, for BERT on CUDA.

Positions start anew with every row and attention stays within it, by torch's own varlen kernel.
transformers' pooler looks at token 0 alone, so that the first token of each row is taken here.
"""

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F

from jobs.classifier.attention import use_attention
from jobs.classifier.batches import Batch
from jobs.classifier.encoding import grid

NAME = "switchyard-packed"


@dataclass(frozen=True)
class Shape:
    """What the work on packed rows depends on. `longest`: at least the tokens of any row."""

    tokens: int
    rows: int
    longest: int


@dataclass(frozen=True)
class Packed:
    """Rows after one another; those that fill the shape up hold padding and weigh nothing.

    `numbers` int64 and `weights` float32 are what goes to the device, in one piece each.
    """

    shape: Shape
    numbers: torch.Tensor
    weights: torch.Tensor

    @property
    def _parts(self) -> tuple[torch.Tensor, ...]:
        tokens, rows = self.shape.tokens, self.shape.rows
        return torch.split(self.numbers, [tokens, tokens, rows + 1, rows])

    @property
    def ids(self) -> torch.Tensor:
        """[tokens]."""
        return self._parts[0]

    @property
    def positions(self) -> torch.Tensor:
        """[tokens], from 0 in each row."""
        return self._parts[1]

    @property
    def starts(self) -> torch.Tensor:
        """[rows + 1]: where each row begins, and where the last one ends."""
        return self._parts[2]

    @property
    def first(self) -> torch.Tensor:
        """[rows]: the token at which a row's answer is read; any for rows without one."""
        return self.starts[:-1].clamp(max=self.shape.tokens - 1)

    @property
    def labels(self) -> torch.Tensor:
        """[rows]."""
        return self._parts[3]

    @property
    def row_weights(self) -> torch.Tensor:
        """[rows]: 0 for rows that do not count."""
        return self.weights[:-1]

    @property
    def scale(self) -> torch.Tensor:
        """What the sum of losses is multiplied by: 1 / rows of the global batch."""
        return self.weights[-1]

    def to(self, device: torch.device) -> "Packed":
        """The same on a device; from pinned memory nobody waits for it."""
        return replace(
            self,
            numbers=self.numbers.to(device, non_blocking=True),
            weights=self.weights.to(device, non_blocking=True),
        )


def pack(batch: Batch, *, roomy: bool = False, pin: bool = False) -> Packed:
    """The rows of a batch on the CPU, in pinned memory if asked for.

    `roomy`: in one of few shapes, at most 6% larger than need be; else in the least that holds
    them.
    """
    counts = batch.mask.sum(1).tolist()
    total, longest = sum(counts), max(counts)
    shape = Shape(total, len(counts), longest)
    if roomy:
        tokens = grid(total)
        # What is left over is cut into rows for which there are kernels and positions.
        counts += [min(longest, tokens - total - at) for at in range(0, tokens - total, longest)]
        shape = Shape(tokens, _power_of_two(len(counts)), _power_of_two(longest))
        counts += [0] * (shape.rows - len(counts))
    numbers = torch.zeros(2 * shape.tokens + 2 * shape.rows + 1, dtype=torch.int64, pin_memory=pin)
    weights = torch.zeros(shape.rows + 1, pin_memory=pin)
    made = Packed(shape, numbers, weights)
    made.ids[:total] = batch.ids[batch.mask.bool()]
    lengths = torch.tensor(counts)
    made.starts[:] = torch.tensor([0, *accumulate(counts)])
    made.positions[:] = torch.arange(shape.tokens) - made.starts[:-1].repeat_interleave(lengths)
    made.labels[: len(batch.labels)] = batch.labels
    made.row_weights[: len(batch.labels)] = batch.weights
    made.scale.fill_(1 / batch.global_rows)
    return made


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


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
    rows = []
    for begin, end in pairwise(cu_seq_lens_q.tolist()):
        one, other, third = (x[begin:end].transpose(0, 1) for x in (q, k, v))
        rows.append(F.scaled_dot_product_attention(one, other, third, scale=scaling))
    return torch.cat(rows, dim=1).transpose(0, 1).unsqueeze(0), None


def can_pack(network: Any) -> bool:
    """Whether `network` is built as `answer` needs it."""
    return str(network.config.model_type) == "bert"


def use_packed_attention(network: Any) -> None:
    """Makes a transformers BERT attend by `attend`."""
    from transformers.masking_utils import sdpa_mask

    use_attention(network, NAME, attend, sdpa_mask)


def answer(network: Any, packed: Packed, dtype: torch.dtype) -> torch.Tensor:
    """[rows, classes] for rows on the network's device, as the padded forward pass in `dtype`
    gives them."""
    mixed = dtype is not torch.float32
    with torch.autocast(packed.numbers.device.type, dtype=dtype if mixed else None, enabled=mixed):
        hidden = network.base_model(
            input_ids=packed.ids.unsqueeze(0),
            position_ids=packed.positions.unsqueeze(0),
            cu_seq_lens_q=packed.starts.to(torch.int32),
            max_length_q=packed.shape.longest,
        ).last_hidden_state
        pooled = network.base_model.pooler(hidden[0, packed.first].unsqueeze(1))
        return torch.as_tensor(network.classifier(network.dropout(pooled)))
