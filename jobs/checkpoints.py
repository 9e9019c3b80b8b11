"""The checkpoints of a run in its folder: written, read back, found again, and thinned out.

They are ours and not Ray's: Ray keeps the best and the newest, so that a damaged newest one would
leave nothing near it, and it looks at no hash. Knows nothing of training or of Ray.
"""

import hashlib
import math
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from cluster import publishing, storage
from cluster.errors import StorageError
from jobs.classifier.checkpoint import MANIFEST, Damaged, Manifest, Snapshot, read_manifest
from jobs.classifier.progress import Position, Progress
from jobs.classifier.stopping import Metric, order

_NAME = re.compile(r"epoch-(\d{4,})-step-(\d{8,})-[0-9a-f]{8}")
Tell = Callable[[str], None]


class Shelf:
    """The checkpoints below a URI, by name; names sort by position, the newest last."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def names(self) -> list[str]:
        """Newest first; one that was never finished is among them."""
        found = storage.entries(self.uri)
        folders = [info.base_name for info in found if info.type == pafs.FileType.Directory]
        return sorted((name for name in folders if _NAME.fullmatch(name)), reverse=True)

    def is_finished(self, name: str) -> bool:
        return storage.is_file(self._uri(name, MANIFEST))

    def manifest(self, name: str) -> Manifest:
        return read_manifest(storage.read_bytes(self._uri(name, MANIFEST)))

    def check(self, name: str) -> Manifest:
        """Reads all of a checkpoint back; Damaged if it is not what was written, or if it cannot
        be read a second time either (a bad sector is no reason to give up the one before)."""
        try:
            return _check(self._uri(name))
        except (OSError, StorageError):
            pass
        try:
            return _check(self._uri(name))
        except (OSError, StorageError) as error:
            raise Damaged(f"it cannot be read: {error}") from None

    def add(self, snapshot: Snapshot) -> str:
        """Writes a checkpoint and reads it back; its name. What fails leaves nothing behind."""
        at = snapshot.progress.position
        name = f"epoch-{at.epoch:04}-step-{at.batch:08}-{uuid.uuid4().hex[:8]}"
        try:
            if storage.is_local(self.uri):
                folder = Path(self.uri, name)
                folder.mkdir(parents=True)
                snapshot.write(folder)
            else:
                with tempfile.TemporaryDirectory(prefix="switchyard-") as temporary:
                    snapshot.write(Path(temporary))
                    publishing.upload(Path(temporary), self._uri(name), MANIFEST)
            self.check(name)
        except BaseException:
            with suppress(OSError, StorageError):
                self.remove(name)
            raise
        return name

    @contextmanager
    def fetch(self, name: str) -> Iterator[Path]:
        """A local folder with the checkpoint, read back: itself or a download; Damaged."""
        with storage.local_copy(self._uri(name)) as folder:
            _check(str(folder))
            yield folder

    def remove(self, name: str) -> None:
        storage.remove(self._uri(name))

    def _uri(self, *parts: str) -> str:
        return storage.join(self.uri, *parts)


def _check(uri: str) -> Manifest:
    if not storage.is_file(storage.join(uri, MANIFEST)):
        raise Damaged(f"{MANIFEST} is missing")
    manifest = read_manifest(storage.read_bytes(storage.join(uri, MANIFEST)))
    fs, path = storage.filesystem(uri)
    for name, expected in manifest.files.items():
        try:
            with fs.open_input_file(storage.join(path, name)) as file:
                found = _sha256(file)
        except FileNotFoundError:
            raise Damaged(f"{name} is missing") from None
        if found != expected:
            raise Damaged(f"{name} does not have the SHA-256 with which it was written")
    return manifest


def _sha256(file: pa.NativeFile) -> str:
    digest = hashlib.sha256()
    while piece := file.read(storage.COPY_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def position_of(name: str) -> Position:
    """Where the checkpoint of that name was made."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no name of a checkpoint")
    return Position(int(found.group(1)), int(found.group(2)))


def newest_sound(shelf: Shelf, tell: Tell) -> str | None:
    """The newest checkpoint that reads back as it was written; `tell` hears of every other.

    None if none was ever finished; StorageError if all are damaged.
    """
    damaged = 0
    for name in shelf.names():
        if not shelf.is_finished(name):
            continue
        try:
            shelf.check(name)
            return name
        except Damaged as error:
            damaged += 1
            tell(
                f"warning: checkpoint {name} in {shelf.uri} is damaged ({error}); going back to "
                "the one before."
            )
    if damaged:
        raise StorageError(
            f"All {damaged} checkpoints in {shelf.uri} are damaged or cannot be read, so that "
            "the run cannot go on; see to the storage, or start again with a new --output."
        )
    return None


def best_sound(shelf: Shelf, metric: Metric, tell: Tell) -> tuple[str, Progress] | None:
    """The checkpoint of the best epoch among those that read back as they were written."""
    found: list[tuple[str, Progress]] = []
    for name in shelf.names():
        if position_of(name).batch == 0 and shelf.is_finished(name):
            with suppress(Damaged):  # which `check` below would say of it too
                found.append((name, shelf.manifest(name).progress))
    for name, progress in sorted(found, key=lambda pair: _rank(pair[1], metric), reverse=True):
        try:
            shelf.check(name)
            return name, progress
        except Damaged as error:
            tell(
                f"warning: checkpoint {name} in {shelf.uri} is damaged ({error}); its epoch can "
                "no longer be the best one."
            )
    return None


def superfluous(
    names: Sequence[str], sound: Mapping[str, Progress], *, keep: int, metric: Metric
) -> list[str]:
    """Which of `names` may go: all but the newest `keep` and the best of the `sound` ones.

    `sound` are those that were read back. None may go before there are `keep` of them.
    """
    newest = sorted(sound, reverse=True)[:keep]
    if len(newest) < keep:
        return []
    ends = {name: progress for name, progress in sound.items() if progress.ended_epoch}
    best = max(ends, key=lambda name: _rank(ends[name], metric), default=None)
    return [name for name in names if name not in newest and name != best]


def _rank(progress: Progress, metric: Metric) -> tuple[tuple[float, float], int]:
    """For sorting: the better epoch is greater, and of equals the earlier."""
    figures = progress.ended_epoch or {metric: math.nan, "validation_loss": math.nan}
    return order(figures, metric), -progress.position.epoch
