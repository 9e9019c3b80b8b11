"""What the tests of the keeper hand it: a place for models, a loader that counts and waits."""

import threading
import time
from collections.abc import Callable
from typing import Any

from serve.models import Loaded, load
from serve.schema import Update


class Shelf:
    """Where the keeper puts what it loaded."""

    def __init__(self) -> None:
        self.update: Update | None = None
        self.put_there: list[Loaded] = []

    def put(self, loaded: Loaded) -> None:
        self.put_there.append(loaded)

    @property
    def versions(self) -> list[str]:
        return [loaded.version for loaded in self.put_there]


class Loader:
    """Loads for real; counts, and waits where the test wants it to."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.before: list[Loaded | None] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(
        self, uri: str, name: str, *, version: str | None, before: Loaded | None
    ) -> Loaded:
        self.tried.append(uri)
        self.before.append(before)
        assert self.gate.wait(30)
        return load(uri, name, precision="fp32", threads=1, version=version, before=before)


def until(condition: Callable[[], Any]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "it did not come about within 30 s"
        time.sleep(0.005)
