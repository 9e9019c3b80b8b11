"""What the service refuses, and when it says that it is not well."""

import asyncio
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from cluster.errors import SwitchyardError
from jobs.classifier.predictor import share_threads
from serve import service as module
from serve.errors import NotReady, Overloaded
from serve.models import Loaded
from serve.schema import Update
from serve.service import Service
from serve.settings import Endpoint
from serve.telemetry import Telemetry


class Held:
    """An encoder that waits in its thread until the test lets it go."""

    def __init__(self, real: Any) -> None:
        import threading

        self.real, self.gate, self.begun = real, threading.Event(), threading.Event()
        self.max_tokens = real.max_tokens

    def encode(self, texts: list[str]) -> Any:
        self.begun.set()
        assert self.gate.wait(30)
        return self.real.encode(texts)


class Predicts:
    """A predictor with an encoder of the test's."""

    def __init__(self, real: Any, encoder: Held) -> None:
        self.about, self.dtype, self.encoder, self.answer = (
            real.about, real.dtype, encoder, real.answer,
        )  # fmt: skip


def test_more_characters_than_the_tokenizer_should_hold_are_refused(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_CHARACTERS", 5000)
    encoder = Held(loaded.predictor.encoder)
    slow = replace(loaded, predictor=Predicts(loaded.predictor, encoder))  # type: ignore[arg-type]

    async def work() -> None:
        made = Service(slow, Endpoint())
        first = asyncio.create_task(made.answer(["a " * 2000]))
        assert await asyncio.to_thread(encoder.begun.wait, 30)
        with pytest.raises(Overloaded, match="4000 characters are waiting for the tokenizer"):
            await made.answer(["b " * 1000])
        encoder.gate.set()
        await first
        answer = await made.answer(["b " * 1000])  # there is room again
        assert len(answer.found.labels) == 1
        made.close()

    asyncio.run(work())


def test_a_short_text_is_answered_while_long_ones_are_tokenized(loaded: Loaded) -> None:
    encoder = Held(loaded.predictor.encoder)
    slow = replace(loaded, predictor=Predicts(loaded.predictor, encoder))  # type: ignore[arg-type]

    async def work() -> None:
        made = Service(slow, Endpoint())
        long = asyncio.create_task(made.answer(["a " * 2000]))
        assert await asyncio.to_thread(encoder.begun.wait, 30)
        made.put(loaded)
        assert len((await made.answer(["vpn"])).found.labels) == 1
        assert not long.done()
        encoder.gate.set()
        await long
        made.close()

    asyncio.run(work())


def test_without_a_model_nothing_is_answered() -> None:
    async def work() -> None:
        made = Service(None, Endpoint())
        with pytest.raises(NotReady):
            await made.answer(["vpn"])
        made.close()

    asyncio.run(work())


def test_what_became_of_the_newest_model_is_said_at_every_change(loaded: Loaded) -> None:
    class Heard(Telemetry):
        said: ClassVar[list[bool]] = []

        def refused(self, is_refused: bool) -> None:
            self.said.append(is_refused)

    async def work() -> None:
        made = Service(loaded, Endpoint(), telemetry=Heard())
        assert made.info().update is None
        problem = Update(wanted="another", problem="It is damaged.", at="2026-01-01T00:00:00")
        made.update = problem
        assert made.info().update == problem
        made.update = None
        made.close()

    asyncio.run(work())
    assert Heard.said == [False, True, False]


def test_a_turn_that_takes_four_times_the_time_of_an_answer_is_no_health(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        made = Service(loaded, Endpoint(limits={"answer_s": 2.0}))  # type: ignore[arg-type]
        for seconds, well in ((0.0, True), (7.9, True), (8.1, False)):
            monkeypatch.setattr(made.queue, "oldest_s", lambda seconds=seconds: seconds)
            if well:
                made.require_health()
            else:
                with pytest.raises(SwitchyardError, match="at one turn for more than 8 s"):
                    made.require_health()
        made.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("threads", "expected"),
    [(1, (1, 1)), (2, (2, 1)), (3, (3, 1)), (4, (4, 1)), (5, (4, 1)), (6, (3, 2)), (8, (4, 2))],
)
def test_threads_are_shared_so_that_few_are_idle_and_at_most_four_compute(
    threads: int, expected: tuple[int, int]
) -> None:
    assert share_threads(threads) == expected
