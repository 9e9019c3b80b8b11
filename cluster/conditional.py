"""Files that are written only if nobody else did first: put if absent, and compare and swap.

In object storage the store itself decides (a conditional put, through obstore); on a local or
shared file system a lock of the kernel's on the folder, which ends with the process that holds
it, so that a writer that was killed is in nobody's way. Knows nothing of what the files mean.
"""

import configparser
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import storage
from cluster.errors import InUseError, StorageError

if TYPE_CHECKING:
    from obstore.store import GCSStore, S3Store

LOCK = ".lock"
LOCK_LIMIT_S = 60.0  # what is done under the lock takes milliseconds


@dataclass(frozen=True)
class Seen:
    """A file as it was read; `mark` is what object storage knows this state of it by."""

    data: bytes
    mark: dict[str, str] = field(default_factory=dict)


def read(uri: str) -> Seen | None:
    """The file at `uri`, or None if there is none."""
    if not _is_object(uri):
        return Seen(storage.read_bytes(uri)) if storage.is_file(uri) else None
    import obstore

    store, path = _store(uri)
    try:
        found = obstore.get(store, path)
        data = bytes(found.bytes())
    except FileNotFoundError:
        return None
    except (obstore.exceptions.BaseError, OSError) as error:
        raise StorageError(f"{uri} cannot be read: {_brief(error)}") from None
    return Seen(data, _mark(found.meta))


def put(uri: str, data: bytes, was: Seen | None) -> bool:
    """Writes the file if it still is what it `was` (None: not there); whether it was written.

    `data` must be bytes that no other writer writes: a put whose answer got lost on the way is
    known to be ours by them.
    """
    written = _put_object(uri, data, was) if _is_object(uri) else _put_local(uri, data, was)
    if written:
        return True
    found = read(uri)
    return found is not None and found.data == data


def _put_local(uri: str, data: bytes, was: Seen | None) -> bool:
    path = Path(uri)
    with _locked(path.parent):
        now = path.read_bytes() if path.exists() else None
        if now != (None if was is None else was.data):
            return False
        storage.write_bytes(uri, data)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock for the length of the block."""
    until = time.monotonic() + LOCK_LIMIT_S
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The file stays: whoever removed it would take it from under those who wait for it.
        with (folder / LOCK).open("ab") as held:
            while not _try_lock(held.fileno()):
                if time.monotonic() > until:
                    raise InUseError(
                        f"{folder} has been locked by another process for {LOCK_LIMIT_S:.0f} s. "
                        "End that process, if it hangs, and try again."
                    )
                time.sleep(0.005)
            yield
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be locked and written: {error.strerror}. Give a place on a file "
            "system that has locks, or an s3:// or gs:// URI."
        ) from None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _put_object(uri: str, data: bytes, was: Seen | None) -> bool:
    import obstore

    store, path = _store(uri)
    mode: Any = "create" if was is None else was.mark
    try:
        obstore.put(store, path, data, mode=mode, use_multipart=False)
    except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
        return False
    except FileNotFoundError:
        if was is None:
            raise StorageError(f"{uri} cannot be written: there is no such bucket.") from None
        return False  # it was removed in the meantime
    except (obstore.exceptions.BaseError, OSError) as error:
        raise StorageError(f"{uri} cannot be written: {_brief(error)}") from None
    return True


def _is_object(uri: str) -> bool:
    return uri.startswith(("s3://", "gs://", "gcs://"))


def _mark(meta: Any) -> dict[str, str]:
    """S3 knows a state by its entity tag, Google's storage by its generation."""
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:300]


def _store(uri: str) -> "tuple[S3Store | GCSStore, str]":
    """The store of a URI and the path in it, reached as pyarrow's filesystem of it is.

    obstore reads the same environment (keys, token, endpoint, web identity, container and machine
    roles). What pyarrow knows beyond that is handed on: where the bucket is, and keys that stand
    in AWS's credentials file. A limit: its SSO and credential processes are not followed.
    """
    from obstore.store import GCSStore, S3Store

    fs, inside = storage.filesystem(uri)
    bucket, _, path = inside.partition("/")
    if not uri.startswith("s3://"):
        return GCSStore(bucket), path
    keys: Any = {} if os.environ.get("AWS_ACCESS_KEY_ID") else _profile_keys()
    return S3Store(bucket, region=fs.region, client_options={"allow_http": True}, **keys), path


def _profile_keys() -> dict[str, str]:
    """The keys of the chosen profile in AWS's credentials file; nothing where it has none."""
    default = Path("~/.aws/credentials").expanduser()
    profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    found = configparser.ConfigParser(interpolation=None)
    found.read(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or default, encoding="utf-8")
    if not found.has_option(profile, "aws_access_key_id"):
        return {}
    names = {
        "access_key_id": "aws_access_key_id",
        "secret_access_key": "aws_secret_access_key",
        "session_token": "aws_session_token",
    }
    return {
        ours: found.get(profile, theirs)
        for ours, theirs in names.items()
        if found.has_option(profile, theirs)
    }
