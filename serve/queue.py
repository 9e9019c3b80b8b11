"""The queue in front of the model: the next batch is formed when the model is free.

No fixed wait: one request on an idle replica goes at once, and under load batches fill up while
the model works. Batches are bounded by tokens, not by rows. Each request says which model it was
encoded for, and a batch is of one model alone: so another model takes over between two batches,
and no request is answered by a model that it was not encoded for. Knows nothing of HTTP.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from jobs.classifier.encoding import Encoded
from jobs.classifier.predictor import Predictions
from serve.errors import Overloaded
from serve.telemetry import Telemetry

# What one turn of the model takes at most: enough to fill it, little enough that a newcomer does
# not wait long for the turn to end.
TURN_TOKENS = 4096


Answer = Callable[[Encoded], Predictions]


@dataclass
class _Waiting:
    encoded: Encoded
    model: Answer
    tokens: int
    since: float
    answer: "asyncio.Future[Predictions]"


class ModelQueue:
    """One thread that computes, many requests."""

    def __init__(self, *, waiting_tokens: int, telemetry: Telemetry | None = None) -> None:
        self._limit = waiting_tokens
        self._waiting: deque[_Waiting] = deque()
        self._tokens = 0
        self._telemetry = telemetry or Telemetry()
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._loop_task: asyncio.Task[None] | None = None

    async def ask(self, model: Answer, encoded: Encoded) -> Predictions:
        """The answers of `model` for one request; Overloaded if too much waits already.

        `model` runs in a thread of its own, one call at a time. A caller that is cancelled while
        it waits costs no computing.
        """
        tokens = int(encoded.lengths.sum())
        if self._tokens > 0 and self._tokens + tokens > self._limit:
            raise Overloaded(
                f"{self._tokens} tokens are waiting for the model, and {self._limit} may. Try "
                "again in a moment."
            )
        if self._loop_task is None:
            self._loop_task = asyncio.get_running_loop().create_task(self._run())
        future: asyncio.Future[Predictions] = asyncio.get_running_loop().create_future()
        item = _Waiting(encoded, model, tokens, time.perf_counter(), future)
        self._waiting.append(item)
        self._tokens += tokens
        self._telemetry.waiting(len(self._waiting), self._tokens)
        self._wake.set()
        return await item.answer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            turn = self._next_turn()
            if not turn:
                self._wake.clear()
                continue
            try:
                found = await loop.run_in_executor(self._thread, self._infer, turn)
            except asyncio.CancelledError:  # closed
                for item in turn:
                    item.answer.cancel()
                raise
            except Exception as error:  # the turn failed: its requests learn why, others go on
                for item in turn:
                    if not item.answer.done():
                        item.answer.set_exception(error)
                continue
            _hand_out(turn, found)

    def _infer(self, turn: Sequence[_Waiting]) -> Predictions:
        """The answers of a turn; in the model's thread."""
        began = time.perf_counter()
        for item in turn:
            self._telemetry.stage("queue", began - item.since)
        together = _together([item.encoded for item in turn])
        self._telemetry.batch(len(together.tokens), sum(item.tokens for item in turn))
        found = turn[0].model(together)
        self._telemetry.stage("infer", time.perf_counter() - began)
        return found

    def _next_turn(self) -> list[_Waiting]:
        """Takes requests of one model, in order, while they fit; callers that left are dropped."""
        turn: list[_Waiting] = []
        taken = 0
        while self._waiting:
            item = self._waiting[0]
            full = taken + item.tokens > TURN_TOKENS
            if not item.answer.done() and turn and (full or item.model != turn[0].model):
                break
            self._waiting.popleft()
            self._tokens -= item.tokens
            if not item.answer.done():
                turn.append(item)
                taken += item.tokens
        self._telemetry.waiting(len(self._waiting), self._tokens)
        return turn

    def close(self) -> None:
        """Ends the thread and the task; what waits is cancelled."""
        if self._loop_task is not None:
            self._loop_task.cancel()
        for item in self._waiting:
            item.answer.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)


def _together(parts: Sequence[Encoded]) -> Encoded:
    if len(parts) == 1:
        return parts[0]
    return Encoded(
        [tokens for part in parts for tokens in part.tokens],
        np.concatenate([part.truncated for part in parts]),
    )


def _hand_out(turn: Sequence[_Waiting], found: Predictions) -> None:
    start = 0
    for item in turn:
        end = start + len(item.encoded.tokens)
        if not item.answer.done():
            item.answer.set_result(
                Predictions(
                    found.labels[start:end],
                    found.scores[start:end],
                    found.abstained[start:end],
                    found.truncated[start:end],
                    found.logits[start:end],
                )
            )
        start = end
