"""What the training loop is fed with on Ray: batches out of token stores, balanced each epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs import balance
from jobs.classifier.batches import Batch, Pin, Tokens, batches, plan_epoch, plan_in_order

VALIDATION_TOKENS = 8192


@dataclass(frozen=True)
class StoreFeed:
    """Batches of one rank out of two token stores.

    `sample` bool [rows]: the training rows that take part; None: all of them. `pin`: as
    jobs.classifier.batches.pin_for gives it.
    """

    training_store: Tokens
    validation_store: Tokens
    sample: balance.Mask | None
    balanced: balance.Plan
    seed: int
    batch_tokens: int
    pad_id: int
    rank: int
    world: int
    pin: Pin | None = None

    def training_rows(self, epoch: int) -> int:
        return self.balanced.rows

    def training(self, epoch: int, start: int) -> Iterator[Batch]:
        copies = balance.draw(
            self.training_store,
            self.balanced.rows_per_class,
            seed=self.seed,
            epoch=epoch if self.balanced.redraw else 0,
            among=self.sample,
        )
        plan = plan_epoch(
            self.training_store,
            seed=self.seed,
            epoch=epoch,
            batch_tokens=self.batch_tokens,
            copies=copies,
        )
        return self._batches(self.training_store, plan, start)

    def validation(self) -> Iterator[Batch]:
        plan = plan_in_order(self.validation_store, batch_tokens=VALIDATION_TOKENS)
        return self._batches(self.validation_store, plan, 0)

    def _batches(self, store: Tokens, plan: Any, start: int) -> Iterator[Batch]:
        return batches(
            store,
            plan,
            pad_id=self.pad_id,
            rank=self.rank,
            world=self.world,
            start=start,
            pin=self.pin,
        )
