"""How long texts are in tokens, and what a limit would cut.

It knows texts and a tokenizer; not what the texts are for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.classifier.encoding import Encoder

# A tokenizer reads some three million characters a second and core: this many take ten seconds.
CHARACTERS = 25_000_000
LIMITS = (32, 64, 128, 192, 256, 384, 512, 1024, 2048)

_CHUNK = 1000
_BARS = 48
_UNLIMITED = 100_000  # transformers says 10³⁰ where a tokenizer names no limit

Lengths = npt.NDArray[np.int64]


def measure(texts: Sequence[str], encoder: Encoder, max_tokens: int) -> dict[str, Any]:
    """Lengths of `texts` in tokens, the special tokens included, untruncated.

    rows (how many were measured), mean, p50, p90, p95, p99 and max (nearest rank), max_tokens,
    cut_share (texts longer than that), cut_tokens_share (tokens of all texts beyond it), limits
    (a list of max_tokens and the cut_share there, none beyond what the model can read),
    model_limit (tokens, or None) and histogram (see `histogram`). Of long texts the first ones
    are measured, as many as hold CHARACTERS, but a hundred at least: give them in random order.
    """
    ends = np.cumsum([len(text) for text in texts])
    rows = max(min(100, len(texts)), int(np.searchsorted(ends, CHARACTERS, side="right")))
    lengths = count(texts[:rows], encoder)
    named = int(getattr(encoder.tokenizer, "model_max_length", 0) or 0)
    model_limit = named if 0 < named < _UNLIMITED else None
    return {
        "rows": rows,
        "mean": float(lengths.mean()),
        **{f"p{q}": int(np.percentile(lengths, q, method="inverted_cdf")) for q in (50, 90, 95)},
        "p99": int(np.percentile(lengths, 99, method="inverted_cdf")),
        "max": int(lengths.max()),
        "max_tokens": max_tokens,
        "cut_share": float((lengths > max_tokens).mean()),
        "cut_tokens_share": float(np.maximum(lengths - max_tokens, 0).sum() / lengths.sum()),
        "limits": _limits(lengths, max_tokens, model_limit),
        "model_limit": model_limit,
        "histogram": histogram(lengths, max_tokens),
    }


def _limits(lengths: Lengths, max_tokens: int, most: int | None) -> list[dict[str, Any]]:
    """What limits would cut, up to the first that cuts nothing, or that the model can read."""
    found: list[dict[str, Any]] = []
    for limit in sorted({*LIMITS, max_tokens, most or max_tokens}):
        there = max(most or limit, max_tokens) >= limit
        if there and (limit <= max_tokens or found[-1]["cut_share"] > 0):
            found.append({"max_tokens": limit, "cut_share": float((lengths > limit).mean())})
    return found


def count(texts: Sequence[str], encoder: Encoder) -> Lengths:
    """int64 [texts]: tokens of each text as `encoder` counts them, but without its limit.

    Works on a copy of the tokenizer, so that the encoder keeps its limit.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(encoder.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    found: list[int] = []
    for first in range(0, len(texts), _CHUNK):
        chunk = list(texts[first : first + _CHUNK])
        found += [len(encoding) for encoding in tokenizer.encode_batch_fast(chunk)]
    return np.array(found, dtype=np.int64)


def histogram(lengths: Lengths, max_tokens: int) -> dict[str, Any]:
    """edges and counts: counts[k] texts are longer than edges[k] and up to edges[k + 1] long.

    All bars but the first and the last have one width, a power of two; the last reaches to the
    longest text where a few are far longer than the rest. `max_tokens` is an edge where it lies
    among the lengths, so that every bar is either cut or not.
    """
    longest = int(lengths.max())
    reach = min(longest, int(1.5 * np.percentile(lengths, 99, method="inverted_cdf")) + 1)
    if reach < max_tokens <= 3 * reach:
        reach = max_tokens + max(1, max_tokens // 16)
    width = 1
    while reach > width * _BARS:
        width *= 2
    first = max_tokens % width or width
    edges = [0, *range(first, reach + width, width)]
    if longest > edges[-1]:
        edges.append(longest)
    counts, _ = np.histogram(lengths, np.array(edges) + 0.5)
    return {"edges": edges, "counts": [int(n) for n in counts], "width": width}
