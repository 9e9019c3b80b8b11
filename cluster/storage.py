"""Where data, models and runs lie: URIs through pyarrow's filesystems, publishing, hashes.

A URI is a local path, `s3://…`, `gs://…`, or (for reading) `hf://…`. Knows nothing of what the
files mean. What is published appears whole or not at all: a local folder is built beside its
place and renamed; in object storage, where nothing can be renamed, one file named by the caller
is written last and is the commit.
"""

import glob
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow.fs as pafs
from pydantic import AfterValidator

from cluster import liveness
from cluster.errors import InUseError, StorageError

JOB_MARKER = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for the entrypoint of a submitted job
SCHEMES = ("s3", "gs", "gcs", "hf", "file")
COPY_BYTES = 8 << 20  # an S3 stream asks the store for every piece that is read of it
SIGN = ".unfinished"  # stands in a folder that is being written, and names the writer


def in_submitted_job() -> bool:
    """Whether this process is the entrypoint of `ray job submit`."""
    return JOB_MARKER in os.environ


def normal_uri(uri: str) -> str:
    """An absolute URI; ValueError for a scheme we do not read or a relative path in a job."""
    if "://" in uri:
        scheme, _, rest = uri.partition("://")
        if scheme not in SCHEMES:
            raise ValueError(
                f"the scheme {scheme}:// is not supported; use a local path, s3://, gs://, "
                "or (reading only) hf://."
            )
        if scheme == "file":
            return str(Path("/" + rest.lstrip("/")))
        if not rest.strip("/"):
            raise ValueError(f"it names no bucket; give {scheme}://BUCKET/FOLDER.")
        return uri.rstrip("/")
    if not uri:
        raise ValueError("it is empty; give a local path, s3://, gs:// or hf://.")
    path = Path(uri).expanduser()
    if not path.is_absolute() and in_submitted_job():
        raise ValueError(
            "it is a relative path, and a submitted job runs in a copy of the folder it was sent "
            "from; give an absolute path or an s3:// or gs:// URI."
        )
    return os.path.abspath(path)


def writable_uri(uri: str) -> str:
    """`normal_uri`, for places that are written to."""
    if uri.startswith("hf://"):
        raise ValueError("hf:// can only be read; give a local path, s3:// or gs://.")
    return normal_uri(uri)


Uri = Annotated[str, AfterValidator(normal_uri)]
OutputUri = Annotated[str, AfterValidator(writable_uri)]


def is_local(uri: str) -> bool:
    return "://" not in uri


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *parts])


def parent(uri: str) -> str:
    """The folder that holds `uri`; a bucket holds itself."""
    _, separator, rest = uri.rpartition("://")
    if separator and "/" not in rest.rstrip("/"):
        return uri.rstrip("/")
    return uri.rstrip("/").rsplit("/", 1)[0]


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The pyarrow filesystem of a URI and the path in it; StorageError where there is none."""
    if is_local(uri):
        return pafs.LocalFileSystem(), uri
    try:
        found, path = pafs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise StorageError(f"{uri} cannot be opened: {error}") from None
    return found, path


def exists(uri: str) -> bool:
    fs, path = filesystem(uri)
    return bool(_info(fs, uri, path).type != pafs.FileType.NotFound)


def is_file(uri: str) -> bool:
    fs, path = filesystem(uri)
    return bool(_info(fs, uri, path).type == pafs.FileType.File)


def _info(fs: pafs.FileSystem, uri: str, path: str) -> pafs.FileInfo:
    try:
        return fs.get_file_info(path)
    except OSError as error:
        raise StorageError(f"{uri} cannot be reached: {error}") from None


def list_files(uri: str, suffix: str = "") -> list[tuple[str, int]]:
    """(path inside the filesystem, bytes) of every file below `uri`, sorted by path.

    Hidden files and folders (a leading `.` or `_` below `uri`) are passed over, as every reader
    of such folders does.
    """
    fs, path = filesystem(uri)
    if _info(fs, uri, path).type == pafs.FileType.File:
        return [(path, fs.get_file_info(path).size)]
    infos = fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    found = []
    for info in infos:
        inside = info.path[len(path) :].strip("/")
        hidden = any(part[:1] in "._" for part in inside.split("/"))
        if info.type == pafs.FileType.File and info.path.endswith(suffix) and not hidden:
            found.append((info.path, info.size))
    return sorted(found)


def read_bytes(uri: str) -> bytes:
    fs, path = filesystem(uri)
    try:
        with fs.open_input_stream(path) as stream:
            # Its size given, an S3 stream is read in one go; without, in many small requests.
            return bytes(stream.read(fs.get_file_info(path).size))
    except FileNotFoundError:
        raise StorageError(f"{uri} does not exist.") from None
    except OSError as error:
        raise StorageError(f"{uri} cannot be read: {error}") from None


def read_json(uri: str) -> Any:
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        raise StorageError(f"{uri} is not valid JSON: {error}.") from None


def write_bytes(uri: str, data: bytes) -> None:
    """Writes one file whole: locally beside its place and renamed, elsewhere in one put."""
    fs, path = filesystem(uri)
    try:
        if is_local(uri):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            beside = Path(f"{path}.{uuid.uuid4().hex[:8]}.partial")
            try:
                beside.write_bytes(data)
                os.replace(beside, path)
            finally:
                beside.unlink(missing_ok=True)
        else:
            with fs.open_output_stream(path) as stream:
                stream.write(data)
    except OSError as error:
        raise StorageError(f"{uri} cannot be written: {error}") from None


def write_json(uri: str, value: Any) -> None:
    write_bytes(uri, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())


def refuse_used(uri: str, key: str = "output") -> None:
    """StorageError if `uri` already holds something: nothing is ever written over.

    What a run left that was killed while it wrote is not in the way: `staging` removes it.
    """
    if is_file(uri) or (exists(uri) and _holds_anything(uri) and not _is_abandoned(uri, key)):
        raise StorageError(
            f"--{key} {uri} already holds files; give a new folder, or remove this one first."
        )


def _holds_anything(uri: str) -> bool:
    fs, path = filesystem(uri)
    return bool(fs.get_file_info(pafs.FileSelector(path, recursive=False, allow_not_found=True)))


def _is_abandoned(uri: str, key: str) -> bool:
    """Whether a folder holds the sign of a writer that is dead; StorageError if it is alive."""
    fs, path = filesystem(join(uri, SIGN))
    info = fs.get_file_info(path)
    if info.type != pafs.FileType.File:
        return False
    age = (datetime.now(UTC) - info.mtime).total_seconds() if info.mtime else 0.0
    if liveness.is_gone(read_bytes(join(uri, SIGN)), age):
        return True
    raise InUseError(
        f"--{key} {uri} is being written by another run, whose last sign of life is {age:.0f} s "
        f"old. Give another folder; if that run was killed, wait {liveness.DEAD_AFTER_S:.0f} s."
    )


@contextmanager
def staging(uri: str, commit: Sequence[str]) -> Iterator[str]:
    """A place to build what will stand at `uri`; published at the end, removed on failure.

    `commit` names the files that make the folder whole. Locally the folder is renamed in one
    step. In object storage it is built in place, and the caller writes `commit` last. What a
    killed run left there is removed first.
    """
    if not is_local(uri):
        with _staging_in_place(uri):
            yield uri
        return
    target = Path(uri)
    _remove_abandoned(target)
    beside = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        beside.mkdir(parents=True)
        (beside / SIGN).write_bytes(liveness.sign())
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
def _staging_in_place(uri: str) -> Iterator[None]:
    refuse_used(uri)
    remove(uri)
    sign, place = liveness.sign(), join(uri, SIGN)
    fs, path = filesystem(uri)
    fs.create_dir(path, recursive=True)
    write_bytes(place, sign)
    try:
        with liveness.renewed(lambda: write_bytes(place, sign)):
            yield
    except BaseException:
        remove(uri)
        raise
    fs.delete_file(join(path, SIGN))


def _remove_abandoned(target: Path) -> None:
    """Removes what runs on this machine left beside `target` when they were killed."""
    for beside in target.parent.glob(f".{glob.escape(target.name)}.????????.partial"):
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
    fs, path = filesystem(uri)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    for name in sorted(names, key=lambda n: n == last):
        target = join(path, name)
        fs.create_dir(target.rsplit("/", 1)[0], recursive=True)
        with fs.open_output_stream(target) as stream, (folder / name).open("rb") as source:
            shutil.copyfileobj(source, stream)


def publish(folder: Path, uri: str, last: str) -> None:
    """Makes a finished local folder appear at `uri` in one step; `last` is the commit file."""
    if is_local(uri):
        with staging(uri, [last]) as stage:
            shutil.copytree(folder, stage, dirs_exist_ok=True)
    else:
        upload(folder, uri, last)


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """The folder at `uri` as a local one: itself, or a download that lasts as long as the block."""
    if is_local(uri):
        yield Path(uri)
        return
    with tempfile.TemporaryDirectory(prefix="switchyard-") as folder:
        download(uri, Path(folder))
        yield Path(folder)


def download(uri: str, folder: Path) -> None:
    """Copies every file below `uri` into a local folder."""
    fs, root = filesystem(uri)
    for path, _ in list_files(uri):
        target = folder / path[len(root) :].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        with fs.open_input_stream(path) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, COPY_BYTES)


def remove(uri: str) -> None:
    """Removes a folder and all in it; no error if there is none."""
    fs, path = filesystem(uri)
    if fs.get_file_info(path).type == pafs.FileType.Directory:
        fs.delete_dir(path)


def sha256(path: Path) -> str:
    """The SHA-256 of a local file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(value: Any) -> str:
    """A short stable digest (16 hexadecimal digits) of a JSON-like value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
