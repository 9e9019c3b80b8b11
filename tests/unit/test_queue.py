"""The queue in front of the model: what runs when, for whom, and what is refused."""

import asyncio
import threading

import pytest

from jobs.classifier.predictor import Predictions
from serve import queue
from serve.errors import Overloaded
from tests.unit.queueing import Asked, SlowModel, asked, marks, run, texts


def test_one_request_on_an_idle_queue_goes_to_the_model_at_once_and_alone() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        (only,) = await asked(made, texts(3, mark=7))
        await model.begins()
        assert model.turns == [[7]]
        model.let(1)
        assert marks(await only) == [7]

    run(model, work)


def test_what_arrives_while_the_model_works_is_the_next_turn_as_one() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        first = await asked(made, texts(1, mark=1))
        await model.begins()
        later = await asked(made, *(texts(1, mark=m) for m in range(2, 8)))
        model.let(2)
        found = await asyncio.gather(*first, *later)
        assert model.turns == [[1], [2, 3, 4, 5, 6, 7]]
        assert [marks(answer) for answer in found] == [[m] for m in range(1, 8)]

    run(model, work)


def test_the_model_is_called_in_one_thread_that_is_not_the_loops() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        model.let(3)
        for mark in (1, 2, 3):
            await made.ask(texts(1, mark=mark))
        assert len(model.threads) == 1
        assert threading.current_thread().name not in model.threads

    run(model, work)


def test_every_caller_gets_its_own_rows_of_every_column() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        first = await asked(made, texts(1, mark=1))
        await model.begins()
        later = await asked(made, texts(2, 7, mark=10), texts(3, mark=20), texts(1, 9, 1, mark=30))
        model.let(2)
        await first[0]
        ten, twenty, thirty = await asyncio.gather(*later)
        assert [marks(a) for a in (ten, twenty, thirty)] == [[10, 11], [20], [30, 31, 32]]
        assert ten.truncated.tolist() == [False, True]
        assert thirty.truncated.tolist() == [False, True, False]
        assert ten.abstained.tolist() == [True, False]
        assert twenty.scores.tolist() == [[2.0]]
        assert thirty.logits[:, 0].tolist() == [-30, -31, -32]

    run(model, work)


def test_a_turn_takes_no_more_tokens_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "TURN_TOKENS", 10)
    model = SlowModel()

    async def work(made: Asked) -> None:
        first = await asked(made, texts(1, mark=1))
        await model.begins()
        later = await asked(
            made, texts(4, mark=2), texts(3, 3, mark=3), texts(1, mark=5), texts(9, mark=6)
        )
        model.let(4)
        await asyncio.gather(*first, *later)
        assert model.turns == [[1], [2, 3, 4], [5, 6]]

    run(model, work)


def test_a_request_above_the_budget_goes_alone_and_nobody_overtakes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "TURN_TOKENS", 10)
    model = SlowModel()

    async def work(made: Asked) -> None:
        first = await asked(made, texts(1, mark=1))
        await model.begins()
        later = await asked(made, texts(4, mark=2), texts(25, mark=3), texts(4, mark=4))
        model.let(4)
        await asyncio.gather(*first, *later)
        assert model.turns == [[1], [2], [3], [4]]

    run(model, work)


def test_a_caller_that_has_gone_costs_no_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "TURN_TOKENS", 10)
    model = SlowModel()

    async def work(made: Asked) -> None:
        first = await asked(made, texts(1, mark=1))
        await model.begins()
        before, gone, after = await asked(
            made, texts(5, mark=2), texts(9, mark=3), texts(5, mark=4)
        )
        gone.cancel()
        model.let(2)
        await asyncio.gather(*first, before, after)
        assert gone.cancelled()
        # Neither computed nor counted: what stands around it fits into one turn.
        assert model.turns == [[1], [2, 4]]

    run(model, work)


def test_the_model_is_not_called_for_callers_that_have_all_gone() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        first = await asked(made, texts(1, mark=1))
        await model.begins()
        gone = await asked(made, texts(1, mark=2), texts(1, mark=3))
        for task in gone:
            task.cancel()
        model.let(1)
        await asyncio.gather(*first, *gone, return_exceptions=True)
        model.let(1)
        assert marks(await made.ask(texts(1, mark=4))) == [4]
        assert model.turns == [[1], [4]]

    run(model, work)


def test_a_caller_that_goes_while_its_turn_runs_disturbs_no_other() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        first = await asked(made, texts(1, mark=1))
        await model.begins()
        gone, stays = await asked(made, texts(2, 2, mark=2), texts(2, mark=5))
        model.let(1)
        await first[0]
        await model.begins()
        gone.cancel()
        model.let(1)
        assert marks(await stays) == [5]
        assert model.turns == [[1], [2, 3, 5]]

    run(model, work)


def test_more_waiting_tokens_than_allowed_are_refused_and_the_rest_is_answered() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        first = await asked(made, texts(9, mark=1))
        await model.begins()
        (waits,) = await asked(made, texts(4, 4, mark=2))
        with pytest.raises(Overloaded, match=r"8 tokens are waiting .* 10 may") as refused:
            await made.ask(texts(3, mark=4))
        assert refused.value.headers == {"Retry-After": "1"}
        (fits,) = await asked(made, texts(2, mark=5))
        model.let(2)
        found = await asyncio.gather(*first, waits, fits)
        assert [marks(a) for a in found] == [[1], [2, 3], [5]]
        assert model.turns == [[1], [2, 3, 5]]

    run(model, work, waiting_tokens=10)


def test_a_request_above_the_limit_is_taken_while_nothing_waits() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        model.let(1)
        assert marks(await made.ask(texts(50, mark=1))) == [1]

    run(model, work, waiting_tokens=10)


def test_room_is_given_back_by_answers_faults_and_callers_that_left() -> None:
    model = SlowModel()
    model.faults[1] = ValueError("the second turn fails")

    async def work(made: Asked) -> None:
        first = await asked(made, texts(1, mark=1))
        await model.begins()
        fails, gone = await asked(made, texts(5, mark=2), texts(5, mark=3))
        gone.cancel()
        model.let(2)
        await asyncio.gather(*first, fails, gone, return_exceptions=True)
        busy = await asked(made, texts(1, mark=4))
        await model.begins()
        full = await asked(made, texts(5, mark=5), texts(5, mark=6))  # all ten are free again
        model.let(2)
        assert [marks(a) for a in await asyncio.gather(*busy, *full)] == [[4], [5], [6]]

    run(model, work, waiting_tokens=10)


def test_an_exception_reaches_all_callers_of_its_turn_and_the_queue_goes_on() -> None:
    model = SlowModel()
    model.faults[1] = MemoryError("no room for this turn")

    async def work(made: Asked) -> None:
        first = await asked(made, texts(1, mark=1))
        await model.begins()
        both = await asked(made, texts(1, mark=2), texts(1, mark=3))
        model.let(3)
        found = await asyncio.gather(*first, *both, return_exceptions=True)
        assert isinstance(found[0], Predictions)
        assert found[1:] == [model.faults[1]] * 2
        assert marks(await made.ask(texts(1, mark=4))) == [4]

    run(model, work)


def test_closing_cancels_what_waits_and_what_runs() -> None:
    model = SlowModel()

    async def work(made: Asked) -> None:
        runs = await asked(made, texts(1, mark=1))
        await model.begins()
        waits = await asked(made, texts(1, mark=2))
        made.close()
        async with asyncio.timeout(10):
            await asyncio.wait([*runs, *waits])
        assert runs[0].cancelled()
        assert waits[0].cancelled()
        assert model.turns == [[1]]

    run(model, work)


def test_a_turn_is_of_one_model_and_each_request_is_answered_by_the_one_it_named() -> None:
    old, new = SlowModel(), SlowModel()

    async def work(made: Asked) -> None:
        first = asyncio.create_task(made.ask(texts(2, mark=1)))
        await old.begins()
        rest = [
            asyncio.create_task(made.ask(texts(2, mark=mark), model))
            for mark, model in ((2, None), (3, None), (4, new), (5, new))
        ]
        await asyncio.sleep(0)
        old.let(2)
        new.let(1)
        found = [marks(await task) for task in (first, *rest)]
        assert found == [[1], [2], [3], [4], [5]]
        assert old.turns == [[1], [2, 3]]
        assert new.turns == [[4, 5]]

    run(old, work)
