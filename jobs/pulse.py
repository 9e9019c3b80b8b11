"""What a run says of itself while it trains: batches done, and for how long none was.

It goes through Ray's metrics, which Prometheus scrapes on every node. A thread of its own writes
every few seconds: a step then costs an addition and a look at the clock, and a run that stands
still goes on to say so, since Ray forgets a gauge that is not set again. A process that is gone,
or stopped as a whole, says nothing any more; that looks like the end of its run.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from jobs.classifier.batches import Batch
from jobs.classifier.loop import Feed

# Ray adds `ray_` in front, and forgets a gauge after twice the ten seconds between two exports.
BATCHES = "switchyard_training_batches_total"
IDLE = "switchyard_training_idle_seconds"
EVERY_S = 5.0

Part = Literal["training", "validation"]
# Batches of each part since the last call, and the seconds since the last batch.
Write = Callable[[Mapping[Part, int], float], None]


class Pulse:
    """Counts the batches of one run, and has them written until it is closed."""

    def __init__(
        self,
        write: Write,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._every_s, self._clock = write, every_s, clock
        self._done: dict[Part, int] = {"training": 0, "validation": 0}
        self._written: dict[Part, int] = dict(self._done)
        self._last = clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._thread.start()

    def beat(self, part: Part) -> None:
        """One more batch was done."""
        self._done[part] += 1
        self._last = self._clock()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        sound = True
        while sound and not self._ended.wait(self._every_s):
            sound = self._say()
        if sound:
            self._say()

    def _say(self) -> bool:
        """Whether it could; never fails: training is worth more than what is said of it."""
        now = dict(self._done)
        rises = {part: now[part] - self._written[part] for part in now}
        self._written = now
        try:
            self._write(rises, self._clock() - self._last)
        except Exception:
            logging.getLogger(__name__).exception("There are no more metrics of this run")
            return False
        return True


@dataclass(frozen=True)
class BeatingFeed:
    """A feed whose batches are counted, each once the loop comes for the next."""

    feed: Feed
    pulse: Pulse

    def training_rows(self, epoch: int) -> int:
        return self.feed.training_rows(epoch)

    def training(self, epoch: int, start: int) -> Iterator[Batch]:
        return self._beating(self.feed.training(epoch, start), "training")

    def validation(self) -> Iterator[Batch]:
        return self._beating(self.feed.validation(), "validation")

    def _beating(self, batches: Iterator[Batch], part: Part) -> Iterator[Batch]:
        for batch in batches:
            yield batch
            self.pulse.beat(part)


def run_name(output: str) -> str:
    """What a run is called: the last folder of its URI, which holds no secret as a URI might."""
    return output.partition("?")[0].rstrip("/").rpartition("/")[2].rpartition("@")[2]


@contextmanager
def observed(feed: Feed, run: str, rank: int) -> Iterator[Feed]:
    """The feed, counted under the run's name while the block lasts.

    On rank 0 alone, since all ranks step together; and not at all in a process without Ray.
    """
    import ray

    if rank != 0 or not ray.is_initialized():
        yield feed
        return
    pulse = Pulse(_ray_writer(run))
    try:
        yield BeatingFeed(feed, pulse)
    finally:
        pulse.close()


def _ray_writer(run: str) -> Write:
    batches, idle = _meters()

    def write(rises: Mapping[Part, int], idle_s: float) -> None:
        for part, rise in rises.items():
            if rise > 0:  # Ray's counters refuse a rise by zero
                batches.inc(float(rise), {"run": run, "part": part})
        idle.set(idle_s, {"run": run})

    return write


@cache
def _meters() -> tuple[Any, Any]:
    """One pair for each process: a trial's process goes on to the next trial."""
    from ray.util import metrics

    return (
        metrics.Counter(BATCHES, "batches done by a run, on rank 0", tag_keys=("run", "part")),
        metrics.Gauge(IDLE, "seconds since a run's last batch", tag_keys=("run",)),
    )
