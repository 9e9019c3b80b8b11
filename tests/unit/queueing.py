"""A queue whose model works only while the test lets it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jobs.classifier.encoding import Encoded
from jobs.classifier.predictor import Predictions
from serve.queue import ModelQueue


class SlowModel:
    """A model that works only while the test lets it; it answers a text with its first token."""

    def __init__(self) -> None:
        self.turns: list[list[int]] = []  # first tokens of the texts of each turn
        self.faults: dict[int, Exception] = {}  # by number of the turn
        self.threads: set[str] = set()
        self._counting = threading.Lock()
        self._begun = threading.Semaphore(0)
        self._may_end = threading.Semaphore(0)

    def answer(self, encoded: Encoded) -> Predictions:
        marks = [int(ids[0]) for ids in encoded.tokens]
        with self._counting:
            number = len(self.turns)
            self.turns.append(marks)
        self.threads.add(threading.current_thread().name)
        self._begun.release()
        assert self._may_end.acquire(timeout=30)
        if number in self.faults:
            raise self.faults[number]
        first = np.array(marks, dtype=np.int64)
        return Predictions(
            labels=first,
            scores=first[:, None].astype(np.float32) / 10,
            abstained=first % 2 == 0,
            truncated=encoded.truncated,
            logits=-first[:, None].astype(np.float32),
        )

    async def begins(self) -> None:
        """Waits until the next turn has begun, without holding the loop."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            assert await loop.run_in_executor(thread, lambda: self._begun.acquire(timeout=30))

    def let(self, turns: int) -> None:
        """Lets so many turns end."""
        self._may_end.release(turns)


def texts(*lengths: int, mark: int) -> Encoded:
    """Texts of so many tokens; the first one's tokens are `mark`, the next one's `mark` + 1, …"""
    return Encoded(
        [np.full(length, mark + k, dtype=np.int32) for k, length in enumerate(lengths)],
        np.array([length > 5 for length in lengths]),
    )


def run(
    model: SlowModel,
    work: Callable[["Asked"], Coroutine[Any, Any, None]],
    *,
    waiting_tokens: int = 1000,
    workers: int = 1,
) -> None:
    async def session() -> None:
        made = Asked(model, waiting_tokens, workers)
        try:
            async with asyncio.timeout(60):
                await work(made)
        finally:
            model.let(100)
            made.close()

    asyncio.run(session())


class Asked:
    """A queue whose requests are all for one model, unless they name another."""

    def __init__(self, model: SlowModel, waiting_tokens: int, workers: int) -> None:
        self.queue = ModelQueue(waiting_tokens=waiting_tokens, workers=workers)
        self._model = model.answer

    async def ask(self, encoded: Encoded, model: SlowModel | None = None) -> Predictions:
        return await self.queue.ask(model.answer if model is not None else self._model, encoded)

    def close(self) -> None:
        self.queue.close()


async def asked(
    made: Asked, *requests: Encoded
) -> list["asyncio.Task[Predictions]"]:  # each has joined the queue once this returns
    tasks = [asyncio.create_task(made.ask(request)) for request in requests]
    await asyncio.sleep(0)  # one turn of the loop: every task runs to its first wait
    return tasks


def marks(found: Predictions) -> list[int]:
    return found.labels.tolist()
