"""The door: an ASGI layer around the application that lets in what may come in.

Keys, body size and body time, the number of requests under way, a request id on every reply, and
no header that tells a browser more than it needs. Serve's own limits answer in plain text and
take a slot before the body is read; here every refusal is JSON of the contract.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serve.errors import BodyTooSlow, NotReady, Overloaded, RequestError, TooLarge, Unauthorized
from serve.keyring import Keyring
from serve.settings import Limits
from serve.telemetry import Telemetry

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PUBLIC = frozenset({"/", "/health", "/ready", "/docs", "/openapi.json"})
REQUEST_ID = "x-request-id"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def error_body(error: RequestError) -> bytes:
    return json.dumps({"error": str(error), "error_type": error.kind}).encode()


class Guard:
    """Wraps an application; see the module."""

    def __init__(
        self,
        app: App,
        *,
        keys: Keyring,
        limits: Limits,
        says_id: bool = True,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`says_id`: whether the request id is put on replies here; Ray Serve does it itself."""
        self.app = app
        self.keys = keys
        self.limits = limits
        self.says_id = says_id
        self.under_way = 0
        self._telemetry = telemetry or Telemetry()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = {name.lower(): value for name, value in scope["headers"]}
        given = headers.get(REQUEST_ID.encode(), b"").decode("latin-1")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        reply = _Reply(send, request_id if self.says_id else None)
        try:
            await self._let_in(scope, headers, receive, reply)
        finally:
            # Nothing was sent where the client left, or where the application failed.
            self._telemetry.request(
                scope["path"], reply.status, state.get("error_type"), time.perf_counter() - began
            )

    async def _let_in(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        path = scope["path"]
        if path in PUBLIC:  # none of them reads a body, and nobody is asked for a key
            await self.app(scope, receive, send)
            return
        try:
            self._check_key(headers)
            self._check_room()
        except RequestError as error:
            await _refuse(scope, send, error)
            return
        self.under_way += 1
        try:
            body = await self._read_body(headers, receive)
            await self.app(scope, _replay(body, receive), send)
        except RequestError as error:  # of the body alone: the application answers its own
            await _refuse(scope, send, error)
        finally:
            self.under_way -= 1

    def _check_room(self) -> None:
        if self.under_way >= self.limits.waiting_requests:
            raise Overloaded(
                f"{self.under_way} requests are under way, as many as this replica takes. "
                "Try again in a moment."
            )

    def _check_key(self, headers: dict[bytes, bytes]) -> None:
        if self.keys.is_open:
            return
        if not self.keys.is_known:  # a replica that starts: the right key must not be called wrong
            raise NotReady("This replica is starting. Try again in a moment.")
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise Unauthorized("This endpoint needs a key: send Authorization: Bearer KEY.")
        if not self.keys.allows(key.strip()):
            raise Unauthorized("The key is not one that this endpoint knows.")

    async def _read_body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        limit = self.limits.body_bytes
        length = headers.get(b"content-length", b"")
        # Twenty digits are too many for any body, and int() raises for thousands of them.
        if length.isdigit() and (len(length) >= 20 or int(length) > limit):
            raise TooLarge(f"The body has more than {limit} bytes, which is what is allowed.")
        try:
            async with asyncio.timeout(self.limits.body_s):
                return await _whole_body(receive, limit)
        except TimeoutError:
            raise BodyTooSlow(f"The body did not arrive within {self.limits.body_s:g} s.") from None


async def _whole_body(receive: Receive, limit: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLarge(f"The body has more than {limit} bytes, which is what is allowed.")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, and then what the server has to say."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class _Reply:
    """A `send` that adds the request id and the security headers, and remembers the status."""

    def __init__(self, send: Send, request_id: str | None) -> None:
        self.status = 0
        self._send = send
        self._said = [] if request_id is None else [(REQUEST_ID.encode(), request_id.encode())]

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), *self._said, *_SECURITY_HEADERS]
        await self._send(message)


async def _refuse(scope: Scope, send: Send, error: RequestError) -> None:
    scope["state"]["error_type"] = error.kind
    body = error_body(error)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
