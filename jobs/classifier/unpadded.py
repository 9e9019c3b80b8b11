"""A BERT's forward pass for answering: no padding, and nothing computed that no answer needs.

All texts of a pass lie behind each other in one matrix of tokens, so that products, norms and
activations, which are nearly all of the work, see no padding; attention alone sees texts side by
side. Of the last layer only [CLS] is computed beyond its keys and values, since the head reads
nothing else. Equal to transformers' own pass but for rounding; see tests/unit/test_unpadded.py.
Without gradients and without dropout.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from jobs.classifier.encoding import TokenIds, grid

logger = logging.getLogger(__name__)
_AFFINE = ("weight", "bias")
_OPERATORS = ("_reorder_linear_weight", "_linear_pointwise")  # of torch.ops.mkldnn


def fits(config: Mapping[str, Any]) -> bool:
    """Whether a classifier of transformers, by its config.json, is a BERT of the pass below."""
    return (
        config.get("model_type") == "bert"
        and config.get("architectures") == ["BertForSequenceClassification"]
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


class Unpadded:
    """The pass of one network."""

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        config: Mapping[str, Any],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """`weights` and `config`: those of a `BertForSequenceClassification` that `fits`, by the
        names in its files. The encoder computes in `dtype`, the head in float32: temperature and
        offsets are folded into it, and a label hangs on small differences of its sums."""
        self._dtype, self._device = dtype, torch.device(device)
        whole = _Pass(_Weights(weights, self._dtype, self._device), config)
        self._pass = _without_python(whole.eval().requires_grad_(False))

    def __call__(self, tokens: Sequence[TokenIds]) -> torch.Tensor:
        """Logits [rows, classes] in float32, on the device, for rows of token ids."""
        rows = _rows([len(ids) for ids in tokens], self._device, self._dtype)
        ids = np.zeros(len(rows.positions), np.int64)
        ids[: rows.total] = np.concatenate(tokens)
        # Nothing here happens twice with one shape, so that there is nothing to optimise for it.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # not in its stubs
            logits = self._pass(torch.from_numpy(ids).to(self._device), rows)
        return torch.as_tensor(logits[: len(tokens)])


class _Weights:
    """Weights by the names of their module."""

    def __init__(
        self, of_all: Mapping[str, torch.Tensor], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._all, self._dtype, self._device = of_all, dtype, device

    def get(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        return self._all[name].detach().to(self._device, dtype or self._dtype)

    def product(self, *names: str) -> "_Product":
        """One product in place of several of the same values."""
        weight, bias = (torch.cat([self.get(f"{n}.{of}") for n in names]) for of in _AFFINE)
        return _Product(weight, bias)

    def norm(self, name: str, epsilon: float) -> nn.LayerNorm:
        weight, bias = (self.get(f"{name}.{of}") for of in _AFFINE)
        made = nn.LayerNorm(weight.shape[0], eps=epsilon)
        made.weight, made.bias = nn.Parameter(weight), nn.Parameter(bias)
        return made


def _without_python(module: nn.Module) -> Any:
    """The module as TorchScript, which runs without Python's lock from the first operator to the
    last: with one lock for two passes and an event loop, each waits for the others a hundred times
    a pass. As it is where torch cannot script it; both compute the same."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # nothing has taken its place yet
            return torch.jit.script(module)
    except Exception as error:
        logger.warning("The pass is not scripted, and slower beside others: %s", error)
        return module


class _Rows(NamedTuple):
    """Where the tokens of each row lie: behind each other, and side by side in a grid.

    The number of tokens, of rows and the width are those of `encoding.grid`: oneDNN makes a kernel
    for every new number and keeps a thousand of them, between which nothing large fits any more.
    With every number there is, a process grew by 1.3 GiB.
    """

    height: int
    width: int
    total: int  # tokens of rows; what follows up to the next of the grid is read by none
    even: bool  # no place of the grid is without a token
    positions: torch.Tensor  # int64 [tokens]: in their row
    slots: torch.Tensor  # int64 [tokens]: in the grid, row after row
    starts: torch.Tensor  # int64 [height]: of each row among the tokens
    mask: torch.Tensor | None  # [height, 1, 1, width]: added to the scores of attention


def _rows(lengths: Sequence[int], device: torch.device, dtype: torch.dtype) -> _Rows:
    height, width, total = grid(len(lengths)), grid(max(lengths)), sum(lengths)
    counts = np.zeros(height, np.int64)
    counts[: len(lengths)] = lengths
    begins = np.cumsum(counts) - counts
    row = np.repeat(np.arange(height), counts)
    positions, slots = np.zeros((2, grid(total)), np.int64)
    positions[:total] = np.arange(total) - begins[row]
    slots[:total] = row * width + positions[:total]
    begins[len(lengths) :] = 0
    even = total == height * width == len(positions)
    mask = None
    if not even:
        absent = torch.from_numpy(np.arange(width)[None, :] >= counts[:, None])
        mask = torch.zeros(absent.shape, dtype=dtype)
        mask = mask.masked_fill_(absent, torch.finfo(dtype).min)[:, None, None, :].to(device)
    at = [torch.from_numpy(array).to(device) for array in (positions, slots, begins)]
    return _Rows(height, width, total, even, at[0], at[1], at[2], mask)


def _side_by_side(values: torch.Tensor, rows: _Rows) -> torch.Tensor:
    """[tokens, n] as [height, width, n], with zeros where a row has no token."""
    if rows.even:
        return values.view(rows.height, rows.width, -1)
    places = values.new_zeros(rows.height * rows.width, values.shape[1])
    places[rows.slots[: rows.total]] = values[: rows.total]
    return places.view(rows.height, rows.width, -1)


def _behind_each_other(places: torch.Tensor, rows: _Rows) -> torch.Tensor:
    """[height, width, n] as [tokens, n]."""
    flat = places.reshape(rows.height * rows.width, -1)
    return flat if rows.even else flat[rows.slots]


def _by_head(values: torch.Tensor, heads: int) -> torch.Tensor:
    """[rows, width, size] as [rows, heads, width, size of a head]."""
    return values.view(values.shape[0], values.shape[1], heads, -1).transpose(1, 2)


class _Product(nn.Module):
    """x W^T + b; on a CPU in bfloat16 with the weights in the order that oneDNN reads them.

    Given plain weights oneDNN brings them into that order at every product, which for a single
    text takes as long as the product. The two operators are what torch's own compiler emits, and
    are not documented: where a version of torch lacks them, the plain product is taken.
    """

    ordered: Final[bool]

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        operators = torch.ops.mkldnn
        known = all(hasattr(operators, name) for name in _OPERATORS)
        self.ordered = known and weight.device.type == "cpu" and weight.dtype == torch.bfloat16
        weight = weight.detach()
        self.weight = operators._reorder_linear_weight(weight, None) if self.ordered else weight
        self.bias = bias.detach()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.ordered:
            product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                values, self.weight, self.bias, "none", [], ""
            )
            return product
        return F.linear(values, self.weight, self.bias)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, rows: _Rows
) -> torch.Tensor:
    """[rows, heads, queries, size of a head] from queries, keys and values side by side."""
    parts = [_by_head(part, heads) for part in (query, key, value)]
    return F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=rows.mask)


class _Rest(nn.Module):
    """What follows attention in a layer."""

    def __init__(self, weights: _Weights, layer: str, epsilon: float) -> None:
        super().__init__()
        self.out = weights.product(f"{layer}.attention.output.dense")
        self.out_norm = weights.norm(f"{layer}.attention.output.LayerNorm", epsilon)
        self.up = weights.product(f"{layer}.intermediate.dense")
        self.down = weights.product(f"{layer}.output.dense")
        self.down_norm = weights.norm(f"{layer}.output.LayerNorm", epsilon)

    def forward(self, seen: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self.out_norm(self.out(seen) + hidden)
        inner = F.gelu(self.up(hidden))
        outer: torch.Tensor = self.down_norm(self.down(inner) + hidden)
        return outer


class _Layer(nn.Module):
    """[tokens, size] from those of the layer before; queries, keys and values are one product."""

    heads: Final[int]

    def __init__(self, weights: _Weights, layer: str, epsilon: float, heads: int) -> None:
        super().__init__()
        self.heads = heads
        parts = (f"{layer}.attention.self.{part}" for part in ("query", "key", "value"))
        self.asked = weights.product(*parts)
        self.rest = _Rest(weights, layer, epsilon)

    def forward(self, hidden: torch.Tensor, rows: _Rows) -> torch.Tensor:
        query, key, value = _side_by_side(self.asked(hidden), rows).chunk(3, dim=-1)
        seen = _attend(query, key, value, self.heads, rows)
        seen = _behind_each_other(seen.transpose(1, 2), rows)
        outer: torch.Tensor = self.rest(seen, hidden)
        return outer


class _LastLayer(nn.Module):
    """[height, size]: the first token of each row alone, from all tokens of the layer before."""

    heads: Final[int]

    def __init__(self, weights: _Weights, layer: str, epsilon: float, heads: int) -> None:
        super().__init__()
        self.heads = heads
        attention = f"{layer}.attention.self"
        self.query = weights.product(f"{attention}.query")
        self.asked = weights.product(f"{attention}.key", f"{attention}.value")
        self.rest = _Rest(weights, layer, epsilon)

    def forward(self, hidden: torch.Tensor, rows: _Rows) -> torch.Tensor:
        first = hidden[rows.starts]
        key, value = _side_by_side(self.asked(hidden), rows).chunk(2, dim=-1)
        seen = _attend(self.query(first)[:, None, :], key, value, self.heads, rows)
        outer: torch.Tensor = self.rest(seen.reshape(rows.height, -1), first)
        return outer


class _Pass(nn.Module):
    """From token ids to logits."""

    def __init__(self, weights: _Weights, config: Mapping[str, Any]) -> None:
        super().__init__()
        epsilon, heads = float(config["layer_norm_eps"]), int(config["num_attention_heads"])
        embeddings = "bert.embeddings"
        types = weights.get(f"{embeddings}.token_type_embeddings.weight")
        positions = weights.get(f"{embeddings}.position_embeddings.weight")
        self.words = weights.get(f"{embeddings}.word_embeddings.weight")
        self.positions = positions + types[0]
        self.norm = weights.norm(f"{embeddings}.LayerNorm", epsilon)
        *before, last = (
            f"bert.encoder.layer.{number}" for number in range(int(config["num_hidden_layers"]))
        )
        self.layers = nn.ModuleList([_Layer(weights, name, epsilon, heads) for name in before])
        self.last = _LastLayer(weights, last, epsilon, heads)
        self.pooler = weights.product("bert.pooler.dense")
        self.head, self.head_bias = (
            weights.get(f"classifier.{of}", torch.float32) for of in _AFFINE
        )

    def forward(self, ids: torch.Tensor, rows: _Rows) -> torch.Tensor:
        hidden = self.norm(self.words[ids] + self.positions[rows.positions])
        for layer in self.layers:
            hidden = layer(hidden, rows)
        pooled = torch.tanh(self.pooler(self.last(hidden, rows)))
        return F.linear(pooled.float(), self.head, self.head_bias)
