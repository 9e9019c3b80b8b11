"""Saving a run beside its training: snapshots are written in a thread, one at a time.

What cannot be saved is said and training goes on, since space may be found again; only a run
whose best weights are nowhere at its end has failed. Knows nothing of Ray.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from cluster.errors import StorageError
from jobs.checkpoints import Shelf, Tell, best_sound, superfluous
from jobs.classifier.checkpoint import Damaged, Snapshot
from jobs.classifier.progress import Progress
from jobs.classifier.stopping import Metric, best_epoch


@contextmanager
def going_on(
    shelf: Shelf, name: str | None, *, writes: bool, keep: int, metric: Metric, tell: Tell
) -> Iterator[tuple[Path | None, Callable[[Callable[[], Snapshot]], None]]]:
    """A run that goes on from checkpoint `name` of the shelf (None: from its beginning).

    Gives the checkpoint's local folder, and what saves a snapshot there: a `Saver` where this
    process is the one that `writes`, and nothing elsewhere.
    """
    with ExitStack() as stack:
        folder = None if name is None else stack.enter_context(shelf.fetch(name))
        if not writes:
            yield folder, lambda take: None
            return
        if name is not None:
            tell(f"Going on from checkpoint {name}.")
        saver = Saver(shelf, keep=keep, metric=metric, tell=tell, began_from=name)
        yield folder, stack.enter_context(saver).save


class Saver:
    """Puts snapshots on a shelf, and takes away old ones after newer ones were read back.

    `began_from`: the checkpoint, read back already, with which the run went on. As a context: at
    its end all is written; StorageError if the weights of the best epoch could not be.
    """

    def __init__(
        self, shelf: Shelf, *, keep: int, metric: Metric, tell: Tell, began_from: str | None = None
    ) -> None:
        self._shelf = shelf
        self._keep = keep
        self._metric = metric
        self._tell = tell
        self._sound: dict[str, Progress] = {}
        self._best_unsaved: Snapshot | None = None
        self._reason = ""
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: Future[None] | None = None
        self._unseen = began_from  # until what an earlier run left has been read back
        if began_from is not None:
            self._pending = self._thread.submit(self._look)

    def save(self, take: Callable[[], Snapshot]) -> None:
        """Takes a snapshot when the one before is written, and returns when this one is under
        way: a crash then costs at most the steps between two and those of one writing, however
        slow the storage is, and memory holds one snapshot."""
        self._wait()
        self._pending = self._thread.submit(self._write, take())

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wait()
        if error is None and self._best_unsaved is not None:
            self._write(self._best_unsaved)
        self._thread.shutdown()
        if error is None and self._best_unsaved is not None:
            raise StorageError(
                f"The weights of the best epoch cannot be saved in {self._shelf.uri}: "
                f"{self._reason}. Make room there, and go on with --resume from the newest "
                f"checkpoint that could be ({max(self._sound, default='none')})."
            )

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def _look(self) -> None:
        """What of an earlier run counts as sound: where it went on, and its best epoch. Until
        that is known nothing is taken away: the best one would be among it."""
        if self._unseen is None:
            return
        try:
            found = {self._unseen: self._shelf.manifest(self._unseen).progress}
            best = best_sound(self._shelf, self._metric, self._tell)
        except (OSError, StorageError, Damaged) as error:
            self._tell(f"warning: {error}")
            return
        self._sound |= found if best is None else found | {best[0]: best[1]}
        self._unseen = None

    def _write(self, snapshot: Snapshot) -> None:
        todo = [snapshot]
        # A checkpoint says which epoch was the best: that one has to be there before it.
        if self._best_unsaved is not None and not self._is_best(snapshot):
            todo.insert(0, self._best_unsaved)
        for one in todo:
            try:
                self._sound[self._shelf.add(one)] = one.progress
            except Exception as error:  # whatever it is, training is worth more
                self._failed(one, error)
                return
            if self._is_best(one):
                self._best_unsaved = None
        self._thin_out()

    def _failed(self, snapshot: Snapshot, error: Exception) -> None:
        if self._is_best(snapshot):
            self._best_unsaved = snapshot
        self._reason = " ".join(str(error).split()).rstrip(".")
        self._tell(
            f"warning: the checkpoint after {snapshot.progress.position} cannot be saved in "
            f"{self._shelf.uri}: {self._reason}. Training goes on; the newest that could be saved "
            f"is {max(self._sound, default='none')}."
        )

    def _is_best(self, snapshot: Snapshot) -> bool:
        """Whether it holds the weights of the best epoch so far."""
        progress = snapshot.progress
        if progress.ended_epoch is None:
            return False
        return best_epoch(progress.history, self._metric) == progress.position.epoch

    def _thin_out(self) -> None:
        self._look()
        if self._unseen is not None:
            return
        try:
            names = self._shelf.names()
            for name in superfluous(names, self._sound, keep=self._keep, metric=self._metric):
                self._shelf.remove(name)
                self._sound.pop(name, None)
        except (OSError, StorageError) as error:
            self._tell(f"warning: old checkpoints in {self._shelf.uri} cannot be removed: {error}")
