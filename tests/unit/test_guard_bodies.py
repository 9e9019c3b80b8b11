"""The door and bodies: too long, too slow, broken off, or not waited for."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from serve.guard import Guard, Message, Receive, Scope, Send
from serve.keyring import Keyring
from serve.settings import Limits
from tests.unit.knocking import KEYS, App, assert_refused, call, in_parts, run, whole


def test_a_body_that_stops_coming_is_refused_with_408_and_the_app_never_sees_it() -> None:
    async def work(guard: Guard, app: App) -> None:
        begun: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]
        reply = await call(guard, begun)
        assert_refused(reply, 408, "body_too_slow")
        assert b"0.05 s" in reply[2]
        assert app.bodies == []

    run(work, body_s=0.05)


def test_a_body_that_only_ever_drips_is_refused_with_408_too() -> None:
    async def work(guard: Guard, app: App) -> None:
        async def drips() -> AsyncIterator[Message]:
            while True:
                await asyncio.sleep(0)
                yield {"type": "http.request", "body": b"", "more_body": True}

        coming = drips()
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {"type": "http", "path": "/predict", "headers": []}
        await guard(scope, lambda: anext(coming), send)  # type: ignore[arg-type, return-value]
        assert sent[0]["status"] == 408
        assert app.bodies == []

    run(work, body_s=0.05)


def test_a_chunked_body_is_read_no_further_than_its_limit() -> None:
    taken = 0

    def endless() -> Iterable[Message]:
        nonlocal taken
        while True:
            taken += 1
            yield {"type": "http.request", "body": b"x" * 400, "more_body": True}

    async def work(guard: Guard, app: App) -> None:
        reply = await call(guard, endless(), transfer_encoding="chunked")
        assert_refused(reply, 413, "too_large")
        assert taken == 3
        assert app.bodies == []

    run(work, body_bytes=1000)


def test_a_length_above_the_limit_is_refused_before_any_byte_is_read() -> None:
    def unread() -> Iterable[Message]:
        raise AssertionError("the body was read")
        yield

    async def work(guard: Guard, app: App) -> None:
        for length in ("1001", "9" * 30, "9" * 5000):
            reply = await call(guard, unread(), content_length=length)
            assert_refused(reply, 413, "too_large")
            assert len(reply[2]) < 300
        assert app.bodies == []

    run(work, body_bytes=1000)


@pytest.mark.parametrize("length", ["10", "-1", "abc", ""])
def test_a_length_that_lies_changes_nothing(length: str) -> None:
    async def work(guard: Guard, app: App) -> None:
        reply = await call(guard, whole(b"x" * 1001), content_length=length)
        assert_refused(reply, 413, "too_large")
        good = await call(guard, whole(b"y" * 20), content_length=length)
        assert good[::2] == (200, b"y" * 20)

    run(work, body_bytes=1000)


def test_a_body_of_exactly_the_limit_passes_whole_and_in_parts() -> None:
    async def work(guard: Guard, app: App) -> None:
        assert (await call(guard, whole(b"x" * 1000), content_length="1000"))[0] == 200
        assert (await call(guard, in_parts(b"a" * 600, b"b" * 400)))[0] == 200
        assert app.bodies == [b"x" * 1000, b"a" * 600 + b"b" * 400]

    run(work, body_bytes=1000)


@pytest.mark.parametrize("parts", [(), (b"half of a",)])
def test_a_client_that_leaves_during_its_body_does_no_harm(parts: tuple[bytes, ...]) -> None:
    def leaves() -> Iterable[Message]:
        for part in parts:
            yield {"type": "http.request", "body": part, "more_body": True}
        while True:
            yield {"type": "http.disconnect"}

    async def work(guard: Guard, app: App) -> None:
        await call(guard, leaves())
        assert app.bodies in ([], [b""])  # never half of a body as if it were all
        assert (await call(guard, whole(b"next")))[::2] == (200, b"next")

    run(work)


def test_behind_the_body_the_app_hears_what_the_server_says() -> None:
    heard: list[Message] = []

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        heard.extend([await receive(), await receive()])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def messages() -> Iterable[Message]:
        yield from whole(b"all")
        yield {"type": "http.disconnect"}

    asyncio.run(call(Guard(app, keys=Keyring(None), limits=Limits()), messages()))
    assert heard == [
        {"type": "http.request", "body": b"all", "more_body": False},
        {"type": "http.disconnect"},
    ]


def test_where_no_key_is_needed_no_body_is_waited_for() -> None:
    """Else everybody without a key could hold the places that Serve gives out."""

    async def work(guard: Guard, app: App) -> None:
        seen: list[Receive] = []

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(receive)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        guard.app = answer
        dripping = ({"type": "http.request", "body": b"a", "more_body": True} for _ in range(1))
        status, _, _ = await call(guard, dripping, path="/health")
        assert (status, len(seen), next(dripping)["body"]) == (200, 1, b"a")

    run(work, keys=KEYS)


def test_bodies_on_their_way_count_among_the_requests_under_way() -> None:
    async def work(guard: Guard, _: App) -> None:
        slow = [asyncio.create_task(call(guard, _half())) for _ in range(2)]
        await asyncio.sleep(0)
        assert_refused(await call(guard, whole(b"{}")), 429, "overloaded")
        for task in slow:
            assert_refused(await task, 408, "body_too_slow")
        assert (await call(guard, whole(b"{}")))[0] == 200

    run(work, waiting_requests=2, body_s=0.2)


def _half() -> Iterable[Message]:
    yield {"type": "http.request", "body": b"{", "more_body": True}
