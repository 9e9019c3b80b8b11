"""Load at a given rate: requests come when they are due, whether others were answered or not.

The moments are those of a Poisson process, as of many people who know nothing of each other. A
latency counts from the moment at which a request was due, not from when it could be sent: what a
stalled endpoint keeps waiting is counted, which a client that waits for its answers leaves out
("coordinated omission"). Neither wrk nor Debian's other load generators can do that.

asyncio alone, plain HTTP/1.1 with kept connections. Its timers are late by up to a millisecond,
which counts as well; `generator_late_p99_ms` says by how much.
"""

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import numpy as np

from tests.benchmarks.lines import Line
from tests.benchmarks.load import Target

CONNECTIONS = 512
TIMEOUT_S = 60
_END = b"\r\n\r\n"
_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def run(target: Target, bodies: Sequence[str], *, rate: float, seconds: float, seed: int) -> Line:
    """The figures of `rate` requests a second on average for so many seconds."""
    moments = due(rate, seconds, seed)
    client = Client(target, bodies)
    began = time.perf_counter()
    asyncio.run(client.run(moments))
    latencies = [latency for _, latency in client.answers]
    return figures(latencies, client.waits, client.errors, len(moments)) | {
        "rate": round(rate, 2),
        "took_s": round(time.perf_counter() - began, 2),
    }


def due(rate: float, seconds: float, seed: int) -> list[float]:
    """When requests are due, in seconds from the start; ascending."""
    rng = np.random.default_rng(seed)
    moments = np.cumsum(rng.exponential(1 / rate, size=int(2 * rate * seconds) + 100))
    return [float(moment) for moment in moments[moments < seconds]]


def figures(latencies: Sequence[float], waits: Sequence[float], errors: int, requests: int) -> Line:
    """Percentiles in ms of what was measured in seconds; of the good answers alone."""
    found: Line = {"requests": requests, "errors": errors}
    if latencies:
        p50, p90, p99 = np.percentile(np.array(latencies) * 1e3, [50, 90, 99])
        found |= {"p50_ms": round(p50, 3), "p90_ms": round(p90, 3), "p99_ms": round(p99, 3)}
        found["most_ms"] = round(max(latencies) * 1e3, 3)
    if waits:
        found["generator_late_p99_ms"] = round(float(np.percentile(waits, 99)) * 1e3, 3)
    return found


class Client:
    """Sends requests when they are due, over as many connections as that takes.

    `answers`: of each good one (the moment at which it was due, its latency), in seconds, the
    moment by `time.monotonic`.
    """

    def __init__(self, target: Target, bodies: Sequence[str]) -> None:
        address = urlsplit(target.url)
        self.host, self.port = str(address.hostname), address.port or 80
        self.requests = [_request(target, address.path, address.netloc, body) for body in bodies]
        self.answers: list[tuple[float, float]] = []
        self.waits: list[float] = []
        self.errors = 0
        self._free: list[_Connection] = []
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def run(self, moments: Sequence[float]) -> None:
        began = asyncio.get_running_loop().time()
        tasks = []
        for number, moment in enumerate(moments):
            await asyncio.sleep(began + moment - asyncio.get_running_loop().time())
            request = self.requests[number % len(self.requests)]
            tasks.append(asyncio.create_task(self._ask(request, began + moment)))
        await asyncio.gather(*tasks)
        for _, writer in self._free:
            writer.close()

    async def _ask(self, request: bytes, at: float) -> None:
        loop = asyncio.get_running_loop()
        async with self._room:
            self.waits.append(loop.time() - at)
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    status = await self._exchange(request)
            except (OSError, EOFError, TimeoutError):
                self.errors += 1
                return
        if status == 200:
            self.answers.append((at, loop.time() - at))
        else:
            self.errors += 1

    async def _exchange(self, request: bytes) -> int:
        """One request and its answer; a connection that broke or was given up is not kept."""
        if self._free:
            connection = self._free.pop()
        else:
            connection = await asyncio.open_connection(self.host, self.port)
        reader, writer = connection
        whole = False
        try:
            writer.write(request)
            head = await reader.readuntil(_END)
            await reader.readexactly(length_of(head))
            whole = True
        finally:
            if whole and b"connection: close" not in head.lower():
                self._free.append(connection)
            else:
                writer.close()
        return int(head.split(None, 2)[1])


def length_of(head: bytes) -> int:
    """Bytes of the body that follows; ValueError where the head does not say."""
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    raise ValueError(f"an answer without a length: {head!r}")


def _request(target: Target, path: str, host: str, body: str) -> bytes:
    data = body.encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {target.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data
