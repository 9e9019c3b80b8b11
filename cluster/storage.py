"""Where data, models and runs lie: URIs through pyarrow's filesystems, and hashes.

A URI is a local path, `s3://…`, `gs://…`, or (for reading) `hf://…`. Knows nothing of what the
files mean; how a folder is published is cluster.publishing's.
"""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import pyarrow.fs as pafs
from pydantic import AfterValidator

from cluster.errors import StorageError

JOB_MARKER = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for the entrypoint of a submitted job
SCHEMES = ("s3", "gs", "gcs", "hf", "file")
COPY_BYTES = 8 << 20  # an S3 stream asks the store for every piece that is read of it


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
        # What a key may hold and a URI may not; what is quoted already stays so.
        found, path = pafs.FileSystem.from_uri(quote(uri, safe=":/?&=%+,;@!$*'()~"))
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
    infos = _below(fs, uri, path, recursive=True)
    found = []
    for info in infos:
        inside = info.path[len(path) :].strip("/")
        hidden = any(part[:1] in "._" for part in inside.split("/"))
        if info.type == pafs.FileType.File and info.path.endswith(suffix) and not hidden:
            found.append((info.path, info.size))
    return sorted(found)


def entries(uri: str) -> list[pafs.FileInfo]:
    """What lies directly in a folder, files and folders; nothing where there is no folder."""
    fs, path = filesystem(uri)
    return _below(fs, uri, path)


def _below(
    fs: pafs.FileSystem, uri: str, path: str, *, recursive: bool = False
) -> list[pafs.FileInfo]:
    selector = pafs.FileSelector(path, recursive=recursive, allow_not_found=True)
    try:
        try:
            return list(fs.get_file_info(selector))
        except FileNotFoundError:
            # Arrow found no folder, looked whether that is so, and meanwhile someone had made it.
            return list(fs.get_file_info(selector))
    except OSError as error:
        raise StorageError(f"{uri} cannot be reached: {error}") from None


def _read(fs: pafs.FileSystem, path: str) -> bytes:
    with fs.open_input_file(path) as file:
        # Its size given, a file on S3 is read in one go; without, in many small requests. That of
        # what was opened: another file may be put in its place.
        return bytes(file.read(file.size()))


def read_bytes(uri: str) -> bytes:
    fs, path = filesystem(uri)
    try:
        try:
            return _read(fs, path)
        except FileNotFoundError:
            # Google's store does not find what was replaced between its size and its content.
            return _read(fs, path)
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
