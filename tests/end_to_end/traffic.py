"""Clients that ask an endpoint without a pause, and what became of every request.

A request that fails (no answer, or a status of 500 and above) is sent once more, as a client in
production would; both are written down. Only 200 counts as answered.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

LOST = 0  # in place of a status: the connection was refused or broke off
PAUSE_S = 0.2  # before a request is sent once more


@dataclass(frozen=True)
class Call:
    """One request: when it was sent, how long its first answer took, and what the answers were."""

    began: float
    seconds: float
    status: int
    version: str
    again: int | None  # the status of the second try, where there was one

    @property
    def failed(self) -> bool:
        return self.status != 200

    @property
    def failed_twice(self) -> bool:
        return self.failed and self.again != 200


@dataclass
class Traffic:
    """What a group of clients saw so far; `calls` only ever grows."""

    calls: list[Call] = field(default_factory=list)

    def mark(self) -> int:
        """A place in `calls`."""
        return len(self.calls)

    def since(self, mark: int) -> list[Call]:
        return self.calls[mark:]

    def versions(self, mark: int) -> set[str]:
        return {call.version for call in self.since(mark) if not call.failed}


def summary(calls: Sequence[Call]) -> dict[str, Any]:
    """Figures for a person: how many, how many failed and how, percentiles in ms."""
    good = sorted(call.seconds for call in calls if not call.failed)
    return {
        "requests": len(calls),
        "failed": dict(Counter(call.status for call in calls if call.failed)),
        "failed_twice": sum(call.failed_twice for call in calls),
        "p50_ms": round(good[len(good) // 2] * 1e3, 1) if good else None,
        "p99_ms": round(good[int(len(good) * 0.99)] * 1e3, 1) if good else None,
    }


@contextmanager
def traffic(
    url: str, key: str, *, clients: int, text: str = "vpn is down", texts: int = 1
) -> Iterator[Traffic]:
    """Clients ask until the block ends, each with one request at a time, of so many `texts`."""
    seen = Traffic()
    ended = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_all(url, key, clients, [text] * texts, seen, ended)),
        daemon=True,
    )
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join(90)
        assert not thread.is_alive()


async def _all(
    url: str, key: str, clients: int, texts: list[str], seen: Traffic, ended: threading.Event
) -> None:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = json.dumps({"texts": texts}).encode()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=60
    ) as client:
        await asyncio.gather(*(_ask(client, body, seen, ended) for _ in range(clients)))


async def _ask(
    client: httpx.AsyncClient, body: bytes, seen: Traffic, ended: threading.Event
) -> None:
    while not ended.is_set():
        began = time.monotonic()
        status, version = await _one(client, body)
        seconds = time.monotonic() - began
        again = None
        if status == LOST or status >= 500:
            await asyncio.sleep(PAUSE_S)
            again, version = await _one(client, body)
        seen.calls.append(Call(began, seconds, status, version, again))


async def _one(client: httpx.AsyncClient, body: bytes) -> tuple[int, str]:
    try:
        reply = await client.post("/v1/classify", content=body)
    except httpx.TransportError:
        return LOST, ""
    version = reply.json()["model"]["version"] if reply.status_code == 200 else ""
    return reply.status_code, version
