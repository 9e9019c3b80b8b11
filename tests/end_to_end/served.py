"""The endpoint behind a real server on a free port of this machine, in a thread. No Ray."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from serve.app import make_app
from serve.feedback import Correction
from serve.keyring import Keyring, hash_key
from serve.models import load
from serve.service import Service
from serve.settings import Endpoint

KEY = "sy_a-key-of-the-tests"
NAME = "tickets"


class Forgotten:
    """A place for corrections that takes every one and keeps none."""

    async def put(self, correction: Correction) -> None:
        pass

    async def close(self) -> None:
        pass


@contextmanager
def served(bundle: Path, name: str = NAME) -> Iterator[str]:
    """The base URL of an endpoint that serves the bundle under this name until the block ends."""
    loaded = load(str(bundle), name, precision="fp32", threads=1)
    keys = Keyring([hash_key(KEY)])
    service = Service(loaded, Endpoint(), keys=keys, feedback=Forgotten())
    server = uvicorn.Server(uvicorn.Config(make_app(service), log_config=None, access_log=False))
    # It listens before the server runs: who asks early waits, and nothing has to be polled.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
