"""The plan of an epoch, and the batches that follow from it.

The plan is a pure function of (seed, epoch, lengths, token budget, how often balancing takes each
row): which rows make up global batch k, whatever the number of workers. Rank r of n takes every
n-th row of it. Knows nothing of where tokens are stored or of who trains on them.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from jobs.classifier.encoding import TokenIds, grid, pad

RowNumbers = npt.NDArray[np.int64]
Copies = npt.NDArray[np.int32]
Pin = Callable[[torch.Tensor], torch.Tensor]
T = TypeVar("T")

# Rows are mixed within this many shards at once: their tokens are what a worker holds in memory.
WINDOW_SHARDS = 16
# How many batches are made ahead of the step.
AHEAD = 4


class Tokens(Protocol):
    """Tokenized rows, numbered through all shards."""

    @property
    def shard_rows(self) -> Sequence[int]: ...
    @property
    def lengths(self) -> npt.NDArray[np.int32]: ...
    @property
    def labels(self) -> npt.NDArray[np.int32]: ...
    @property
    def text_ids(self) -> npt.NDArray[np.uint64]: ...

    def read(self, rows: RowNumbers) -> list[TokenIds]:
        """The token ids of the given rows, in that order."""
        ...


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch.

    `ids`, `mask`: int64 [rows, width]. `labels`: int64 [rows]. `weights`: float32 [rows], 0 for a
    row that only stands in so that a rank with no share of its own takes part in the step.
    `global_rows` counts the rows of all ranks; `done_rows` those of the epoch up to here.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    global_rows: int
    done_rows: int
    real_tokens: int


def plan_epoch(
    tokens: Tokens,
    *,
    seed: int,
    epoch: int,
    batch_tokens: int,
    copies: Copies | None = None,
) -> Iterator[RowNumbers]:
    """Yields the row numbers of each global batch of an epoch, longest row first.

    A batch holds as many rows as fit `batch_tokens` once padded to its longest. `copies` [rows]
    says how often the epoch takes each row, 0 for not at all; without it each is taken once. The
    copies of a row are rows like others: they may meet in a batch or not. Within one window the
    rows are put in the order of their text ids before they are permuted, so that the plan does
    not depend on how files were cut.
    """
    rng = np.random.default_rng([seed, epoch])
    starts = np.concatenate([[0], np.cumsum(tokens.shard_rows)]).astype(np.int64)
    # With a generator of its own: the number of shards must not move what is drawn for rows.
    order = np.random.default_rng([seed, epoch, 1]).permutation(len(tokens.shard_rows))
    for window in range(0, len(order), WINDOW_SHARDS):
        shards = np.sort(order[window : window + WINDOW_SHARDS])
        rows = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in shards])
        if copies is not None:
            rows = np.repeat(rows, copies[rows])
        if rows.size == 0:
            continue
        rows = rows[np.lexsort((tokens.labels[rows], tokens.text_ids[rows]))]
        # Rows of one length in random order: others meet in every epoch, and next to nothing is
        # padded. Mixing lengths within two tokens of each other cost a tenth of the speed.
        blurred = tokens.lengths[rows] + rng.random(rows.size)
        batches = list(_cut(rows[np.argsort(-blurred)], tokens.lengths, batch_tokens))
        for number in rng.permutation(len(batches)):
            yield batches[number]


def plan_in_order(tokens: Tokens, *, batch_tokens: int) -> Iterator[RowNumbers]:
    """Every row once, for validation: by length within windows of shards, nothing random."""
    starts = np.concatenate([[0], np.cumsum(tokens.shard_rows)]).astype(np.int64)
    for window in range(0, len(tokens.shard_rows), WINDOW_SHARDS):
        last = min(window + WINDOW_SHARDS, len(tokens.shard_rows))
        rows = np.arange(starts[window], starts[last])
        longest_first = rows[np.argsort(-tokens.lengths[rows], kind="stable")]
        yield from _cut(longest_first, tokens.lengths, batch_tokens)


def _cut(
    rows: RowNumbers, lengths: npt.NDArray[np.int32], batch_tokens: int
) -> Iterator[RowNumbers]:
    """Cuts rows (roughly longest first) where the padded size would pass the budget."""
    begin, width = 0, 0
    for position, row in enumerate(rows):
        wider = max(width, grid(int(lengths[row])))
        if position > begin and wider * (position - begin + 1) > batch_tokens:
            yield rows[begin:position]
            begin, wider = position, grid(int(lengths[row]))
        width = wider
    if begin < len(rows):
        yield rows[begin:]


def batches(
    tokens: Tokens,
    plan: Iterable[RowNumbers],
    *,
    pad_id: int,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    pin: Pin | None = None,
) -> Iterator[Batch]:
    """This rank's part of each global batch from number `start` on, made ahead in a thread.

    `pin` is what that thread does to each tensor (`pin_for`); None: nothing.
    """
    made = _make(tokens, plan, pad_id, rank, world, start)
    return _ahead(made if pin is None else _pinned(made, pin))


def pin_for(device: torch.device) -> Pin | None:
    """For CUDA, tensors go to memory from which a copy to the device overlaps with computing.

    Tests without such a device see only that it is asked for of every tensor, in the thread. Packed
    rows (jobs.classifier.packed) are gathered from it, and pinned once more.
    """
    return torch.Tensor.pin_memory if device.type == "cuda" else None


def _pinned(made: Iterable[Batch], pin: Pin) -> Iterator[Batch]:
    for batch in made:
        yield replace(
            batch,
            ids=pin(batch.ids),
            mask=pin(batch.mask),
            labels=pin(batch.labels),
            weights=pin(batch.weights),
        )


def _make(
    tokens: Tokens, plan: Iterable[RowNumbers], pad_id: int, rank: int, world: int, start: int
) -> Iterator[Batch]:
    done = 0
    for number, rows in enumerate(plan):
        done += len(rows)
        if number < start:
            continue
        share = rows[rank::world]
        empty = len(share) == 0
        taken = rows[-1:] if empty else share
        token_ids = tokens.read(taken)
        ids, mask = pad(token_ids, pad_id)
        yield Batch(
            ids=torch.from_numpy(ids),
            mask=torch.from_numpy(mask),
            labels=torch.from_numpy(tokens.labels[taken].astype(np.int64)),
            weights=torch.full((len(taken),), 0.0 if empty else 1.0),
            global_rows=len(rows),
            done_rows=done,
            real_tokens=0 if empty else sum(len(ids) for ids in token_ids),
        )


def _ahead(made: Iterator[T]) -> Iterator[T]:
    """Runs an iterator in a thread, a few items ahead; its errors are raised here."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=AHEAD)
    stop = threading.Event()

    def fill() -> None:
        try:
            for item in made:
                if not _put(ready, (item, None), stop):
                    return
            _put(ready, (None, None), stop)
        except BaseException as error:  # handed over, and raised where the items are used
            _put(ready, (None, error), stop)

    thread = threading.Thread(target=fill, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stop.set()
        thread.join()


def _put(ready: "queue.Queue[T]", item: T, stop: threading.Event) -> bool:
    """Puts an item unless the reader has gone; whether it was put."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
