"""The endpoint on a port of this machine, in a thread: what the tests of its page talk to.

The application is the real one, door included. The place that keeps corrections is the test's, so
that it can hold them, count them and refuse them, and /info can be given what a test needs.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from jobs.classifier.bundle import About
from serve.app import make_app
from serve.errors import RequestError
from serve.feedback import Correction
from serve.guard import App, Guard, Message, Receive, Scope, Send
from serve.keyring import Keyring
from serve.models import load
from serve.service import Service
from serve.settings import Endpoint, Limits

LIMIT_S = 20.0


class Desk:
    """A running endpoint.

    `corrections` are those that came through /v1/feedback; `refusal`, if set, is what becomes of
    the next. `gate` holds replies to them back while it is cleared.
    `info` is laid over the real /info. `about` is what the bundle says of its model.
    """

    def __init__(self, about: About) -> None:
        self.app: App | None = None
        self.about = about
        self.url = ""
        self.corrections: list[dict[str, Any]] = []
        self.refusal: RequestError | None = None
        self.info: dict[str, Any] = {}
        self.gate = threading.Event()
        self.gate.set()

    async def put(self, correction: Correction) -> None:
        known = ("text", "label", "request_id")
        self.corrections.append({name: getattr(correction, name) for name in known})
        assert await asyncio.to_thread(self.gate.wait, LIMIT_S)
        if self.refusal is not None:
            raise self.refusal

    async def close(self) -> None:
        pass

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        overlaid = scope["type"] == "http" and scope["path"] == "/info" and self.info
        await self.app(scope, receive, self._overlaid(send) if overlaid else send)

    def _overlaid(self, send: Send) -> Send:
        parts: list[bytes] = []

        async def overlay(message: Message) -> None:
            if message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    await _reply(send, 200, json.loads(b"".join(parts)) | self.info)

        return overlay


async def _reply(send: Send, status: int, said: dict[str, Any]) -> None:
    body = json.dumps(said).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def running(bundle: Path, keys: tuple[str, ...] = (), **limits: Any) -> Iterator[Desk]:
    """The endpoint of one bundle until the block ends; `keys` are hashes, none lets all in."""
    loaded = load(str(bundle), "tickets", precision="fp32", threads=1)
    desk = Desk(loaded.predictor.about)
    endpoint, ring = Endpoint(limits=Limits(**limits)), Keyring(keys or None)
    guard: Guard = make_app(Service(loaded, endpoint, keys=ring, feedback=desk))
    desk.app, guard.app = guard.app, desk
    server = uvicorn.Server(uvicorn.Config(guard, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        desk.url = f"http://127.0.0.1:{port}"
        yield desk
    finally:
        desk.gate.set()
        server.should_exit = True
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def wait(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails after LIMIT_S."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.02)
