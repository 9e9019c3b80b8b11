"""From text to token ids: the one function that training, evaluation and serving share."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Encoded:
    """Token ids of several texts: `tokens[k]` has shape [length of text k]."""

    tokens: list[TokenIds]
    truncated: npt.NDArray[np.bool_]

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        return np.array([len(ids) for ids in self.tokens], dtype=np.int32)


class Encoder:
    """A tokenizer with a limit, made once a process."""

    def __init__(self, folder: Path, max_tokens: int, *, threads: bool = False) -> None:
        """Loads the tokenizer in `folder`; `threads` lets its Rust half use every core."""
        from transformers import AutoTokenizer

        os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads else "false"
        self.tokenizer: Any = AutoTokenizer.from_pretrained(
            str(folder), use_fast=True, local_files_only=True
        )
        self.max_tokens = max_tokens
        self.pad_id = int(self.tokenizer.pad_token_id or 0)
        # The Rust tokenizer itself: the wrapper of transformers costs several times the work on
        # short texts. What the file on disk says about padding and truncation is put aside.
        self._fast: Any = self.tokenizer.backend_tokenizer
        self._fast.no_padding()
        self._fast.enable_truncation(max_tokens)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Token ids with the special tokens, cut at `max_tokens`; bad surrogates are replaced."""
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        found = self._fast.encode_batch(clean)
        return Encoded(
            [np.array(e.ids, dtype=np.int32) for e in found],
            np.array([bool(e.overflowing) for e in found], dtype=np.bool_),
        )


def grid(length: int) -> int:
    """The width to which rows of `length` tokens are padded: the next of a few.

    Kernels are made for every new shape (oneDNN) or tuned for it (CUDA): up to 32 tokens every
    width is taken, above it 16 widths for each doubling, at most 6% of a row as padding.
    """
    step = 1 << max(0, (length - 1).bit_length() - 5)
    return -(-length // step) * step


def pad(
    tokens: Sequence[TokenIds], pad_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(ids, mask) of shape [rows, grid(longest)], padded on the right."""
    width = grid(max(len(ids) for ids in tokens))
    ids = np.full((len(tokens), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(tokens), width), dtype=np.int64)
    for row, tokens_of_row in enumerate(tokens):
        ids[row, : len(tokens_of_row)] = tokens_of_row
        mask[row, : len(tokens_of_row)] = 1
    return ids, mask
