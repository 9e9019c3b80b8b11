"""New files that are there for good once `write` has returned: after a kill, after a power loss.

Knows nothing of what the files mean.
"""

import os
import uuid
from contextlib import suppress
from pathlib import Path

from cluster import conditional, storage
from cluster.errors import StorageError


def write(uri: str, data: bytes) -> None:
    """Writes a file that is not there yet, whole; StorageError where it could not be.

    On a file system: a hidden file beside the place, synced, renamed, and then the folder synced.
    In object storage: one conditional put. After an error the file may be there nonetheless, whole.
    """
    if not storage.is_local(uri):
        if not conditional.put(uri, data, None):
            raise StorageError(f"{uri} cannot be written: it is there already.")
        return
    path = Path(uri)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        changed = _make_folder(path.parent)
        try:
            with beside.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            beside.rename(path)
        finally:
            beside.unlink(missing_ok=True)
        _sync(path.parent)
        for folder in changed:
            # Who may not read a folder cannot sync it.
            with suppress(PermissionError):
                _sync(folder)
    except OSError as error:
        raise StorageError(f"{uri} cannot be written: {error.strerror}.") from None


def _make_folder(folder: Path) -> list[Path]:
    """Makes a folder; the folders above it that a new entry may have come into.

    The one above is always among them: another process may have made this folder a moment ago,
    and not have come to sync it.
    """
    missing = [place for place in (folder, *folder.parents) if not place.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    return list(dict.fromkeys([folder.parent, *(place.parent for place in missing)]))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
