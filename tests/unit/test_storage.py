"""Locations: what a URI may be, what is published when, and what is never written over."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from pydantic import TypeAdapter, ValidationError

from cluster import liveness, publishing, storage
from cluster.errors import StorageError

BUCKET = "s3://bucket"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the objects of s3://bucket."""
    folder = tmp_path / "objects" / "bucket"
    folder.mkdir(parents=True)
    inside = pafs.SubTreeFileSystem(str(folder.parent), pafs.LocalFileSystem())
    local = storage.filesystem

    def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
        return (inside, uri.removeprefix("s3://")) if uri.startswith("s3://") else local(uri)

    monkeypatch.setattr(storage, "filesystem", filesystem)
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with what it holds."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


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


def test_what_cannot_be_read_is_refused_by_its_location(tmp_path: Path) -> None:
    write(tmp_path, broken="{")
    with pytest.raises(StorageError, match=r"away does not exist\.$"):
        storage.read_bytes(f"{tmp_path}/away")
    with pytest.raises(StorageError, match="cannot be read"):
        storage.read_bytes(str(tmp_path))
    with pytest.raises(StorageError, match="broken is not valid JSON"):
        storage.read_json(f"{tmp_path}/broken")


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


def test_what_holds_anything_is_refused_and_what_is_empty_is_not(
    tmp_path: Path, bucket: Path
) -> None:
    write(tmp_path / "hidden", **{".only": "x"})
    write(tmp_path, file="x")
    write(bucket, used__a="x")
    (tmp_path / "empty").mkdir()
    publishing.refuse_used(f"{tmp_path}/empty")
    publishing.refuse_used(f"{tmp_path}/away")
    publishing.refuse_used(f"{BUCKET}/away")
    for uri in (f"{tmp_path}/hidden", f"{tmp_path}/file", f"{BUCKET}/used"):
        with pytest.raises(StorageError, match=rf"--report {uri} already holds files; give a new"):
            publishing.refuse_used(uri, "report")


# Publishing.


def test_a_staged_folder_appears_whole_and_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "bundle"
    with publishing.staging(str(target), ["done.json"]) as stage:
        write(Path(stage), **{"a": "1", "sub__b": "2", "done.json": "{}"})
        assert not target.exists()
        assert Path(stage).parent == target.parent  # on one file system: a rename is one step
    assert tree(tmp_path) == {
        "new/bundle/a": "1",
        "new/bundle/sub/b": "2",
        "new/bundle/done.json": "{}",
    }


def test_a_stage_in_progress_is_hidden_from_readers(tmp_path: Path) -> None:
    with publishing.staging(f"{tmp_path}/bundle", ["a"]) as stage:
        write(Path(stage), a="1")
        assert storage.list_files(str(tmp_path)) == []
    assert len(storage.list_files(str(tmp_path))) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_publishes_nothing_and_leaves_nothing(
    error: type[BaseException], tmp_path: Path
) -> None:
    def build() -> None:
        with publishing.staging(f"{tmp_path}/bundle", ["a"]) as stage:
            write(Path(stage), a="1")
            raise error("in the middle")

    with pytest.raises(error, match="in the middle"):
        build()
    assert list(tmp_path.iterdir()) == []


def test_without_every_commit_file_nothing_is_published(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"bundle was not published: b, c was not written"),
        publishing.staging(f"{tmp_path}/bundle", ["a", "b", "c"]) as stage,
    ):
        write(Path(stage), a="1")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_replaced_and_a_used_one_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with publishing.staging(f"{tmp_path}/empty", ["a"]) as stage:
        write(Path(stage), a="1")
    assert tree(tmp_path) == {"empty/a": "1"}

    write(tmp_path, used__kept="old", file="old")
    for name in ("used", "file"):
        with (
            pytest.raises(StorageError, match=f"{name} was not published"),
            publishing.staging(f"{tmp_path}/{name}", ["a"]) as stage,
        ):
            write(Path(stage), a="new")
    assert tree(tmp_path) == {"empty/a": "1", "used/kept": "old", "file": "old"}


def test_a_place_where_nothing_can_be_made_is_refused(tmp_path: Path) -> None:
    write(tmp_path, file="x")
    with (
        pytest.raises(StorageError, match=r"below cannot be written: Not a directory"),
        publishing.staging(f"{tmp_path}/file/below", []),
    ):
        raise AssertionError("there was a stage")


def test_in_object_storage_a_stage_is_the_place_itself_and_is_cleared_on_failure(
    bucket: Path,
) -> None:
    def build(fail: bool) -> None:
        with publishing.staging(f"{BUCKET}/run", ["done"]) as stage:
            assert stage == f"{BUCKET}/run"
            storage.write_bytes(f"{stage}/a", b"1")
            if fail:
                raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        build(True)
    assert not (bucket / "run").exists()
    build(False)
    assert tree(bucket) == {"run/a": "1"}


def dead() -> bytes:
    """The sign of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    sign = json.loads(liveness.sign()) | {"pid": process.pid}
    return json.dumps(sign).encode()


@pytest.mark.parametrize("where", ["object storage", "local"])
def test_what_a_killed_run_left_is_removed_by_the_next(
    tmp_path: Path, bucket: Path, where: str
) -> None:
    uri, remains = f"{BUCKET}/run", bucket / "run"
    if where == "local":
        uri, remains = f"{tmp_path}/run", tmp_path / ".run.0123abcd.partial"
    write(remains, half="written")
    (remains / publishing.SIGN).write_bytes(dead())
    publishing.refuse_used(uri)
    with publishing.staging(uri, ["done"]) as stage:
        assert tree(remains) in ({}, {publishing.SIGN: liveness.sign(["done"]).decode()})
        storage.write_bytes(f"{stage}/done", b"1")
    assert tree(bucket / "run" if where != "local" else tmp_path / "run") == {"done": "1"}


def test_a_folder_that_was_whole_before_its_writer_died_is_kept(bucket: Path) -> None:
    sign = json.loads(dead()) | {"commit": ["done"]}
    write(bucket / "run", done="1", a="2")
    (bucket / "run" / publishing.SIGN).write_text(json.dumps(sign))
    with pytest.raises(StorageError, match="already holds files"):
        publishing.refuse_used(f"{BUCKET}/run")
    assert tree(bucket / "run")["done"] == "1"


@pytest.mark.parametrize("where", ["object storage", "local"])
def test_a_folder_that_another_run_is_writing_is_left_alone(
    tmp_path: Path, bucket: Path, where: str
) -> None:
    uri, other = f"{BUCKET}/run", bucket / "run"
    if where == "local":
        uri, other = f"{tmp_path}/run", tmp_path / ".run.0123abcd.partial"
    write(other, half="written")
    (other / publishing.SIGN).write_bytes(liveness.sign())
    if where == "local":
        with publishing.staging(uri, []):
            pass
    else:
        with pytest.raises(StorageError, match="is being written by another run"):
            publishing.refuse_used(uri)
        with (
            pytest.raises(StorageError, match="is being written by another run"),
            publishing.staging(uri, []),
        ):
            raise AssertionError("there was a stage")
    assert tree(other)["half"] == "written"


def test_of_another_machine_the_age_of_the_sign_tells() -> None:
    sign = json.dumps(json.loads(liveness.sign()) | {"host": "elsewhere"}).encode()
    assert not liveness.is_gone(sign, 30.0)
    assert liveness.is_gone(sign, liveness.DEAD_AFTER_S + 1)
    assert not liveness.is_gone(b"not a sign", 30.0)
    assert liveness.is_gone(b"not a sign", liveness.DEAD_AFTER_S + 1)
    assert not liveness.is_gone(liveness.sign(), 1e6)


def test_a_sign_is_renewed_until_the_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "RENEW_S", 0.01)
    three, count = threading.Event(), itertools.count(1)

    def renew() -> None:
        number = next(count)
        if number == 1:
            raise OSError("the storage is away for a moment")
        if number == 3:
            three.set()

    with liveness.renewed(renew):
        assert three.wait(10)
    after = next(count)
    assert next(count) == after + 1


def test_a_finished_folder_is_published_whole_and_stays_where_it_was(
    tmp_path: Path, bucket: Path
) -> None:
    files = {"a.bin": "1", "sub__b": "2", "done.json": "{}"}
    source = write(tmp_path / "source", **files)
    publishing.publish(source, f"{tmp_path}/there", "done.json")
    publishing.publish(source, f"{BUCKET}/there", "done.json")
    assert tree(tmp_path / "there") == tree(bucket / "there") == tree(source)
    assert len(tree(source)) == 3


def test_a_folder_without_its_commit_file_is_not_published(tmp_path: Path) -> None:
    source = write(tmp_path / "source", a="1")
    with pytest.raises(StorageError, match=r"was not published: done\.json was not written"):
        publishing.publish(source, f"{tmp_path}/there", "done.json")
    assert not (tmp_path / "there").exists()


def test_in_object_storage_the_commit_file_is_written_after_all_others(
    tmp_path: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "source", **{"a.json": "{}", "m": "1", "z__y": "2"})
    seen: list[list[str]] = []
    copy = storage.shutil.copyfileobj

    def watched(*streams: object) -> None:
        seen.append([name for name, text in tree(bucket).items() if text])
        copy(*streams)  # type: ignore[arg-type]

    monkeypatch.setattr(storage.shutil, "copyfileobj", watched)
    publishing.upload(source, f"{BUCKET}/run", last="a.json")
    assert seen[-1] == ["run/m", "run/z/y"]
    assert tree(bucket) == {"run/a.json": "{}", "run/m": "1", "run/z/y": "2"}


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
