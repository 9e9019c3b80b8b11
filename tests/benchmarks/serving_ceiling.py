"""The ceiling of tests.benchmarks.serving: the bare forward pass, without any server.

    python -m tests.benchmarks.serving_ceiling --banking FOLDER --bundle FOLDER --seconds N

Rows a second: 1,024 of BANKING77's texts, as short and long as all of them, tokenized and padded
beforehand, sorted by length, in batches of each size. One text: the forward pass alone, and with
the tokens before and the decision after it. Prints one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.classifier.bundle import read_about
from jobs.classifier.encoding import Encoder, TokenIds, pad
from jobs.classifier.network import saved_network
from jobs.classifier.precision import resolve
from jobs.classifier.predictor import decide
from tests.benchmarks import intents
from tests.benchmarks.lines import Line

SIZES = (1, 8, 32, 64, 128)
WAYS = ("fp32", "autocast", "bf16")
TEXTS = 1024

Batch = dict[str, torch.Tensor]
Forward = Callable[[Batch], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--banking", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="of each figure at least")
    asked = parser.parse_args()
    texts, _ = intents.load(asked.banking, "train")
    print(json.dumps(measure(asked.bundle, texts, asked.seconds)))


def measure(bundle: Path, texts: Sequence[str], seconds: float) -> Line:
    """`rates`: rows a second of each way and size; the best of each figure over the ways."""
    encoder = Encoder(bundle, read_about(bundle).max_tokens)
    lengths = encoder.encode(texts).lengths
    chosen = np.argsort(lengths, kind="stable")[np.linspace(0, len(texts) - 1, TEXTS).astype(int)]
    texts = [texts[row] for row in chosen]
    tokens = encoder.encode(texts).tokens
    rates: dict[str, float] = {}
    alone: dict[str, float] = {}
    whole: dict[str, float] = {}
    for way in ways():
        forward = make_forward(bundle, way)
        for size in SIZES:
            found = passes(forward, batches(tokens, size, encoder.pad_id), seconds)
            rates[f"{way}-{size}"] = round(size / float(np.mean(found)), 2)
            if size == 1:
                alone[way] = round(float(np.median(found)) * 1e3, 3)
        whole[way] = round(answer_seconds(encoder, forward, texts, seconds) * 1e3, 3)
    best = max(rates, key=lambda name: rates[name])
    return {
        "rows_per_second": rates[best],
        "best": best,
        "forward_p50_ms": min(alone.values()),
        "answer_p50_ms": min(whole.values()),
        "rates": rates,
        "threads": torch.get_num_threads(),
    }


def ways() -> Sequence[str]:
    """Those that are worth trying: without the hardware for it bf16 is emulated."""
    fast = resolve("auto", torch.device("cpu")) is torch.bfloat16
    return WAYS if fast else ("fp32",)


def make_forward(bundle: Path, way: str) -> Forward:
    """Ids and mask → logits float32 [rows, classes], in float32, under autocast, or with weights
    in bfloat16."""
    network: Any = saved_network(bundle)
    network = network.to(torch.bfloat16) if way == "bf16" else network

    def forward(batch: Batch) -> torch.Tensor:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=way == "autocast"),
        ):
            return torch.as_tensor(network(**batch).logits).float()

    return forward


def batches(tokens: Sequence[TokenIds], size: int, pad_id: int) -> list[Batch]:
    """Batches of rows that stand side by side; TEXTS is a multiple of every size."""
    return [batch_of(tokens[k : k + size], pad_id) for k in range(0, len(tokens), size)]


def batch_of(tokens: Sequence[TokenIds], pad_id: int) -> Batch:
    ids, mask = pad(tokens, pad_id)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def passes(forward: Forward, given: Sequence[Batch], seconds: float) -> list[float]:
    """Seconds of each pass: of all batches as often as there is time for, and once at least."""
    for batch in {batch["input_ids"].shape: batch for batch in given}.values():
        forward(batch)  # kernels are made for every new shape
    found: list[float] = []
    until = time.perf_counter() + seconds
    while not found or time.perf_counter() < until:
        for batch in given:
            began = time.perf_counter()
            forward(batch)
            found.append(time.perf_counter() - began)
    return found


def answer_seconds(
    encoder: Encoder, forward: Forward, texts: Sequence[str], seconds: float
) -> float:
    """The median time from one text to its label and scores."""
    found: list[float] = []
    until = time.perf_counter() + seconds
    while not found or time.perf_counter() < until:
        for text in texts:
            began = time.perf_counter()
            encoded = encoder.encode([text])
            decide(forward(batch_of(encoded.tokens, encoder.pad_id)), encoded.truncated, (), 0.0)
            found.append(time.perf_counter() - began)
    return float(np.median(found))


if __name__ == "__main__":
    main()
