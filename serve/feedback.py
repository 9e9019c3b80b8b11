"""Corrections on their way from a caller to the next training data, which `jobs.prepare` reads.

Those that arrive within a moment are committed together, as one immutable object of JSON lines;
no caller is answered before its correction would survive the end of the process and a power loss.
Knows nothing of HTTP.

    <uri>/2026-11-25/20261125T211500123Z-<12 hexadecimal digits>.jsonl
    {"text": …, "label": …, "request_id": …, "model_name": …, "model_version": …,
     "at": "2026-11-25T21:15:00.101Z"}        (one object a line, UTF-8)
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Protocol

from cluster import durable, storage
from cluster.errors import SettingError, StorageError, SwitchyardError
from serve.errors import NotStored, Overloaded, RequestError

log = logging.getLogger(__name__)

GATHER_S = 0.05  # a wait that nobody notices, and some hundred corrections a write under load
MOST_HELD = 1000


@dataclass(frozen=True)
class Correction:
    """What a text's label should have been, says a caller.

    `text` as the model got it: several columns joined by one newline. `request_id`, `model_name`
    and `model_version` say which answer it is about.
    """

    text: str
    label: str
    request_id: str
    model_name: str
    model_version: str


class Feedback(Protocol):
    """Where corrections go."""

    async def put(self, correction: Correction) -> None:
        """Returns when the correction is durable; raises NotStored otherwise."""

    async def close(self) -> None:
        """Ends what is under way; nothing is taken afterwards."""


@dataclass
class _Waiting:
    line: bytes
    due: float  # on the event loop's clock: not later than this the commit begins
    answer: "asyncio.Future[None]"


class FeedbackStore:
    """A folder of corrections, for one event loop; several replicas may write to the same."""

    def __init__(
        self,
        uri: str,
        *,
        gather_s: float = GATHER_S,
        most_held: int = MOST_HELD,
        write: Callable[[str, bytes], None] = durable.write,
    ) -> None:
        """`gather_s`: seconds that a correction waits for others at most, while no other commit is
        being written. `most_held`: corrections that may be unanswered at a time. `write` writes a
        new file for good; it runs in a thread of its own, one call at a time.
        """
        self._uri, self._gather_s, self._most_held, self._write = uri, gather_s, most_held, write
        self._waiting: list[_Waiting] = []
        self._held = 0
        self._work: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feedback")

    async def put(self, correction: Correction) -> None:
        """Returns when the correction is durable.

        NotStored where that is not known, Overloaded where too many wait, RequestError for text
        that UTF-8 cannot hold. A caller that is cancelled may find its correction stored all the
        same; giving one again does no harm, as the newest of a text counts. There is no limit of
        time here: a write that hangs holds up the others, until no more may wait.
        """
        if self._closing.is_set():
            raise NotStored("The endpoint is shutting down. Send the correction again.")
        if self._held >= self._most_held:
            raise Overloaded(
                f"{self._held} corrections are being stored, and {self._most_held} may. Try again "
                "in a moment."
            )
        line = _line(correction, datetime.now(UTC))
        loop = asyncio.get_running_loop()
        item = _Waiting(line, loop.time() + self._gather_s, loop.create_future())
        self._waiting.append(item)
        self._held += 1
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._commit_all())
        await item.answer

    async def close(self) -> None:
        """Commits what waits and ends the thread; corrections that come later are not stored."""
        self._closing.set()
        if self._work is not None:
            await self._work
        self._thread.shutdown()

    async def _commit_all(self) -> None:
        """Commits until nothing waits; what arrives during a write makes up the next commit."""
        while self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._waiting[0].due):
                    await self._closing.wait()
            commit, self._waiting = self._waiting, []
            await self._commit(commit)

    async def _commit(self, commit: list[_Waiting]) -> None:
        place = storage.join(self._uri, object_name(datetime.now(UTC)))
        data = b"".join(item.line for item in commit)
        failed = False
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, place, data)
        except Exception as error:
            failed = True
            # Of an error that is not ours the name alone: its message might quote what was written.
            why = str(error) if isinstance(error, SwitchyardError) else type(error).__name__
            log.error("%d corrections were not stored: %s", len(commit), why)
        finally:
            self._held -= len(commit)
        for item in commit:
            if item.answer.done():  # its caller has gone
                continue
            if failed:
                item.answer.set_exception(
                    NotStored("The correction could not be stored. Send it again in a moment.")
                )
            else:
                item.answer.set_result(None)


def object_name(now: datetime) -> str:
    """A name that sorts by time, in a folder of its day, and that no other replica chooses.

    `now` in UTC.
    """
    return f"{now:%Y-%m-%d}/{now:%Y%m%dT%H%M%S}{_ms(now)}Z-{uuid.uuid4().hex[:12]}.jsonl"


def _ms(now: datetime) -> str:
    return f"{now.microsecond // 1000:03d}"


def _line(correction: Correction, now: datetime) -> bytes:
    at = f"{now:%Y-%m-%dT%H:%M:%S}.{_ms(now)}Z"
    try:
        return f"{json.dumps(asdict(correction) | {'at': at}, ensure_ascii=False)}\n".encode()
    except UnicodeEncodeError:
        raise RequestError(
            "The correction holds half of a surrogate pair, which is no character. Send whole ones."
        ) from None


def require_writable(uri: str) -> None:
    """Makes the folder of corrections, if need be, and sees that files can be written there.

    SettingError for a place that can never be written, StorageError for one that cannot be now.
    """
    try:
        place = storage.writable_uri(uri)
    except ValueError as error:
        raise SettingError(f"feedback.uri is {uri!r}: {error}") from None
    fs, path = storage.filesystem(place)
    probe = f".probe-{uuid.uuid4().hex[:12]}"
    try:
        if not storage.is_local(place):
            # Else an empty one would not be there, which jobs.prepare takes for a mistake.
            fs.create_dir(path, recursive=True)
        durable.write(storage.join(place, probe), b"")
        fs.delete_file(storage.join(path, probe))
    except (StorageError, OSError) as error:
        why = str(error).rstrip(".")
        raise StorageError(
            f"feedback.uri {uri} cannot be written ({why}), so that corrections would be lost. "
            "Give a folder that every replica may write to."
        ) from None
