"""The endpoint's door, with a plain ASGI application behind it and a server played by the test."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

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
