"""Files that are there for good: what is synced when, and what an error leaves behind."""

import os
from pathlib import Path

import pytest

from cluster import durable
from cluster.errors import StorageError


class Disk:
    """What happens to the disk, in order; the names of files and folders that are synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        fsync, rename = os.fsync, Path.rename

        def synced(descriptor: int) -> None:
            name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
            self.events.append(("sync", "the file" if name.endswith(".partial") else name))
            fsync(descriptor)

        def renamed(path: Path, target: Path) -> Path:
            self.events.append(("rename", target.name))
            return rename(path, target)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "rename", renamed)


def test_the_file_is_synced_before_it_has_its_name_and_the_folders_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    disk = Disk(monkeypatch)
    durable.write(str(tmp_path / "there" / "new" / "newer" / "file"), b"kept")
    assert disk.events[:3] == [("sync", "the file"), ("rename", "file"), ("sync", "newer")]
    assert {name for _, name in disk.events[3:]} == {"new", "there"}
    assert (tmp_path / "there" / "new" / "newer" / "file").read_bytes() == b"kept"


def test_a_folder_that_somebody_else_has_just_made_is_synced_in_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "above" / "made").mkdir(parents=True)
    disk = Disk(monkeypatch)
    durable.write(str(tmp_path / "above" / "made" / "file"), b"")
    assert disk.events[2:] == [("sync", "made"), ("sync", "above")]


def test_what_cannot_be_synced_is_not_published_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"file cannot be written: No space left on device\."):
        durable.write(str(tmp_path / "folder" / "file"), b"lost")
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StorageError, match=r"folder/file cannot be written"):
        durable.write(str(tmp_path / "folder" / "file"), b"lost")
