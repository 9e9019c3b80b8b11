"""Saving beside the training: what is kept, what is said, and what fails."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import StorageError
from jobs import saving as saving_module
from jobs.checkpoints import Shelf, position_of
from jobs.classifier.checkpoint import Snapshot
from jobs.saving import Saver
from tests.unit.test_checkpoints import flip, snapshot


class MoodyShelf(Shelf):
    """A shelf that is full for a while."""

    full = False

    def add(self, one: Snapshot) -> str:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().add(one)


@pytest.fixture
def shelf(tmp_path: Path) -> MoodyShelf:
    return MoodyShelf(str(tmp_path / "checkpoints"))


def saver(shelf: Shelf, said: list[str], *, began_from: str | None = None) -> Saver:
    return Saver(shelf, keep=2, metric="macro_f1", tell=said.append, began_from=began_from)


def positions(shelf: Shelf) -> list[tuple[int, int]]:
    found = [position_of(name) for name in shelf.names()]
    return sorted((at.epoch, at.batch) for at in found)


def test_the_best_and_the_newest_two_are_on_the_shelf_at_the_end(shelf: MoodyShelf) -> None:
    said: list[str] = []
    scores = (0.5, 0.9, 0.6, 0.7)
    with saver(shelf, said) as saving:
        for epoch in range(4):
            saving.save(partial(snapshot, epoch, 10, scores=scores[:epoch] or (0.0,)))
            saving.save(partial(snapshot, epoch + 1, scores=scores[: epoch + 1]))
    assert positions(shelf) == [(2, 0), (3, 10), (4, 0)]
    assert said == []


def test_training_does_not_wait_for_one_to_be_written_but_for_the_one_before(
    shelf: MoodyShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write, has_begun = threading.Event(), threading.Event()
    began: list[int] = []
    add = Shelf.add

    def slowly(self: Shelf, one: Snapshot) -> str:
        began.append(one.progress.position.batch)
        has_begun.set()
        assert may_write.wait(10)
        return add(self, one)

    monkeypatch.setattr(MoodyShelf, "add", slowly)
    with saver(shelf, []) as saving:
        saving.save(lambda: snapshot(0, 10))
        assert has_begun.wait(10)
        second = threading.Thread(target=saving.save, args=(partial(snapshot, 0, 20),))
        second.start()
        second.join(0.2)
        assert second.is_alive(), "it waits"
        assert began == [10]
        may_write.set()
        second.join(10)
        assert not second.is_alive()
    assert positions(shelf) == [(0, 10), (0, 20)]


def test_a_full_disk_is_said_and_the_best_is_saved_when_there_is_room_again(
    shelf: MoodyShelf,
) -> None:
    said: list[str] = []
    with saver(shelf, said) as saving:
        saving.save(lambda: snapshot(1, scores=(0.5,)))
        saving.save(lambda: snapshot(1, 10, scores=(0.5,)))
        saving._wait()
        shelf.full = True
        saving.save(lambda: snapshot(2, scores=(0.5, 0.9)))
        saving.save(lambda: snapshot(2, 10, scores=(0.5, 0.9)))
        saving._wait()
        assert positions(shelf) == [(1, 0), (1, 10)], "the last good ones are kept"
        shelf.full = False
        saving.save(lambda: snapshot(2, 20, scores=(0.5, 0.9)))
        saving.save(lambda: snapshot(3, scores=(0.5, 0.9, 0.6)))
    assert positions(shelf) == [(2, 0), (2, 20), (3, 0)]
    assert len(said) == 2
    assert "the checkpoint after 2 epochs and 0 steps cannot be saved in" in said[0]
    assert "No space left on device. Training goes on" in said[0]
    assert "epoch-0001-step-00000010" in said[0]


def test_a_better_epoch_makes_one_that_could_not_be_saved_unimportant(shelf: MoodyShelf) -> None:
    with saver(shelf, []) as saving:
        shelf.full = True
        saving.save(lambda: snapshot(1, scores=(0.5,)))
        saving._wait()
        shelf.full = False
        saving.save(lambda: snapshot(2, scores=(0.5, 0.9)))
    assert positions(shelf) == [(2, 0)]


def test_a_run_whose_best_weights_cannot_be_saved_has_failed(shelf: MoodyShelf) -> None:
    with pytest.raises(StorageError) as failed, saver(shelf, []) as saving:  # noqa: PT012
        saving.save(lambda: snapshot(1, scores=(0.5,)))
        saving._wait()
        shelf.full = True
        saving.save(lambda: snapshot(2, scores=(0.5, 0.9)))
    assert f"weights of the best epoch cannot be saved in {shelf.uri}" in str(failed.value)
    assert "No space left on device" in str(failed.value)
    assert "--resume" in str(failed.value)
    assert "epoch-0001-step-00000000" in str(failed.value)
    assert positions(shelf) == [(1, 0)]


def test_a_worse_epoch_that_could_not_be_saved_fails_nothing(shelf: MoodyShelf) -> None:
    said: list[str] = []
    with saver(shelf, said) as saving:
        saving.save(lambda: snapshot(1, scores=(0.9,)))
        saving._wait()
        shelf.full = True
        saving.save(lambda: snapshot(2, scores=(0.9, 0.5)))
    assert positions(shelf) == [(1, 0)]
    assert len(said) == 1


def test_the_error_of_the_training_is_not_hidden_by_that_of_the_saving(shelf: MoodyShelf) -> None:
    shelf.full = True
    with pytest.raises(KeyError), saver(shelf, []) as saving:  # noqa: PT012
        saving.save(lambda: snapshot(1, scores=(0.5,)))
        raise KeyError("of the training")


def test_a_resumed_run_keeps_the_best_epoch_of_the_one_before(shelf: MoodyShelf) -> None:
    scores = (0.5, 0.9, 0.6)
    for epoch in (1, 2, 3):
        shelf.add(snapshot(epoch, scores=scores[:epoch]))
    newest = shelf.names()[0]
    unfinished = Path(shelf.uri, "epoch-0003-step-00000010-00000000")
    unfinished.mkdir()
    with saver(shelf, [], began_from=newest) as saving:
        saving.save(lambda: snapshot(3, 10, scores=scores))
        saving.save(lambda: snapshot(3, 20, scores=scores))
    assert positions(shelf) == [(2, 0), (3, 10), (3, 20)]
    assert not unfinished.exists()


def test_a_resumed_run_whose_best_epoch_is_damaged_keeps_the_best_of_the_others(
    shelf: MoodyShelf,
) -> None:
    scores = (0.5, 0.9, 0.6)
    names = [shelf.add(snapshot(epoch, scores=scores[:epoch])) for epoch in (1, 2, 3)]
    flip(Path(shelf.uri, names[1], "model.safetensors"))
    said: list[str] = []
    with saver(shelf, said, began_from=names[2]) as saving:
        saving.save(lambda: snapshot(3, 10, scores=scores))
        saving.save(lambda: snapshot(3, 20, scores=scores))
    assert positions(shelf) == [(3, 0), (3, 10), (3, 20)]
    assert len(said) == 1
    assert "can no longer be the best one" in said[0]


def test_nothing_is_taken_away_before_what_an_earlier_run_left_could_be_read(
    shelf: MoodyShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = (0.5, 0.9, 0.6, 0.4, 0.3)
    with saver(shelf, []) as saving:
        for epoch in (1, 2, 3):
            saving.save(partial(snapshot, epoch, scores=scores[:epoch]))
    began_from = shelf.names()[0]
    answers = [StorageError("the storage cannot be reached"), StorageError("nor now")]
    found = saving_module.best_sound

    def at_first_not(*about: Any) -> Any:
        if answers:
            raise answers.pop()
        return found(*about)

    monkeypatch.setattr(saving_module, "best_sound", at_first_not)
    said: list[str] = []
    with saver(shelf, said, began_from=began_from) as saving:
        saving.save(partial(snapshot, 4, scores=scores[:4]))
        saving.save(partial(snapshot, 5, scores=scores))
    assert positions(shelf) == [(2, 0), (4, 0), (5, 0)]
    assert said == ["warning: nor now", "warning: the storage cannot be reached"]
