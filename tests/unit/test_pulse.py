"""What a run says of itself while it trains: what was done, and that nothing is."""

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from jobs import pulse
from jobs.classifier.batches import Batch
from jobs.pulse import BeatingFeed, Part, Pulse, observed, run_name

Written = list[tuple[dict[Part, int], float]]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Five:
    """A feed of five batches that are none, and how many of them were taken."""

    def __init__(self) -> None:
        self.taken = 0
        self.closed = False

    def training_rows(self, epoch: int) -> int:
        return 50 + epoch

    def training(self, epoch: int, start: int) -> Iterator[Batch]:
        try:
            for number in range(start, 5):
                self.taken += 1
                yield cast(Batch, number)
        finally:
            self.closed = True

    def validation(self) -> Iterator[Batch]:
        return self.training(0, 3)


def kept(written: Written) -> pulse.Write:
    def write(rises: Mapping[Part, int], idle_s: float) -> None:
        written.append((dict(rises), idle_s))

    return write


def test_batches_are_counted_by_their_part_and_passed_on_as_they_are() -> None:
    written: Written = []
    beating = BeatingFeed(Five(), Pulse(kept(written), every_s=3600))
    assert beating.training_rows(2) == 52
    assert list(beating.training(0, 1)) == [1, 2, 3, 4]
    assert list(beating.validation()) == [3, 4]
    beating.pulse.close()
    assert written[-1][0] == {"training": 4, "validation": 2}


def test_a_batch_counts_once_the_loop_comes_for_the_next() -> None:
    written: Written = []
    beating = BeatingFeed(Five(), Pulse(kept(written), every_s=3600))
    batches = beating.training(0, 0)
    next(batches)
    beating.pulse.close()
    assert written[-1][0]["training"] == 0


def test_a_loop_that_breaks_off_closes_the_feed_below() -> None:
    five = Five()
    beating = BeatingFeed(five, Pulse(kept([]), every_s=3600))
    batches = beating.training(0, 0)
    next(batches)
    del batches
    beating.pulse.close()
    assert five.closed
    assert five.taken == 1


def test_a_run_that_stands_still_goes_on_to_say_for_how_long() -> None:
    written: Written = []
    clock, twice = Clock(), threading.Event()

    def write(rises: Mapping[Part, int], idle_s: float) -> None:
        written.append((dict(rises), idle_s))
        if len(written) >= 2:
            twice.set()

    found = Pulse(write, every_s=0.001, clock=clock)
    clock.now += 1000
    assert twice.wait(30)
    clock.now += 1000
    found.close()
    assert written[-1][1] == 2000
    assert all(rises == {"training": 0, "validation": 0} for rises, _ in written)


def test_a_batch_ends_the_idle_time_and_is_told_once() -> None:
    written: Written = []
    clock, told = Clock(), threading.Event()

    def write(rises: Mapping[Part, int], idle_s: float) -> None:
        written.append((dict(rises), idle_s))
        if sum(done["training"] for done, _ in written) == 1 and idle_s == 7:
            told.set()

    found = Pulse(write, every_s=0.001, clock=clock)
    clock.now += 1000
    found.beat("training")
    clock.now += 7
    assert told.wait(30)
    found.close()
    assert sum(rises["training"] for rises, _ in written) == 1


def test_metrics_that_cannot_be_written_disturb_nobody_and_are_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried = threading.Event()

    def write(*_: Any) -> None:
        tried.set()
        raise OSError("no agent")

    with caplog.at_level(logging.ERROR):
        found = Pulse(write, every_s=0.001)
        assert tried.wait(30)
        found._thread.join(30)
        found.beat("training")
        found.close()
    assert [record.message for record in caplog.records] == [
        "There are no more metrics of this run"
    ]


def test_only_rank_zero_counts_and_only_where_there_is_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    five = Five()
    with observed(five, "nightly", 0) as feed:
        assert feed is five
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(pulse, "_ray_writer", lambda run: kept([]))
    with observed(five, "nightly", 1) as feed:
        assert feed is five
    with observed(five, "nightly", 0) as feed:
        assert isinstance(feed, BeatingFeed)


@pytest.mark.parametrize(
    ("output", "name"),
    [
        ("/runs/nightly", "nightly"),
        ("s3://models/runs/nightly/", "nightly"),
        ("s3://key:secret@bucket", "bucket"),
        ("s3://bucket/nightly?endpoint_override=here&secret=a/b", "nightly"),
    ],
)
def test_a_run_is_called_by_its_folder_and_never_by_a_secret(output: str, name: str) -> None:
    assert run_name(output) == name
