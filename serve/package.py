"""The code that replicas run, packed where they can fetch it: also long after the job that sent
it has ended. Knows nothing of what is deployed."""

import importlib.util
import os
import zipfile
from pathlib import Path

from cluster import storage
from cluster.errors import StorageError

PACKAGES = ("cluster", "jobs", "serve", "tuning")
# What Ray itself reads a package in object storage with, on every node; it brings none of them.
READERS = {"s3": "boto3", "gs": "google.cloud.storage"}


def publish_code(folder: str) -> str:
    """Packs the four packages as they are here into one zip; its URI, which names its content.

    Ray unpacks it for every replica, also long after the job that deployed has ended.
    """
    _require_reader(folder)
    root = Path(__file__).resolve().parents[1]
    files = sorted(
        path
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    key = storage.digest([[str(p.relative_to(root)), storage.sha256(p)] for p in files])
    uri = storage.join(folder, f"switchyard-{key}.zip")
    if not storage.exists(uri):
        packed = Path(os.environ.get("TMPDIR", "/tmp")) / f"switchyard-{key}-{os.getpid()}.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for path in files:
                archive.write(path, Path("switchyard") / path.relative_to(root))
        try:
            storage.write_bytes(uri, packed.read_bytes())
        except StorageError as error:
            raise StorageError(f"{error} Give another folder for the code with --code.") from None
        finally:
            packed.unlink()
    return f"file://{uri}" if storage.is_local(uri) else uri


def _require_reader(folder: str) -> None:
    """StorageError where replicas could not fetch what is put into `folder`: Ray would try for
    minutes and give a stack trace."""
    scheme = folder.partition("://")[0]
    reader = READERS.get(scheme)
    if reader is None or _is_installed(reader):
        return
    raise StorageError(
        f"Ray fetches the code of replicas from {folder} with {reader}, which is not installed "
        f"here. Install {reader.replace('.', '-')} on every node, or give --code a folder that all "
        "nodes share."
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package around it
        return False
