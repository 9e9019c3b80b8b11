"""Checkpoints on their shelf: read back, refused where damaged, thinned out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.errors import StorageError
from jobs import checkpoints
from jobs.checkpoints import Shelf, best_sound, newest_sound, position_of, superfluous
from jobs.classifier.checkpoint import Damaged, Snapshot, read_manifest, weights
from jobs.classifier.progress import Position, Progress


def snapshot(epoch: int, batch: int = 0, *, scores: tuple[float, ...] = ()) -> Snapshot:
    """A small one; `scores` are the macro-F1 of the epochs before it."""
    scores = scores or tuple(0.1 * (k + 1) for k in range(epoch))
    history = tuple({"macro_f1": s, "validation_loss": 1 / 3} for s in scores)
    return Snapshot(
        {"w": torch.full((1000,), float(epoch))},
        {"state": {0: {"exp_avg": torch.ones(3), "step": 7.0}}, "groups": [{"lr": 0.1}]},
        Progress(Position(epoch, batch), loss=1 / 7, rows=3.0, history=history),
    )


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(str(tmp_path / "checkpoints"))


def test_what_is_put_on_a_shelf_is_found_again_newest_first(shelf: Shelf) -> None:
    assert shelf.names() == []
    first, third, second = (shelf.add(snapshot(*at)) for at in ((0, 5), (2, 0), (0, 40)))
    assert shelf.names() == [third, second, first]
    assert [position_of(name) for name in shelf.names()] == [
        Position(2, 0),
        Position(0, 40),
        Position(0, 5),
    ]
    with shelf.fetch(third) as folder:
        assert weights(folder)["w"].tolist() == [2.0] * 1000
    assert shelf.check(third).progress == snapshot(2).progress, "to the last bit"
    shelf.remove(second)
    assert shelf.names() == [third, first]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["bit", "truncated", "missing"])
def test_a_damaged_file_is_known(shelf: Shelf, name: str, damage: str) -> None:
    kept = shelf.add(snapshot(1))
    path = Path(shelf.uri, kept, name)
    if damage == "bit":
        flip(path, len(path.read_bytes()) // 2)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    if (name, damage) == ("manifest.json", "truncated"):
        shelf.check(kept)  # it ended in a line break: nothing that counts is lost
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged, match=name.replace(".", r"\.")):
        shelf.check(kept)
    with pytest.raises(Damaged), shelf.fetch(kept):
        pass


def test_figures_changed_in_a_manifest_are_known(shelf: Shelf) -> None:
    path = Path(shelf.uri, shelf.add(snapshot(1)), "manifest.json")
    values = json.loads(path.read_text())
    values["progress"]["history"][0]["macro_f1"] = 1.0
    path.write_text(json.dumps(values))
    with pytest.raises(Damaged, match="was changed"):
        read_manifest(path.read_bytes())


def test_the_newest_sound_one_is_taken_and_every_damaged_one_told(shelf: Shelf) -> None:
    said: list[str] = []
    assert newest_sound(shelf, said.append) is None
    good, bad, worse = (shelf.add(snapshot(0, batch)) for batch in (10, 20, 30))
    flip(Path(shelf.uri, bad, "model.safetensors"))
    flip(Path(shelf.uri, worse, "optimizer.pt"))
    Path(shelf.uri, "epoch-0000-step-00000040-00000000").mkdir()  # was never finished
    assert newest_sound(shelf, said.append) == good
    assert len(said) == 2
    for line, name, file in zip(
        said, (worse, bad), ("optimizer.pt", "model.safetensors"), strict=True
    ):
        assert name in line
        assert f"{file} does not have the SHA-256" in line
        assert "going back to the one before" in line


def test_a_run_with_damaged_checkpoints_alone_cannot_go_on(shelf: Shelf) -> None:
    flip(Path(shelf.uri, shelf.add(snapshot(1)), "model.safetensors"))
    with pytest.raises(StorageError, match="new --output"):
        newest_sound(shelf, lambda _: None)


def test_the_best_epoch_is_that_of_the_best_score_that_is_sound(shelf: Shelf) -> None:
    scores = (0.3, 0.9, 0.8)
    first, best, third = (shelf.add(snapshot(e, scores=scores[:e])) for e in (1, 2, 3))
    shelf.add(snapshot(2, 40, scores=scores[:2]))  # within an epoch: no figures of its own
    said: list[str] = []
    assert best_sound(shelf, "macro_f1", said.append) == (
        best,
        snapshot(2, scores=(0.3, 0.9)).progress,
    )
    flip(Path(shelf.uri, best, "model.safetensors"))
    found = best_sound(shelf, "macro_f1", said.append)
    assert found is not None
    assert found[0] == third
    assert len(said) == 1
    assert best in said[0]
    for name in (first, third):
        shelf.remove(name)
    assert best_sound(shelf, "macro_f1", said.append) is None


def test_what_cannot_be_written_leaves_nothing_behind(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = shelf.add(snapshot(1))

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="No space"):
        shelf.add(snapshot(2))
    assert shelf.names() == [kept]


def names_of(*positions: tuple[int, int]) -> dict[str, Progress]:
    return {
        f"epoch-{e:04}-step-{b:08}-{k:08x}": snapshot(e, b).progress
        for k, (e, b) in enumerate(positions)
    }


def test_only_the_newest_ones_and_the_best_stay() -> None:
    sound = names_of((1, 0), (1, 10), (2, 0), (2, 10), (2, 20))
    names = list(sound)
    assert superfluous(names, sound, keep=2, metric="macro_f1") == [names[0], names[1]]
    assert superfluous(names, sound, keep=1, metric="macro_f1") == [*names[:2], names[3]]
    # By its loss no epoch is better than the first.
    assert superfluous(names, sound, keep=2, metric="validation_loss") == [names[1], names[2]]


def test_nothing_goes_before_enough_newer_ones_were_read_back() -> None:
    names = list(names_of((1, 0), (1, 10), (2, 0), (2, 10)))
    newest = {names[-1]: snapshot(2, 10).progress}
    assert superfluous(names, newest, keep=2, metric="macro_f1") == []
    assert superfluous(names, {}, keep=2, metric="macro_f1") == []
    # The third was never read back: that it is newer does not save it, and does not count.
    two = {
        name: snapshot(*at).progress
        for name, at in zip(names[1::2], ((1, 10), (2, 10)), strict=True)
    }
    assert superfluous(names, two, keep=2, metric="macro_f1") == [names[0], names[2]]


def test_one_that_cannot_be_read_is_passed_over_and_a_hiccup_is_not(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, newest = shelf.add(snapshot(0, 10)), shelf.add(snapshot(0, 20))
    read, failing = checkpoints._check, [1]

    def sometimes(uri: str) -> Any:
        if uri.endswith(newest) and failing:
            failing.pop()
            raise OSError(5, "Input/output error")
        return read(uri)

    monkeypatch.setattr(checkpoints, "_check", sometimes)
    said: list[str] = []
    assert newest_sound(shelf, said.append) == newest
    failing.extend([1, 1])
    assert newest_sound(shelf, said.append) == before
    assert len(said) == 1
    assert "it cannot be read: [Errno 5] Input/output error" in said[0]
