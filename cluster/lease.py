"""One run at a time in a folder: a sign of life in it, renewed as long as the run lasts.

A run that was killed is not in the way: its sign is that of a dead process, or is renewed no more.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pyarrow.fs as pafs

from cluster import liveness, publishing, storage
from cluster.errors import InUseError, StorageError

SIGN = ".running"
# Of runs that looked at the same moment and found nobody, the last to write its sign holds the
# folder. Each waits longer than any of them may take between its look and its sign.
SETTLE_S = 0.5
_LOOKS = 3  # at most; every one of them may take long, where the storage is far away


@contextmanager
def held(uri: str, key: str) -> Iterator[None]:
    """Holds the folder at `uri` for the length of the block; InUseError if another run does."""
    place, sign = storage.join(uri, SIGN), liveness.sign()
    for _ in range(_LOOKS):
        began = time.monotonic()
        refuse_held(uri, key)
        if time.monotonic() - began <= SETTLE_S / 2:
            break  # else another may have begun since the answer was given

    def is_mine() -> bool:
        return storage.is_file(place) and storage.read_bytes(place) == sign

    def renew() -> None:
        # Who has seen no sign of life for long may have taken the folder: then it is theirs.
        if is_mine():
            storage.write_bytes(place, sign)

    storage.write_bytes(place, sign)
    # A store that is slow for this run is slow for others, too.
    time.sleep(max(SETTLE_S, 2 * (time.monotonic() - began)))
    if not is_mine():
        raise InUseError(f"--{key} {uri}: another run began in it at the same time.")
    try:
        with liveness.renewed(renew):
            yield
    finally:
        with suppress(OSError, StorageError):
            if is_mine():
                fs, path = storage.filesystem(place)
                fs.delete_file(path)


def refuse_taken(uri: str, key: str) -> None:
    """InUseError if a run that is alive holds the folder; StorageError, which says to remove it, if
    it holds anything else."""
    refuse_held(uri, key)
    try:
        publishing.refuse_used(uri, key)
    except StorageError:
        refuse_held(uri, key)  # another run may have begun since
        raise


def refuse_held(uri: str, key: str) -> None:
    """InUseError if a run that is alive holds the folder at `uri`."""
    age = last_sign_of_life(uri)
    if age is not None:
        raise InUseError(
            f"--{key} {uri}: another run is at work in it, whose last sign of life is {age:.0f} s "
            f"old. Wait for it or end it; if it was killed, wait {liveness.DEAD_AFTER_S:.0f} s."
        )


def last_sign_of_life(uri: str) -> float | None:
    """How many seconds ago the run that holds the folder at `uri` showed that it lives; None
    where none does."""
    place = storage.join(uri, SIGN)
    fs, path = storage.filesystem(place)
    info = fs.get_file_info(path)
    if info.type != pafs.FileType.File:
        return None
    age = (datetime.now(UTC) - info.mtime).total_seconds() if info.mtime else 0.0
    try:
        sign = storage.read_bytes(place)
    except StorageError:
        return None  # it ended between the two looks
    return None if liveness.is_gone(sign, age) else age
