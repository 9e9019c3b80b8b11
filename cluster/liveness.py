"""Whose an unfinished folder is, and whether its owner is still alive.

A folder that is being written holds a sign: host and process of the writer. On the same host a
dead process is known to be dead at once; of other hosts the age of the sign tells, as its owner
renews it. Knows nothing of storage.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from cluster.errors import StorageError

RENEW_S = 20.0
DEAD_AFTER_S = 90.0  # several renewals missed


def sign() -> bytes:
    """The sign of this process."""
    started = psutil.Process().create_time()
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "start": started}).encode()


def is_gone(sign_of_owner: bytes, age_s: float) -> bool:
    """Whether the owner of a sign, last renewed `age_s` seconds ago, is known to be dead."""
    try:
        owner = json.loads(sign_of_owner)
        host, pid, started = owner["host"], int(owner["pid"]), float(owner["start"])
    except (ValueError, TypeError, KeyError):
        return age_s > DEAD_AFTER_S
    if host != socket.gethostname():
        return age_s > DEAD_AFTER_S
    try:
        return abs(psutil.Process(pid).create_time() - started) > 1.0
    except psutil.Error:
        return True


@contextmanager
def renewed(renew: Callable[[], None]) -> Iterator[None]:
    """Calls `renew` every RENEW_S seconds, in a thread, as long as the block lasts."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(RENEW_S):
            try:
                renew()
            except (OSError, StorageError):
                continue  # the next renewal may reach the storage again

    thread = threading.Thread(target=run, name="sign of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
