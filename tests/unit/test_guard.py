"""The door: who is let in, how many at a time, and what is put on every reply."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from serve.guard import Guard, Message, Receive, Scope, Send
from serve.keyring import Keyring, hash_key
from serve.settings import Limits
from tests.unit.knocking import KEYS, App, assert_refused, call, run, whole


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


def test_a_replica_that_starts_is_not_ready_and_calls_no_key_wrong() -> None:
    async def work(guard: Guard, _: App) -> None:
        guard.keys = Keyring.unknown()
        assert_refused(await call(guard, authorization="Bearer sy_first"), 503, "not_ready")
        assert (await call(guard, path="/health"))[0] == 200

    run(work, keys=KEYS)
