"""What the benchmark of serving asks about and asks: BANKING77's texts, and a bundle that answers.

The bundle's head is drawn, not trained: it answers as fast as one that is right.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tests.benchmarks import intents

KEY = "sy_benchmark-key"
TOP_K = 3
MANY = 32


@dataclass(frozen=True)
class Inputs:
    """Texts in an order drawn once, and files of request bodies, the same for every side.

    `one` has one text a line, `many` has MANY.
    """

    texts: list[str]
    folder: Path

    @cached_property
    def one(self) -> Path:
        return self._file("bodies-1.txt", 1)

    @cached_property
    def many(self) -> Path:
        return self._file(f"bodies-{MANY}.txt", MANY)

    @cached_property
    def keys(self) -> Path:
        place = self.folder / "keys.txt"
        place.write_text(KEY + "\n")
        return place

    def _file(self, name: str, texts: int) -> Path:
        whole = len(self.texts) // texts * texts
        groups = [self.texts[start : start + texts] for start in range(0, whole, texts)]
        place = self.folder / name
        place.write_text("".join(body(group) + "\n" for group in groups))
        return place


def inputs(banking: Path, folder: Path) -> Inputs:
    """From the training file of BANKING77; `folder` is made."""
    folder.mkdir(parents=True, exist_ok=True)
    texts, _ = intents.load(banking, "train")
    order = np.random.default_rng(0).permutation(len(texts))
    return Inputs([texts[row] for row in order], folder)


def body(texts: list[str]) -> str:
    """A request as all sides understand it; one line."""
    return json.dumps({"texts": texts, "top_k": TOP_K})


def make_bundle(banking: Path, folder: Path, model: str) -> Path:
    """A bundle of BANKING77's labels on the pretrained `model`, made now if it is not there."""
    from jobs.classifier import bundle
    from jobs.classifier.network import model_folder, new_network, position_limit

    place = folder / f"bundle-{Path(model).name}"
    if (place / bundle.COMMIT).exists():
        return place
    labels = sorted(set(intents.load(banking, "train")[1]))
    even = [1 / len(labels)] * len(labels)
    source = model_folder(model)
    bundle.write(
        place,
        network=new_network(source, labels, dropout=0.1, seed=0),
        tokenizer_folder=source,
        about=bundle.About(
            labels=labels,
            max_tokens=min(intents.MAX_TOKENS, position_limit(source)),
            text_columns=["text"],
            training_prior=even,
            natural_prior=even,
            decision_offset=[0.0] * len(labels),
            versions=bundle.versions(),
        ),
        metrics={},
        card="# For a benchmark: the head is not trained\n",
    )
    return place
