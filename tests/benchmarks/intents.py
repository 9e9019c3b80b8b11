"""BANKING77 for benchmarks of training: texts, labels, tokens in memory, splits and batches.

A folder with train.parquet and test.parquet, columns text and label. What is chosen is chosen on a
part of the training rows; the test rows are for the last look.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from jobs import balance
from jobs.classifier import network
from jobs.classifier.encoding import Encoder
from jobs.classifier.labels import Labels
from jobs.classifier.recipe import Recipe
from jobs.classifier.text import text_ids
from jobs.feed import StoreFeed
from jobs.settings import Balance, Model, Train
from tests.benchmarks.rows import Ints, Rows

MODEL = Model().name
MAX_TOKENS = Model().max_tokens


def load(folder: Path, split: str) -> tuple[list[str], list[str]]:
    """Texts and labels of `split` (train or test), in the order of the file."""
    table = pq.read_table(folder / f"{split}.parquet", columns=["text", "label"])
    return table["text"].to_pylist(), table["label"].to_pylist()


def tokens_of(
    texts: Sequence[str],
    labels: Sequence[str],
    names: Sequence[str],
    max_tokens: int = MAX_TOKENS,
    model: str = MODEL,
) -> Rows:
    """Tokenized rows; `names` are the labels in sorted order, the position is the class id."""
    return Rows(
        _encoder(model, max_tokens).encode(texts).tokens,
        Labels(tuple(names)).encode(labels, where="the benchmark's rows"),
        text_ids(texts),
    )


@cache
def _encoder(model: str, max_tokens: int) -> Encoder:
    return Encoder(network.model_folder(model), max_tokens, threads=True)


def pad_id(model: str = MODEL, max_tokens: int = MAX_TOKENS) -> int:
    return _encoder(model, max_tokens).pad_id


def stratified(
    labels: Sequence[str] | npt.NDArray[np.int32], share: float, seed: int
) -> tuple[Ints, Ints]:
    """(training rows, validation rows), ascending: `share` of each label's rows is validation.

    A label of two rows or more has at least one on either side; one of a single row trains.
    Equal texts are rows like others: four stand twice in BANKING77's training file.
    """
    rng = np.random.default_rng([seed, 77])
    _, classes = np.unique(np.asarray(labels), return_inverse=True)
    held: list[Ints] = []
    for number in range(int(classes.max()) + 1):
        rows = np.flatnonzero(classes == number)
        wanted = min(max(1, round(share * len(rows))), len(rows) - 1)
        held.append(rng.permutation(rows)[:wanted])
    validation = np.sort(np.concatenate(held)).astype(np.int64)
    training = np.setdiff1d(np.arange(len(classes)), validation).astype(np.int64)
    return training, validation


def default_recipe(epochs: int = Train().epochs) -> Recipe:
    """How `jobs.train` trains on this machine's CPU when nothing else is said."""
    from jobs.training import Training, recipe_of

    return recipe_of(Training(train=Train(epochs=epochs)), torch.device("cpu"))


def feed(
    training: Rows,
    validation: Rows,
    *,
    classes: int,
    batch_tokens: int,
    seed: int = 0,
    balanced: Balance | None = None,
    rank: int = 0,
    world: int = 1,
    pad: int = 0,
) -> StoreFeed:
    """What `jobs.classifier.loop.train` is fed with: the feed of `jobs.train`, out of memory.

    Its field `balanced` is the plan of the strategy (class weights, logit offsets, gamma).
    """
    plan = balance.plan(Balance() if balanced is None else balanced, training.counts(classes))
    return StoreFeed(training, validation, None, plan, seed, batch_tokens, pad, rank, world)
