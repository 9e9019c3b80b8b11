"""The door, with a plain ASGI application behind it and a server played by the test."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import pytest

from serve.guard import Guard, Message, Receive, Scope, Send
from serve.keyring import Keyring, hash_key
from serve.settings import Limits

KEYS = ("sy_first", "sy_second", "sy_dritte-ä")
Reply = tuple[int, dict[str, str], bytes]


class App:
    """Answers 200 with the body it got; stands still while `gate` is closed."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert message["more_body"] is False
        self.bodies.append(message["body"])
        self.entered.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})


def whole(body: bytes) -> Iterable[Message]:
    yield {"type": "http.request", "body": body, "more_body": False}


def in_parts(*parts: bytes) -> Iterable[Message]:
    for part in parts:
        yield {"type": "http.request", "body": part, "more_body": True}
    yield {"type": "http.request", "body": b"", "more_body": False}


async def call(
    guard: Guard,
    messages: Iterable[Message] = (),
    *,
    path: str = "/v1/classify",
    **headers: str | bytes,
) -> Reply:
    """One request; after `messages` the server says nothing more for ever."""
    coming = iter(messages or whole(b""))
    sent: list[Message] = []

    async def receive() -> Message:
        for message in coming:
            return message
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [
        (k.replace("_", "-").encode(), v if isinstance(v, bytes) else v.encode("latin-1"))
        for k, v in headers.items()
    ]
    scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": raw}
    await guard(scope, receive, send)
    start, *rest = sent
    found = {k.decode(): v.decode() for k, v in start["headers"]}
    return start["status"], found, b"".join(message["body"] for message in rest)


def run(
    work: Callable[[Guard, App], Coroutine[Any, Any, None]],
    *,
    keys: Iterable[str] = (),
    says_id: bool = True,
    **limits: Any,
) -> None:
    async def session() -> None:
        app = App()
        ring = Keyring([hash_key(k) for k in keys] or None)
        made = Guard(app, keys=ring, limits=Limits(**limits), says_id=says_id)
        async with asyncio.timeout(30):
            await work(made, app)
        assert made.under_way == 0

    asyncio.run(session())


def assert_refused(reply: Reply, status: int, kind: str) -> dict[str, str]:
    found, headers, body = reply
    assert found == status, body
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == len(body)
    said = json.loads(body)
    assert set(said) == {"error", "error_type"}
    assert said["error_type"] == kind
    assert headers["x-request-id"]
    assert headers["x-content-type-options"] == "nosniff"
    return headers


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


def test_too_many_requests_under_way_are_refused_with_429_until_one_ends() -> None:
    async def work(guard: Guard, app: App) -> None:
        app.gate.clear()
        under_way = []
        for _ in range(2):
            app.entered.clear()
            under_way.append(asyncio.create_task(call(guard, whole(b"first"))))
            await app.entered.wait()
        headers = assert_refused(await call(guard, whole(b"third")), 429, "overloaded")
        assert int(headers["retry-after"]) >= 1
        app.gate.set()
        assert [reply[0] for reply in await asyncio.gather(*under_way)] == [200, 200]
        assert (await call(guard, whole(b"fourth")))[0] == 200
        assert app.bodies == [b"first", b"first", b"fourth"]

    run(work, waiting_requests=2)


def test_health_and_ready_answer_while_all_else_is_refused() -> None:
    async def work(guard: Guard, app: App) -> None:
        app.gate.clear()
        busy = asyncio.create_task(call(guard, whole(b"busy")))
        await app.entered.wait()
        assert_refused(await call(guard), 429, "overloaded")
        looks = []
        for path in ("/health", "/ready"):
            app.entered.clear()
            looks.append(asyncio.create_task(call(guard, path=path)))
            await app.entered.wait()
        app.gate.set()
        assert [reply[0] for reply in await asyncio.gather(busy, *looks)] == [200, 200, 200]

    run(work, waiting_requests=1)


def test_a_request_that_fails_or_is_cancelled_gives_its_place_back() -> None:
    async def work(guard: Guard, app: App) -> None:
        app.fault = RuntimeError("a fault of the application")
        with pytest.raises(RuntimeError, match="a fault of the application"):
            await call(guard)
        app.fault = None
        app.gate.clear()
        app.entered.clear()
        gone = asyncio.create_task(call(guard))
        await app.entered.wait()
        gone.cancel()
        await asyncio.wait([gone])
        app.gate.set()
        assert (await call(guard))[0] == 200

    run(work, waiting_requests=1)


@pytest.mark.parametrize("key", KEYS)
def test_every_one_of_several_keys_is_let_in(key: str) -> None:
    async def work(guard: Guard, app: App) -> None:
        sent = b"Bearer " + key.encode()
        assert (await call(guard, whole(b"text"), authorization=sent))[0] == 200
        assert app.bodies == [b"text"]

    run(work, keys=KEYS)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "sy_first",
        "Basic sy_first",
        "Bearer sy_firs",
        "Bearer sy_first2",
        "Bearer SY_FIRST",
        "Bearer sy_first sy_second",
        "Bearer sy_first,sy_second",
        f"Bearer {hash_key('sy_first')}",
        "Bearer \xff\xfe",
        "Bearer " + "x" * 100_000,
    ],
)
def test_without_a_known_key_the_answer_is_401_and_the_body_is_not_read(sent: str | None) -> None:
    def unread() -> Iterable[Message]:
        raise AssertionError("the body was read")
        yield

    async def work(guard: Guard, app: App) -> None:
        headers = {} if sent is None else {"authorization": sent}
        reply = await call(guard, unread(), **headers)
        assert assert_refused(reply, 401, "unauthorized")["www-authenticate"] == "Bearer"
        assert b"sy_" not in reply[2]
        assert app.bodies == []

    run(work, keys=KEYS)


@pytest.mark.parametrize(
    "path", ["/healthy", "/health/", "//health", "/v1/../health", "/Health", ""]
)
def test_only_the_public_paths_themselves_need_no_key(path: str) -> None:
    async def work(guard: Guard, _: App) -> None:
        assert_refused(await call(guard, path=path), 401, "unauthorized")
        assert (await call(guard, path="/health"))[0] == 200

    run(work, keys=KEYS)


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


def test_the_request_id_is_in_the_state_of_the_request_and_on_the_reply() -> None:
    states: list[Any] = []

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        states.append(scope["state"])
        await send({"type": "http.response.start", "status": 204, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b""})

    guard = Guard(app, keys=Keyring(None), limits=Limits())
    status, headers, _ = asyncio.run(call(guard, x_request_id="mine-1"))
    assert (status, headers["a"], headers["x-request-id"]) == (204, "b", "mine-1")
    assert states == [{"request_id": "mine-1"}]


def test_where_serve_says_the_id_itself_the_door_does_not() -> None:
    async def work(guard: Guard, _: App) -> None:
        for path, status in (("/health", 200), ("/info", 401)):
            reply = await call(guard, path=path, x_request_id="mine-1")
            assert reply[0] == status
            assert "x-request-id" not in reply[1]
            assert reply[1]["x-content-type-options"] == "nosniff"

    run(work, keys=KEYS, says_id=False)


def test_what_is_not_http_passes_untouched() -> None:
    seen: list[tuple[Any, ...]] = []

    async def app(*given: Any) -> None:
        seen.append(given)

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(_: Message) -> None:
        return

    scope: Scope = {"type": "lifespan"}
    guard = Guard(app, keys=Keyring([hash_key("sy_first")]), limits=Limits())
    asyncio.run(guard(scope, receive, send))
    assert seen == [(scope, receive, send)]


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
