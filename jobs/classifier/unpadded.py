"""A BERT's forward pass for answering: no padding, and nothing computed that no answer needs.

All texts of a pass lie behind each other in one matrix of tokens, so that products, norms and
activations, which are nearly all of the work, see no padding; attention alone sees texts side by
side. Of the last layer only [CLS] is computed beyond its keys and values, since the head reads
nothing else. Equal to transformers' own pass but for rounding; see tests/unit/test_unpadded.py.
Without gradients and without dropout.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from jobs.classifier.encoding import TokenIds


def fits(network: Any) -> bool:
    """Whether a classifier of transformers is a BERT whose pass is the one below."""
    config = network.config
    return (
        config.model_type == "bert"
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not getattr(config, "is_decoder", False)
    )


_POINTWISE = "_linear_pointwise"


class Unpadded:
    """The pass of one network, in the number format that its encoder has."""

    def __init__(self, network: Any) -> None:
        """`network`: a `BertForSequenceClassification` that `fits`; it stays as it is."""
        bert = network.base_model
        parts = bert.embeddings
        self._words = parts.word_embeddings.weight.detach()
        types = parts.token_type_embeddings.weight.detach()
        self._positions = parts.position_embeddings.weight.detach() + types[0]
        self._norm = parts.LayerNorm
        layers = list(bert.encoder.layer)
        self._layers = [_Layer(layer, last=layer is layers[-1]) for layer in layers]
        self._pooler = bert.pooler.dense
        self._head = network.classifier

    def __call__(self, tokens: Sequence[TokenIds]) -> torch.Tensor:
        """Logits [rows, classes] in float32, on the network's device, for rows of token ids."""
        device = self._words.device
        rows = _Rows([len(ids) for ids in tokens], device, self._words.dtype)
        ids = torch.from_numpy(np.concatenate(tokens).astype(np.int64)).to(device)
        hidden = self._norm(self._words[ids] + self._positions[rows.positions])
        for layer in self._layers[:-1]:
            hidden = layer.all_tokens(hidden, rows)
        first = self._layers[-1].first_tokens(hidden, rows)
        pooled = torch.tanh(self._pooler(first))
        return torch.as_tensor(self._head(pooled).float())


class _Rows:
    """Where the tokens of each row lie: behind each other, and side by side in a grid."""

    def __init__(self, lengths: Sequence[int], device: torch.device, dtype: torch.dtype) -> None:
        """`mask`: [rows, 1, 1, width] in `dtype`, added to the scores of attention; None if no row
        is shorter than another."""
        counts = torch.tensor(lengths)
        self.count, self.width = len(lengths), max(lengths)
        starts = torch.cumsum(counts, 0) - counts
        row = torch.repeat_interleave(torch.arange(self.count), counts)
        positions = torch.arange(int(counts.sum())) - starts[row]
        self.starts, self.positions = starts.to(device), positions.to(device)
        self.even = min(lengths) == self.width
        self.slots = (row * self.width + positions).to(device)
        self.mask: torch.Tensor | None = None
        if not self.even:
            absent = torch.arange(self.width)[None, :] >= counts[:, None]
            mask = torch.zeros(absent.shape, dtype=dtype).masked_fill_(
                absent, torch.finfo(dtype).min
            )
            self.mask = mask[:, None, None, :].to(device)

    def side_by_side(self, values: torch.Tensor) -> torch.Tensor:
        """[tokens, n] as [rows, width, n], with zeros where a row has no token."""
        if self.even:
            return values.view(self.count, self.width, -1)
        grid = values.new_zeros(self.count * self.width, values.shape[1])
        grid[self.slots] = values
        return grid.view(self.count, self.width, -1)

    def behind_each_other(self, grid: torch.Tensor) -> torch.Tensor:
        """[rows, width, n] as [tokens, n]."""
        flat = grid.reshape(self.count * self.width, -1)
        return flat if self.even else flat[self.slots]


class _Product:
    """x W^T + b; on a CPU in bfloat16 with the weights in the order that oneDNN reads them.

    Given plain weights oneDNN brings them into that order at every product, which for a single
    text takes as long as the product. The two operators are what torch's own compiler emits, and
    are not documented: where a version of torch lacks them, the plain product is taken.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._weight, self._bias = weight.detach(), bias.detach()
        self._ordered: torch.Tensor | None = None
        operators = torch.ops.mkldnn
        known = all(hasattr(operators, name) for name in ("_reorder_linear_weight", _POINTWISE))
        if known and weight.device.type == "cpu" and weight.dtype == torch.bfloat16:
            self._ordered = operators._reorder_linear_weight(self._weight, None)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        if self._ordered is None:
            return F.linear(values, self._weight, self._bias)
        return torch.as_tensor(
            torch.ops.mkldnn._linear_pointwise(values, self._ordered, self._bias, "none", [], "")
        )


class _Layer:
    """One layer; queries, keys and values come from one product."""

    def __init__(self, layer: Any, *, last: bool) -> None:
        attention, output = layer.attention.self, layer.attention.output
        self._heads = int(attention.num_attention_heads)
        parts = (attention.query, attention.key, attention.value)
        weight = torch.cat([part.weight.detach() for part in parts])
        bias = torch.cat([part.bias.detach() for part in parts])
        self._size = size = int(parts[0].weight.shape[0])
        # Of the last layer only [CLS] asks, of the others every token does.
        self._of_all = _Product(weight[size:] if last else weight, bias[size:] if last else bias)
        self._query = _Product(weight[:size], bias[:size]) if last else None
        self._out, self._out_norm = _product(output.dense), output.LayerNorm
        self._up, self._down = _product(layer.intermediate.dense), _product(layer.output.dense)
        self._down_norm = layer.output.LayerNorm

    def all_tokens(self, hidden: torch.Tensor, rows: _Rows) -> torch.Tensor:
        """[tokens, size] of the next layer from those of the last."""
        together = rows.side_by_side(self._of_all(hidden))
        query, key, value = (self._by_head(part) for part in together.chunk(3, dim=-1))
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=rows.mask)
        return self._rest(rows.behind_each_other(seen.transpose(1, 2)), hidden)

    def first_tokens(self, hidden: torch.Tensor, rows: _Rows) -> torch.Tensor:
        """[rows, size]: the same for the first token of each row alone."""
        assert self._query is not None
        first = hidden[rows.starts]
        query = self._query(first)[:, None, :]
        together = rows.side_by_side(self._of_all(hidden))
        key, value = (self._by_head(part) for part in together.chunk(2, dim=-1))
        query = self._by_head(query)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=rows.mask)
        return self._rest(seen.reshape(rows.count, self._size), first)

    def _rest(self, seen: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self._out_norm(self._out(seen) + hidden)
        inner = F.gelu(self._up(hidden))
        return torch.as_tensor(self._down_norm(self._down(inner) + hidden))

    def _by_head(self, values: torch.Tensor) -> torch.Tensor:
        """[rows, width, size] as [rows, heads, width, size of a head]."""
        rows, width, _ = values.shape
        return values.view(rows, width, self._heads, -1).transpose(1, 2)


def _product(linear: Any) -> _Product:
    return _Product(linear.weight, linear.bias)
