"""What is published when, and what is never written over: a folder appears whole or not at all, in
object storage too, and what a killed run left is told from what another run is writing."""

import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from cluster import liveness, publishing, storage
from cluster.errors import StorageError
from tests.unit.storing import BUCKET, tree, write


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


# A folder that is staged.


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


# A folder whose writer died, or works still.


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


def test_a_step_of_the_clock_makes_no_writer_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    sign, booted = liveness.sign(), psutil.boot_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: booted + 7.0)
    assert psutil.boot_time() == booted + 7.0
    assert not liveness.is_gone(sign, 1e6)
    other = json.loads(sign) | {"start_s": json.loads(sign)["start_s"] - 1.0}
    assert liveness.is_gone(json.dumps(other).encode(), 0.0), "another process of this id"


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


# A folder that is finished.


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
