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

# What one turn takes at most: enough to fill the worker (on a core, tokens cost the same from about
# 150 on), little enough that a newcomer does not wait long for the turn to end. Twice or four times
# as many give 7% more at the peak, and take 1.2 times as long at the 99th percentile of half of it.
TURN_TOKENS = 256
GPU_TURN_TOKENS = 16_384
# What waits is shared among the workers that are free, but not into turns smaller than this.
SHARE_TOKENS = 128


Answer = Callable[[Encoded], Predictions]


@dataclass
class _Waiting:
    encoded: Encoded
    model: Answer
    tokens: int
    since: float
    answer: "asyncio.Future[Predictions]"


class ModelQueue:
    """Some threads that compute, many requests."""

    def __init__(
        self,
        *,
        waiting_tokens: int,
        workers: int = 1,
        turn_tokens: int | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`workers`: turns that are computed at a time, each in a thread of its own. On a CPU
        several that compute with one core each do more than one with all of them, which wait for
        each other hundreds of times a pass."""
        self._limit = waiting_tokens
        self._turn_tokens = turn_tokens or TURN_TOKENS
        self._waiting: deque[_Waiting] = deque()
        self._tokens = 0
        self._telemetry = telemetry or Telemetry()
        self._free = workers
        self._turns: set[asyncio.Task[None]] = set()
        self._begun: dict[int, float] = {}
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="model")

    async def ask(self, model: Answer, encoded: Encoded) -> Predictions:
        """The answers of `model` for one request; Overloaded if too much waits already.

        `model` runs in a thread of its own, in several at a time. A caller that is cancelled while
        it waits costs no computing.
        """
        tokens = int(encoded.lengths.sum())
        if self._tokens > 0 and self._tokens + tokens > self._limit:
            raise Overloaded(
                f"{self._tokens} tokens are waiting for the model, and {self._limit} may. Try "
                "again in a moment."
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Predictions] = loop.create_future()
        item = _Waiting(encoded, model, tokens, time.perf_counter(), future)
        self._waiting.append(item)
        self._tokens += tokens
        self._telemetry.waiting(len(self._waiting), self._tokens)
        loop.call_soon(self._start_turns)  # what arrives at the same moment goes together
        return await item.answer

    def _start_turns(self) -> None:
        """Gives every free worker a turn, as long as something waits."""
        while self._free > 0 and (turn := self._next_turn()):
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._compute(turn))
            self._turns.add(task)  # the loop itself does not hold on to it
            task.add_done_callback(self._turns.discard)

    def oldest_s(self) -> float:
        """Seconds that the oldest turn under way has taken so far; 0 without any."""
        return time.perf_counter() - min(self._begun.values()) if self._begun else 0.0

    async def _compute(self, turn: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        self._begun[id(turn)] = time.perf_counter()
        try:
            found = await loop.run_in_executor(self._threads, self._infer, turn)
        except asyncio.CancelledError:  # closed
            for item in turn:
                item.answer.cancel()
            raise
        except Exception as error:  # the turn failed: its requests learn why, others go on
            for item in turn:
                if not item.answer.done():
                    item.answer.set_exception(error)
        else:
            _hand_out(turn, found)
        finally:
            del self._begun[id(turn)]
        self._free += 1
        self._start_turns()

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
        share = max(SHARE_TOKENS, -(-self._tokens // self._free))
        most = min(self._turn_tokens, share)
        while self._waiting:
            item = self._waiting[0]
            full = taken + item.tokens > most
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
        """Ends the threads; what waits is cancelled."""
        for task in self._turns:
            task.cancel()
        for item in self._waiting:
            item.answer.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)


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
