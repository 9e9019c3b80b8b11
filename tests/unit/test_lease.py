"""One run at a time in a folder."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import lease, liveness, publishing
from cluster.errors import InUseError, StorageError


def test_a_folder_that_is_held_is_refused_and_free_afterwards(tmp_path: Path) -> None:
    with lease.held(str(tmp_path / "run"), "output"):
        with (
            pytest.raises(InUseError, match="another run is at work in it"),
            lease.held(str(tmp_path / "run"), "output"),
        ):
            pass
        assert list((tmp_path / "run").iterdir()), "the refused one has not let go of it"
    assert not list((tmp_path / "run").iterdir())
    with lease.held(str(tmp_path / "run"), "output"):
        pass


def test_of_two_that_begin_at_the_same_moment_one_holds_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_looked, look, ends = threading.Barrier(2), lease.refuse_held, {}
    one_is_over = threading.Event()
    sign = tmp_path / "run" / lease.SIGN

    def wait_for(name: bytes) -> None:
        limit = time.monotonic() + 30
        while not (sign.is_file() and sign.read_bytes() == name):
            assert time.monotonic() < limit
            time.sleep(0.005)

    def looked(*about: str) -> None:
        look(*about)
        both_looked.wait(10)
        if threading.current_thread().name == "second":
            wait_for(b"first")  # writes after the first has written

    def settle(_: float) -> None:
        wait_for(b"second")

    def of_this_thread() -> bytes:
        return threading.current_thread().name.encode()

    def begin() -> None:
        name = threading.current_thread().name
        try:
            with lease.held(str(tmp_path / "run"), "output"):
                ends[name] = "held"
                assert one_is_over.wait(30)
        except InUseError as error:
            ends[name] = str(error)
        finally:
            one_is_over.set()

    monkeypatch.setattr(lease, "refuse_held", looked)
    monkeypatch.setattr(liveness, "sign", of_this_thread)
    monkeypatch.setattr(lease, "time", SimpleNamespace(sleep=settle, monotonic=lambda: 0.0))
    threads = [threading.Thread(target=begin, name=name) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends["second"] == "held"
    assert "another run began in it at the same time" in ends["first"]


@pytest.mark.parametrize(
    ("takes", "looks", "settles"),
    [((0.01,), 1, 0.5), ((3.0, 0.01), 2, 0.5), ((1.0, 1.0, 1.0), 3, 2.0)],
    ids=["fast", "a stall", "far away"],
)
def test_a_look_that_took_long_is_not_relied_on_and_a_slow_store_is_given_time(
    takes: tuple[float, ...], looks: int, settles: float,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Another may have begun since the answer was given, or may be as slow."""
    now, count, slept = 0.0, 0, []

    def look(*_: str) -> None:
        nonlocal now, count
        now, count = now + takes[count], count + 1

    clock = SimpleNamespace(monotonic=lambda: now, sleep=slept.append)
    monkeypatch.setattr(lease, "refuse_held", look)
    monkeypatch.setattr(lease, "time", clock)
    with lease.held(str(tmp_path / "run"), "output"):
        pass
    assert (count, slept) == (looks, [settles])


def test_a_folder_that_is_taken_meanwhile_is_not_told_to_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: str) -> None:
        (tmp_path / lease.SIGN).write_bytes(liveness.sign())
        raise StorageError("it already holds files; remove it")

    lease.refuse_taken(str(tmp_path), "output")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="already holds files"):
        lease.refuse_taken(str(tmp_path), "output")
    monkeypatch.setattr(publishing, "refuse_used", taken)
    with pytest.raises(InUseError, match="another run is at work in it"):
        lease.refuse_taken(str(tmp_path), "output")


def test_a_sign_that_became_another_runs_is_left_to_it(tmp_path: Path) -> None:
    with lease.held(str(tmp_path), "output"):
        (tmp_path / lease.SIGN).write_bytes(b"theirs")
    assert (tmp_path / lease.SIGN).read_bytes() == b"theirs"


def test_a_run_that_was_killed_is_not_in_the_way(tmp_path: Path) -> None:
    held = f"with lease.held({str(tmp_path)!r}, 'output'): os._exit(9)"
    program = f"import os; from cluster import lease\n{held}"
    subprocess.run([sys.executable, "-c", program], check=False, cwd=os.getcwd())
    assert [path.name for path in tmp_path.iterdir()] == [lease.SIGN]
    with lease.held(str(tmp_path), "output"):
        pass


def test_a_run_on_another_host_counts_as_alive_until_its_sign_is_old(tmp_path: Path) -> None:
    sign = json.loads(liveness.sign()) | {"host": "elsewhere"}
    place = tmp_path / lease.SIGN
    place.write_text(json.dumps(sign))
    with pytest.raises(InUseError, match="wait 90 s"), lease.held(str(tmp_path), "output"):
        pass
    long_ago = place.stat().st_mtime - liveness.DEAD_AFTER_S - 1
    os.utime(place, (long_ago, long_ago))
    with lease.held(str(tmp_path), "output"):
        pass
