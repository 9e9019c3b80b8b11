"""Whose an unfinished folder is, and whether its owner is still alive.

A folder that is being written holds a sign: host and process of the writer. On the same host a
dead process is known to be dead at once; of other hosts the age of the sign tells, as its owner
renews it. Knows nothing of storage.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from cluster.errors import StorageError

RENEW_S = 20.0
DEAD_AFTER_S = 90.0  # several renewals missed


def sign(commit: Sequence[str] = ()) -> bytes:
    """The sign of this process; `commit` are the files that will make its folder whole."""
    started = _start(os.getpid())
    found = {"host": _host(), "pid": os.getpid(), "start_s": started, "commit": list(commit)}
    return json.dumps(found).encode()


def _start(pid: int) -> float:
    """When a process was started, in seconds since its machine was: no step of the clock, which
    moves both, makes it another one. Raises psutil.Error."""
    return float(psutil.Process(pid).create_time() - psutil.boot_time())


def _host() -> str:
    """This machine, since it was started, and what of its processes can be seen from here:
    containers may share a host's name and not its processes."""
    parts = [socket.gethostname()]
    for place in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            link = os.path.islink(place)
            parts.append(os.readlink(place) if link else Path(place).read_text().strip())
    return " ".join(parts)


def is_gone(sign_of_owner: bytes, age_s: float) -> bool:
    """Whether the owner of a sign, last renewed `age_s` seconds ago, is known to be dead."""
    try:
        owner = json.loads(sign_of_owner)
        host, pid, started = owner["host"], int(owner["pid"]), float(owner["start_s"])
    except (ValueError, TypeError, KeyError):
        return age_s > DEAD_AFTER_S
    if host != _host():
        return age_s > DEAD_AFTER_S
    try:
        return abs(_start(pid) - started) > 0.5
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return age_s > DEAD_AFTER_S


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
