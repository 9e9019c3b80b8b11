"""The queue with several workers: what each is given, and how long it has been at it."""

import asyncio

import pytest

from serve import queue
from tests.unit.queueing import Asked, SlowModel, asked, marks, run, texts


def test_two_workers_compute_at_a_time_and_share_what_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "SHARE_TOKENS", 1)
    model = SlowModel()

    async def work(made: Asked) -> None:
        tasks = await asked(made, *(texts(2, mark=mark) for mark in (1, 3, 5, 7)))
        await model.begins()
        await model.begins()  # the second begins while the first still computes
        assert sorted(model.turns) == [[1, 3], [5, 7]]
        more = await asked(made, texts(2, mark=9))
        model.let(3)
        assert [marks(await task) for task in (*tasks, *more)] == [[1], [3], [5], [7], [9]]
        assert model.turns[2] == [9]

    run(model, work, workers=2)


def test_little_that_waits_is_not_divided_among_the_workers() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        tasks = await asked(made, *(texts(2, mark=mark) for mark in (1, 3)))
        await model.begins()
        model.let(1)
        assert [marks(await task) for task in tasks] == [[1], [3]]
        assert model.turns == [[1, 3]]

    run(model, work, workers=2)


def test_the_queue_says_how_long_the_oldest_turn_has_taken() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        assert made.queue.oldest_s() == 0
        (only,) = await asked(made, texts(3, mark=7))
        await model.begins()
        first = made.queue.oldest_s()
        assert 0 < first < made.queue.oldest_s()
        model.let(1)
        await only
        await asyncio.sleep(0)
        assert made.queue.oldest_s() == 0

    run(model, work)
