"""Publishing: what stands at a URI is whole or is not there at all.

A local folder is built beside its place and renamed. In object storage nothing can be renamed: the
folder is built in place, and a file named by the caller is written last and is the commit. What a
killed run left is not in the way of the next.
"""

import glob
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.fs as pafs

from cluster import liveness, storage
from cluster.errors import InUseError, StorageError

SIGN = ".unfinished"  # stands in a folder that is being written, and names the writer


def refuse_used(uri: str, key: str = "output") -> None:
    """StorageError if `uri` already holds something: nothing is ever written over.

    What a run left that was killed while it wrote is not in the way: `staging` removes it.
    """
    if storage.is_file(uri) or (
        storage.exists(uri) and storage.entries(uri) and not _is_abandoned(uri, key)
    ):
        raise StorageError(
            f"--{key} {uri} already holds files; give a new folder, or remove this one first."
        )


def _is_abandoned(uri: str, key: str) -> bool:
    """Whether a folder is not whole and its writer is dead; InUseError if that one is alive."""
    fs, path = storage.filesystem(storage.join(uri, SIGN))
    info = fs.get_file_info(path)
    if info.type != pafs.FileType.File:
        return False
    sign = storage.read_bytes(storage.join(uri, SIGN))
    commit = _commit_of(sign)
    if commit and all(storage.exists(storage.join(uri, name)) for name in commit):
        return False  # killed after the commit, before the sign was taken away
    age = (datetime.now(UTC) - info.mtime).total_seconds() if info.mtime else 0.0
    if liveness.is_gone(sign, age):
        return True
    raise InUseError(
        f"--{key} {uri} is being written by another run, whose last sign of life is {age:.0f} s "
        f"old. Give another folder; if that run was killed, wait {liveness.DEAD_AFTER_S:.0f} s."
    )


def _commit_of(sign: bytes) -> list[str]:
    try:
        return list(json.loads(sign)["commit"])
    except (ValueError, TypeError, KeyError):
        return []


@contextmanager
def staging(uri: str, commit: Sequence[str]) -> Iterator[str]:
    """A place to build what will stand at `uri`; published at the end, removed on failure.

    `commit` names the files that make the folder whole. Locally the folder is renamed in one
    step. In object storage it is built in place, and the caller writes `commit` last. What a
    killed run left there is removed first.
    """
    if not storage.is_local(uri):
        with _staging_in_place(uri, commit):
            yield uri
        return
    target = Path(uri)
    remove_abandoned(str(target.parent), target.name)
    beside = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        beside.mkdir(parents=True)
        (beside / SIGN).write_bytes(liveness.sign(commit))
    except OSError as error:
        raise StorageError(f"{uri} cannot be written: {error.strerror}.") from None
    try:
        yield str(beside)
        missing = [name for name in commit if not (beside / name).exists()]
        if missing:
            raise StorageError(f"{uri} was not published: {', '.join(missing)} was not written.")
        (beside / SIGN).unlink()
        _appear(beside, target, uri)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _staging_in_place(uri: str, commit: Sequence[str]) -> Iterator[None]:
    refuse_used(uri)
    storage.remove(uri)
    sign, place = liveness.sign(commit), storage.join(uri, SIGN)
    fs, path = storage.filesystem(uri)
    fs.create_dir(path, recursive=True)
    storage.write_bytes(place, sign)
    if storage.read_bytes(place) != sign:
        raise InUseError(f"{uri} is being written by another run, which began at the same time.")
    try:
        with liveness.renewed(lambda: storage.write_bytes(place, sign)):
            yield
    except BaseException:
        storage.remove(uri)
        raise
    with suppress(FileNotFoundError):
        fs.delete_file(storage.join(path, SIGN))


def remove_abandoned(folder: str, name: str | None = None) -> None:
    """Removes what runs on this machine left in a local folder when they were killed.

    `name`: only what was to become this (default: all).
    """
    if not storage.is_local(folder):
        return
    pattern = "*" if name is None else glob.escape(name)
    for beside in Path(folder).glob(f".{pattern}.????????.partial"):
        try:
            gone = liveness.is_gone((beside / SIGN).read_bytes(), 0.0)
        except OSError:
            continue  # whose it is cannot be told
        if gone:
            shutil.rmtree(beside, ignore_errors=True)


def _appear(beside: Path, target: Path, uri: str) -> None:
    try:
        if target.is_dir() and not any(target.iterdir()):
            target.rmdir()
        beside.rename(target)
    except OSError as error:
        raise StorageError(f"{uri} was not published: {error.strerror}.") from None


def upload(folder: Path, uri: str, last: str) -> None:
    """Copies a local folder to `uri` file by file, `last` (the commit) after all others."""
    fs, path = storage.filesystem(uri)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    for name in sorted(names, key=lambda n: n == last):
        target = storage.join(path, name)
        fs.create_dir(target.rsplit("/", 1)[0], recursive=True)
        with fs.open_output_stream(target) as stream, (folder / name).open("rb") as source:
            shutil.copyfileobj(source, stream, storage.COPY_BYTES)


def publish(folder: Path, uri: str, last: str) -> None:
    """Makes a finished local folder appear at `uri` in one step; `last` is the commit file."""
    if storage.is_local(uri):
        with staging(uri, [last]) as stage:
            shutil.copytree(folder, stage, dirs_exist_ok=True)
    else:
        upload(folder, uri, last)
