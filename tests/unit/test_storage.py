"""Locations: what a URI may be, and what is read, written, copied, removed and hashed there."""

import hashlib
import os
from pathlib import Path
from unittest import mock

import pytest
from pydantic import TypeAdapter, ValidationError

from cluster import storage
from cluster.errors import StorageError
from tests.unit.storing import BUCKET, tree, write

# URIs.


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a/../c/./d", "/c/d"),
        ("file:///a/b/", "/a/b"),
        ("s3://bucket/a/", "s3://bucket/a"),
        ("s3://bucket", "s3://bucket"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("gcs://bucket/a", "gcs://bucket/a"),
        ("hf://datasets/a/b", "hf://datasets/a/b"),
        ("s3://bucket/a?region=eu", "s3://bucket/a?region=eu"),
    ],
)
def test_a_uri_is_made_absolute_and_loses_its_last_slash(given: str, normal: str) -> None:
    assert storage.normal_uri(given) == normal
    assert storage.normal_uri(normal) == normal


def test_a_relative_path_counts_from_here_and_a_tilde_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(storage.JOB_MARKER, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert storage.normal_uri("runs/one/") == f"{tmp_path}/runs/one"
    assert storage.normal_uri(".") == str(tmp_path)
    assert storage.normal_uri("~/runs") == "/home/somebody/runs"


def test_in_a_submitted_job_only_a_relative_path_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(storage.JOB_MARKER, "{}")
    for uri in ("runs/one", "./runs", "..", "runs"):
        with pytest.raises(ValueError, match="relative path, and a submitted job runs in a copy"):
            storage.normal_uri(uri)
    assert storage.normal_uri("/runs/one") == "/runs/one"
    assert storage.normal_uri("~") == os.path.expanduser("~")
    assert storage.normal_uri("s3://bucket/one") == "s3://bucket/one"


@pytest.mark.parametrize("uri", ["http://host/a", "ftp://host/a", "://a", "S4://a", "hdfs://n/a"])
def test_an_unknown_scheme_is_refused_with_those_that_are_known(uri: str) -> None:
    with pytest.raises(ValueError, match=r"is not supported; use a local path, s3://, gs://"):
        storage.normal_uri(uri)


@pytest.mark.parametrize("uri", ["", "s3://", "s3:///", "gs://", "hf://"])
def test_a_uri_that_names_nothing_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"it is empty|names no"):
        storage.normal_uri(uri)


def test_a_setting_of_this_kind_is_normal_once_read() -> None:
    reader = TypeAdapter(storage.Uri)
    assert reader.validate_python("/a/b/") == "/a/b"
    with pytest.raises(ValidationError, match="not supported"):
        reader.validate_python("http://a")


def test_parts_of_a_uri_are_joined_and_taken_off() -> None:
    assert storage.join("s3://b/a/", "c", "d") == "s3://b/a/c/d"
    assert storage.parent("s3://b/a/c/") == "s3://b/a"
    assert storage.join(storage.parent("/runs/bundle"), "code") == "/runs/code"
    assert storage.join(storage.parent("/bundle"), "code") == "/code"
    assert storage.is_local("/a") is True
    assert storage.is_local("s3://b/a") is False


# Reading.


def test_existence_and_kind_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, file="x")
    assert storage.exists(str(tmp_path)) is True
    assert storage.exists(f"{tmp_path}/file") is True
    assert storage.exists(f"{tmp_path}/away") is False
    assert storage.is_file(f"{tmp_path}/file") is True
    assert storage.is_file(str(tmp_path)) is False


def test_files_are_listed_with_size_in_order_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    root = write(
        tmp_path / ".data",  # hidden itself: only what is below counts
        **{
            "b.parquet": "22",
            "a__one.parquet": "1",
            "a__two.csv": "333",
            ".hidden.parquet": "x",
            "_SUCCESS": "x",
            ".git__c.parquet": "x",
            "a___temporary__d.parquet": "x",
        },
    )
    assert storage.list_files(str(root)) == [
        (f"{root}/a/one.parquet", 1),
        (f"{root}/a/two.csv", 3),
        (f"{root}/b.parquet", 2),
    ]
    assert [p for p, _ in storage.list_files(str(root), ".parquet")] == [
        f"{root}/a/one.parquet",
        f"{root}/b.parquet",
    ]
    assert storage.list_files(f"{root}/b.parquet") == [(f"{root}/b.parquet", 2)]
    assert storage.list_files(f"{root}/away") == []


def test_a_folder_that_is_made_while_it_is_looked_for_is_listed() -> None:
    """Arrow looks twice for one that is not there, and takes one made in between for a fault."""
    fs = mock.Mock()
    fs.get_file_info.side_effect = [FileNotFoundError("Cannot list directory"), ["a"]]
    with mock.patch.object(storage, "filesystem", return_value=(fs, "x")):
        assert storage.entries("x") == ["a"]
    fs.get_file_info.side_effect = FileNotFoundError("Cannot list directory")
    with (
        mock.patch.object(storage, "filesystem", return_value=(fs, "x")),
        pytest.raises(StorageError, match="x cannot be reached"),
    ):
        storage.entries("x")


def test_what_cannot_be_read_is_refused_by_its_location(tmp_path: Path) -> None:
    write(tmp_path, broken="{")
    with pytest.raises(StorageError, match=r"away does not exist\.$"):
        storage.read_bytes(f"{tmp_path}/away")
    with pytest.raises(StorageError, match="cannot be read"):
        storage.read_bytes(str(tmp_path))
    with pytest.raises(StorageError, match="broken is not valid JSON"):
        storage.read_json(f"{tmp_path}/broken")


def test_a_file_that_is_replaced_by_a_shorter_one_while_it_is_read_comes_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, shorter = tmp_path / "file", tmp_path / "shorter"
    file.write_bytes(b"as it was")
    shorter.write_bytes(b"now")
    fs, path = storage.filesystem(str(file))

    class Replaced:
        def __getattr__(self, name: str) -> object:
            return getattr(fs, name)

        def open_input_file(self, path: str) -> object:
            opened = fs.open_input_file(path)
            if shorter.exists():
                shorter.replace(path)
            return opened

    monkeypatch.setattr(storage, "filesystem", lambda _: (Replaced(), path))
    assert storage.read_bytes(str(file)) == b"as it was"
    assert storage.read_bytes(str(file)) == b"now"


# Writing.


def test_bytes_and_json_come_back_as_they_were_written(tmp_path: Path, bucket: Path) -> None:
    (bucket / "deep").mkdir()
    for uri in (f"{tmp_path}/new/deep/file", f"{BUCKET}/deep/file"):
        storage.write_bytes(uri, b"\x00\xff")
        assert storage.read_bytes(uri) == b"\x00\xff"
        storage.write_json(uri, {"label": "Zürich", "n": [1, None]})
        assert storage.read_json(uri) == {"label": "Zürich", "n": [1, None]}
    assert list(tree(tmp_path / "new")) == ["deep/file"]


def test_a_write_that_fails_leaves_neither_a_part_nor_a_changed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder cannot be written"):
        storage.write_bytes(f"{tmp_path}/folder", b"new")
    assert tree(tmp_path) == {}

    write(tmp_path, file="old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        storage.write_bytes(f"{tmp_path}/file", b"new")
    assert tree(tmp_path) == {"file": "old"}


def test_a_write_below_a_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, file="old")
    with pytest.raises(StorageError, match="cannot be written"):
        storage.write_bytes(f"{tmp_path}/file/below", b"new")


# Copies, removal, hashes.


def test_a_local_copy_is_the_folder_itself_or_a_download_that_does_not_last(
    tmp_path: Path, bucket: Path
) -> None:
    write(bucket, run__a="1", run__sub__b="2")
    write(tmp_path / "here", a="1")
    with storage.local_copy(f"{tmp_path}/here") as folder:
        assert folder == tmp_path / "here"
    assert tree(tmp_path / "here") == {"a": "1"}
    with storage.local_copy(f"{BUCKET}/run") as folder:
        assert tree(folder) == {"a": "1", "sub/b": "2"}
    assert not folder.exists()
    assert tree(bucket) == {"run/a": "1", "run/sub/b": "2"}


def test_removing_takes_the_folder_and_does_not_mind_if_there_is_none(tmp_path: Path) -> None:
    write(tmp_path, gone__a="1", kept="2")
    storage.remove(f"{tmp_path}/gone")
    storage.remove(f"{tmp_path}/gone")
    assert tree(tmp_path) == {"kept": "2"}
    assert not (tmp_path / "gone").exists()


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    assert storage.sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_digest_depends_on_values_and_not_on_the_order_of_keys() -> None:
    one = storage.digest({"a": 1, "b": [1, 2], "c": "Zürich"})
    assert one == storage.digest({"c": "Zürich", "b": [1, 2], "a": 1})
    assert len(one) == 16
    others = [{"a": 1, "b": [2, 1], "c": "Zürich"}, {"a": "1", "b": [1, 2], "c": "Zürich"}, {}]
    assert one not in [storage.digest(other) for other in others]
