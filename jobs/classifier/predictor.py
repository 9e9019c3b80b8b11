"""Answers from a bundle: text in, the label with its score out, without gradients.

One code path for evaluation, batch prediction and the endpoint, so that they cannot disagree.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from jobs.classifier import bundle, unpadded
from jobs.classifier.encoding import Encoded, Encoder, TokenIds, grid, pad
from jobs.classifier.network import saved_network
from jobs.classifier.precision import Precision, resolve

# What one forward pass takes at most, padding included: large enough to fill two cores, small
# enough that a batch of long texts stays in the cache.
BATCH_TOKENS = 4096
# From about here on a token costs the same, however many more there are.
FILLED_TOKENS = 256
MOST_WORKERS = 4

Logits = Callable[[Sequence[TokenIds]], torch.Tensor]  # float32 [rows, classes]


@dataclass(frozen=True)
class Predictions:
    """Answers for n texts.

    `labels` int64 [n]: class ids. `scores` float32 [n, classes]: calibrated probabilities at the
    natural prior. `abstained`, `truncated` bool [n]. `logits` float32 [n, classes]: what the
    decision is the argmax of. The label is the decision; where a decision
    offset is in force another class may have the higher score.
    """

    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    abstained: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    logits: npt.NDArray[np.float32]

    @property
    def label_scores(self) -> npt.NDArray[np.float32]:
        """float32 [n]: the score of each row's label."""
        return np.take_along_axis(self.scores, self.labels[:, None], axis=1)[:, 0]


def decide(
    logits: torch.Tensor,
    truncated: npt.NDArray[np.bool_],
    decision_offset: Sequence[float],
    abstention_threshold: float,
) -> Predictions:
    """What follows from the logits of a bundle: float32 [n, classes], on the CPU.

    `decision_offset` [classes] is part of them, and is taken out again for the scores; empty is
    none. A row is abstained on if its label's score is below the threshold.
    """
    offset = torch.tensor(list(decision_offset) or [0.0], dtype=torch.float32)
    scores = torch.softmax(logits - offset, dim=-1).numpy()
    labels = logits.argmax(dim=-1).numpy()
    chosen = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    abstained = chosen < np.float32(abstention_threshold)
    return Predictions(labels, scores, abstained, truncated, logits.numpy())


def share_threads(threads: int) -> tuple[int, int]:
    """(how many predict at a time, threads of each), for so many CPU threads together.

    Threads that share a pass wait for each other after each of its hundreds of steps; texts are
    short, and passes of their own have nothing to wait for. Beyond four at a time Python's own
    lock would be what they wait for.
    """
    ways = [(n * (threads // n), n) for n in range(2, MOST_WORKERS + 1) if n <= threads]
    used, workers = max(ways, default=(threads, 1))  # as few cores idle as can be, then as many
    return workers, used // workers


class Predictor:
    """A loaded bundle."""

    def __init__(
        self,
        folder: Path,
        *,
        device: str | None = None,
        precision: Precision = "fp32",
        threads: int | None = None,
        before: "Predictor | None" = None,
    ) -> None:
        """Checks and loads the bundle in a local folder; BundleError if it is not sound.

        `device` is a torch device (None: the GPU if there is one); `threads` is for torch.
        `before`: one that is loaded already; its tokenizer is taken over where it is the same.
        """
        self.about = bundle.check(folder)
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = resolve(precision, self.device)
        self._tokenizer = (bundle.tokenizer_hashes(folder), self.about.max_tokens)
        if before is not None and before._tokenizer == self._tokenizer:
            self.encoder: Encoder = before.encoder
        else:
            self.encoder = Encoder(folder, self.about.max_tokens)
        self._logits = _unpadded(folder, self.dtype, self.device) or _padded(
            folder, self.dtype, self.device, self.encoder.pad_id
        )

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answers in the order of `texts`."""
        encoded = self.encoder.encode(texts)
        return self.answer(encoded)

    def answer(self, encoded: Encoded) -> Predictions:
        """Answers for texts that are encoded already, in their order."""
        classes = len(self.about.labels)
        logits = torch.empty(len(encoded.tokens), classes)
        order = np.argsort([-len(ids) for ids in encoded.tokens], kind="stable")
        for rows in self._cut(encoded.tokens, order):
            logits[rows] = self._forward([encoded.tokens[row] for row in rows])
        return decide(
            logits, encoded.truncated, self.about.decision_offset, self.about.abstention_threshold
        )

    def _cut(
        self, tokens: Sequence[TokenIds], order: npt.NDArray[np.int64]
    ) -> list[npt.NDArray[np.int64]]:
        """Row numbers of each forward pass: longest first, each within the budget once padded, and
        none with texts of less than half the length of others if it is filled without them."""
        cuts, begin = [], 0
        for position in range(1, len(order) + 1):
            width = grid(len(tokens[order[begin]]))
            padded = width * (position - begin)
            full = padded + width > BATCH_TOKENS
            if position < len(order) and padded >= FILLED_TOKENS:
                full = full or 2 * len(tokens[order[position]]) < width
            if position == len(order) or full:
                cuts.append(order[begin:position])
                begin = position
        return cuts

    def _forward(self, tokens: Sequence[TokenIds]) -> torch.Tensor:
        with torch.inference_mode():
            return self._logits(tokens).cpu()


def _unpadded(folder: Path, dtype: torch.dtype, device: torch.device) -> Logits | None:
    """Our own pass, straight from the files: without transformers, whose classes take longer to
    load than all the rest of a replica; None where the network is none of which it is the pass."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = folder / "model.safetensors"
    if not unpadded.fits(config) or not weights.exists():
        return None
    return unpadded.Unpadded(load_file(weights), config, dtype=dtype, device=device)


def _padded(folder: Path, dtype: torch.dtype, device: torch.device, pad_id: int) -> Logits:
    """The pass of transformers, for every other network."""
    network = saved_network(folder).to(device)
    if dtype is not torch.float32:
        _halve(network, dtype)

    def logits(tokens: Sequence[TokenIds]) -> torch.Tensor:
        ids, mask = pad(tokens, pad_id)
        output = network(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
        )
        return torch.as_tensor(output.logits).float()

    return logits


def _halve(network: Any, dtype: torch.dtype) -> None:
    """Keeps the encoder's weights in `dtype`, so that no pass converts them; the head computes in
    float32, since temperature and offsets are folded into it and a label hangs on small
    differences of its sums."""
    network.base_model.to(dtype)
    for name, part in network.named_children():
        if name != network.base_model_prefix:
            part.register_forward_pre_hook(_in_float32)


def _in_float32(_: torch.nn.Module, values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(v.float() if isinstance(v, torch.Tensor) else v for v in values)
