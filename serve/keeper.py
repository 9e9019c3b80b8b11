"""Keeps the model that should answer in service while requests are answered.

A thread of its own looks up what should answer, loads and tries it beside the model that answers,
and only then puts it in its place. Whatever is wrong with it, the model that answers goes on, and
an `Update` says why. Another thread looks after a watched file of keys. Knows nothing of HTTP or
of Ray: it is given how to load and where to put.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from cluster import storage
from cluster.errors import SwitchyardError
from serve import origin
from serve.keyring import Keyring, read_keys
from serve.models import Loaded
from serve.schema import Update
from serve.settings import Live

KEYS_POLL_S = 5.0
LONGEST_WAIT_S = 600.0
# The threads that load are behind those that answer: with as many cores as threads that compute,
# a load at equal rights would take half of the answers' time.
NICENESS = 10


class Load(Protocol):
    """Loads and tries the bundle at a URI; `before`: what is loaded already, to take over from."""

    def __call__(
        self, uri: str, name: str, *, version: str | None, before: Loaded | None
    ) -> Loaded: ...


class Place(Protocol):
    """Where the model goes, and what is wrong with the newest one."""

    update: Update | None

    def put(self, loaded: Loaded) -> None: ...


logger = logging.getLogger("ray.serve")


@contextmanager
def _panics_are_errors() -> Iterator[None]:
    """A panic in Rust, of the tokenizer or the client of the store, is no Exception in Python."""
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class _Wish:
    """What should answer, looked up; `content` is the version that it has to have, if known."""

    uri: str
    version: str | None
    content: str | None = None

    def is_met_by(self, served: Loaded, name: str) -> bool:
        same = served.uri == self.uri and served.name == name
        return same and self.content in (None, served.version)


class Keeper:
    """The thread, and what it was told."""

    def __init__(self, load: Load, place: Place, keys: Keyring) -> None:
        self._load = load
        self._place = place
        self._keys = keys
        self._live = Live()
        self._served: Loaded | None = None
        self._changing_keys = threading.Lock()
        self._woken = threading.Event()
        self._ended = threading.Event()
        self._closed = False
        self._failures = 0
        self._wishes = 0
        self._threads = [
            threading.Thread(target=self._run, name="keeper", daemon=True),
            threading.Thread(target=self._watch_keys, name="keys", daemon=True),
        ]

    def begin(self, live: Live) -> None:
        """Loads the first model, before it returns: what should answer, or what answered before.

        Raises the error of the former if nothing can be loaded; a key file that cannot be read is
        an error too, since nobody must be let in by mistake.
        """
        self._live = live
        self._keys.replace(_keys(live))
        self._serve(*self._first(live))
        for thread in self._threads:
            thread.start()

    @property
    def begun(self) -> bool:
        return self._served is not None

    @property
    def is_alive(self) -> bool:
        """Whether another model and other keys are still looked for, once it has begun."""
        return not self.begun or all(thread.is_alive() for thread in self._threads)

    def want(self, live: Live) -> None:
        """Another wish, or other keys; returns at once, the threads see to what takes time."""
        with self._changing_keys:
            self._live = live
            if live.keys_watch is None:
                self._keys.replace(_keys(live))
        self._place.update = None
        self._failures = 0
        self._wishes += 1
        self._woken.set()

    def reject(self, problem: Exception) -> None:
        """A wish that cannot even be read; what answers goes on."""
        self._fail("the settings", problem)

    def close(self) -> None:
        """Ends the threads, after what they are at."""
        self._closed = True
        self._ended.set()
        self._woken.set()

    def _first(self, live: Live) -> tuple[Loaded, Update | None]:
        """The first of the candidates that can be loaded, and why it is not the very first."""
        refused: Exception | None = None
        try:
            wish = _look_up(live)
            return self._loaded(wish, live), None
        except Exception as error:
            refused = error
            self._fail(_said(live), error)
        for old in _earlier(live):
            try:
                return self._loaded(old, live), self._place.update
            except Exception as error:
                logger.warning("%s cannot take its place: %s", old.uri, error)
        raise refused

    @_panics_are_errors()
    def _loaded(self, wish: _Wish, live: Live) -> Loaded:
        return self._load(wish.uri, live.name, version=wish.version, before=self._served)

    def _run(self) -> None:
        with suppress(OSError):  # not every system lets a thread step back
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        seen = 0
        while not self._closed:
            if seen == self._wishes:
                self._woken.wait(self._wait_s())
            self._woken.clear()
            seen = self._wishes
            if not self._closed:
                self._look_after_model(seen)

    def _watch_keys(self) -> None:
        while not self._ended.wait(KEYS_POLL_S):
            live = self._live
            if live.keys_watch is None:
                continue
            try:
                found = _keys(live)
            except Exception as error:  # whoever was let in stays so, and nobody else
                logger.error("The keys stay as they were: %s", error)
                continue
            with self._changing_keys:
                if live is self._live:  # reading may take long: other keys may be given meanwhile
                    self._keys.replace(found)

    def _look_after_model(self, number: int) -> None:
        """Meets wish `number`; what it comes to does not count if there is another by then."""
        live = self._live
        assert self._served is not None
        try:
            wish = _look_up(live)
            loaded = None
            if not wish.is_met_by(self._served, live.name):
                loaded = self._loaded(wish, live)
            if number != self._wishes:
                return
            if loaded is not None:
                self._serve(loaded, None)
            self._place.update, self._failures = None, 0
        except Exception as error:
            if number == self._wishes:
                self._failures += 1
                self._fail(_said(live), error)

    def _serve(self, loaded: Loaded, update: Update | None) -> None:
        self._served = loaded
        self._place.update = update
        self._place.put(loaded)
        logger.info("Serving %s version %s from %s", loaded.name, loaded.version, loaded.uri)

    def _fail(self, wanted: str, error: Exception) -> None:
        # Only errors of ours are written for readers; another's text may hold anything.
        kind = type(error).__name__
        said = str(error) if isinstance(error, SwitchyardError) else f"{kind}; see the log."
        logger.error(
            "%s does not answer: %s", wanted, error, exc_info=not isinstance(error, SwitchyardError)
        )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._place.update = Update(wanted=wanted, problem=said, at=now)

    def _wait_s(self) -> float:
        """Until the next look: the registry's time, longer after failures, or for ever."""
        if self._failures > 0 or self._place.update is not None:
            return min(LONGEST_WAIT_S, self._live.registry.poll_s * 2.0 ** min(self._failures, 20))
        # A bundle does not change; a day is as good as for ever, and safe for every clock.
        return self._live.registry.poll_s if self._live.registry.uri is not None else 86_400.0


@_panics_are_errors()
def _look_up(live: Live) -> _Wish:
    uri, version = origin.find(live.bundle, live.registry.uri, live.name)
    return _Wish(uri, version, version or live.bundle_version)


def _earlier(live: Live) -> list[_Wish]:
    """What answered before, the newest first."""
    registered: list[_Wish] = []
    if live.registry.uri is not None:
        try:
            found = origin.earlier(live.registry.uri, live.name)
        except SwitchyardError as error:
            logger.warning("The registry does not say what was champion before: %s", error)
            found = []
        registered = [_Wish(uri, version) for uri, version in found]
    return registered + [_Wish(uri, None) for uri in live.fallbacks]


def _said(live: Live) -> str:
    return live.bundle or f"the champion of {live.name} in {live.registry.uri}"


def _keys(live: Live) -> tuple[str, ...] | None:
    """The hashes of those let in; None if everybody is."""
    if live.open:
        return None
    if live.keys_watch is not None:
        return read_keys(storage.read_bytes(live.keys_watch).decode(), live.keys_watch)
    return live.key_hashes
