"""Asking the endpoint over HTTP, in the test's own process and without a network."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from serve.app import make_app
from serve.feedback import Correction, Feedback
from serve.keyring import Keyring, hash_key
from serve.models import Loaded
from serve.service import Service
from serve.settings import Endpoint, Limits

KEY = "sy_a-key-of-the-tests"
SECRET = "zanzibar"  # in every refused body: it must be in no reply and in no log
TEXTS = [
    "vpn is down",
    "printer error",
    "my mail account access denied",
    "please help " * 20,
    "disk",
]

Ask = Callable[..., httpx.Response]


class Kept:
    """A place for corrections that keeps them in a list."""

    def __init__(self) -> None:
        self.corrections: list[Correction] = []

    async def put(self, correction: Correction) -> None:
        self.corrections.append(correction)

    async def close(self) -> None:
        pass


def with_service(
    loaded: Loaded,
    work: Callable[[Service, httpx.AsyncClient], Coroutine[Any, Any, Any]],
    *,
    raises: bool = True,
    open_to_all: bool = False,
    feedback: Feedback | None = None,
    **limits: Any,
) -> Any:
    """Runs `work(service, client)` against a fresh application in a loop of its own.

    With `raises`, an exception that escapes the application fails the test by itself. `feedback`
    is where corrections go, and `limits` are settings of that name.
    """
    keys = Keyring(None if open_to_all else [hash_key(KEY)])
    endpoint = Endpoint(limits=Limits(**limits))

    async def session() -> Any:
        service = Service(loaded, endpoint, keys=keys, feedback=feedback)
        transport = httpx.ASGITransport(make_app(service), raise_app_exceptions=raises)
        try:
            async with (
                asyncio.timeout(60),
                httpx.AsyncClient(transport=transport, base_url="http://here") as client,
            ):
                return await work(service, client)
        finally:
            service.close()

    return asyncio.run(session())


def asker(loaded: Loaded, **how: Any) -> Ask:
    """A function that sends one request, with the right key unless told otherwise.

    `how` is what `with_service` takes.
    """

    def ask(
        method: str,
        path: str,
        *,
        key: str | None = KEY,
        headers: dict[str, str] | None = None,
        **request: Any,
    ) -> httpx.Response:
        sent = ({} if key is None else {"Authorization": f"Bearer {key}"}) | (headers or {})

        async def work(_: Service, client: httpx.AsyncClient) -> httpx.Response:
            return await client.request(method, path, headers=sent, **request)

        found: httpx.Response = with_service(loaded, work, **how)
        return found

    return ask


def raw(body: bytes | str) -> dict[str, Any]:
    return {"content": body, "headers": {"Content-Type": "application/json"}}


def assert_refused(reply: httpx.Response, status: int, kind: str) -> None:
    assert reply.status_code == status, reply.text[:300]
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    said = reply.json()
    assert set(said) == {"error", "error_type"}
    assert said["error_type"] == kind
    assert said["error"].strip()
    assert len(said["error"]) < 600
    assert SECRET not in reply.text
    assert "Traceback" not in reply.text
    assert 'File "' not in said["error"]


def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    """Every line is kept, but those of the libraries that ask: httpx logs the test's own URL."""
    caplog.set_level(logging.DEBUG)
    for library in ("httpx", "httpcore", "asyncio"):
        caplog.set_level(logging.ERROR, logger=library)
