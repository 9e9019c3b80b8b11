"""The keys of a running replica: from its config, or from a file that is read again."""

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cluster import storage
from cluster.errors import StorageError
from serve.keeper import Keeper
from serve.keyring import Keyring, hash_key
from serve.settings import Live
from tests.unit.keeping import Loader, until


def test_keys_change_at_once_also_while_a_model_is_loaded(
    keeper: Keeper, ring: Keyring, loader: Loader, tiny_bundle: Path, make_bundle: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    keeper.begin(Live(bundle=str(tiny_bundle), key_hashes=(hash_key("old"),)))
    loader.gate.clear()
    keeper.want(Live(bundle=str(make_bundle(tmp_path / "b")), key_hashes=(hash_key("new"),)))
    assert (ring.allows(b"old"), ring.allows(b"new")) == (False, True)


def test_without_keys_nobody_is_let_in_unless_it_is_open(
    keeper: Keeper, ring: Keyring, tiny_bundle: Path
) -> None:
    keeper.begin(Live(bundle=str(tiny_bundle)))
    assert not ring.is_open
    keeper.want(Live(bundle=str(tiny_bundle), open=True))
    assert ring.is_open


def test_keys_of_the_config_change_with_it(
    keeper: Keeper, ring: Keyring, tiny_bundle: Path
) -> None:
    keeper.begin(Live(bundle=str(tiny_bundle), key_hashes=(hash_key("old"),)))
    assert ring.allows(b"old")
    keeper.want(Live(bundle=str(tiny_bundle), key_hashes=(hash_key("new"),)))
    until(lambda: ring.allows(b"new"))
    assert not ring.allows(b"old")


def test_a_watched_file_of_keys_is_read_again_and_never_opens_the_door(
    keeper: Keeper, ring: Keyring, tiny_bundle: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    keys = tmp_path / "keys.txt"
    keys.write_text("old\nboth\n")
    keeper.begin(Live(bundle=str(tiny_bundle), keys_watch=str(keys)))
    assert (ring.allows(b"old"), ring.is_open) == (True, False)
    keys.write_text(f"sha256:{hash_key('new')}\nboth\n")
    until(lambda: ring.allows(b"new"))
    assert (ring.allows(b"old"), ring.allows(b"both")) == (False, True)
    for broken in ("", "# nobody\n"):
        keys.write_text(broken)
        caplog.clear()
        until(lambda: "The keys stay as they were" in caplog.text)
        assert (ring.allows(b"new"), ring.is_open) == (True, False)
    keys.unlink()
    caplog.clear()
    until(lambda: "The keys stay as they were" in caplog.text)
    assert (ring.allows(b"new"), ring.is_open) == (True, False)


def test_keys_that_were_taken_back_do_not_return_with_a_file_that_was_read_slowly(
    keeper: Keeper, ring: Keyring, tiny_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    watched = tmp_path / "keys.txt"
    watched.write_text("old\n")
    keeper.begin(Live(bundle=str(tiny_bundle), keys_watch=str(watched)))
    files = {"slow": (Event(), Event()), "next": (Event(), Event())}  # (is read, was read)

    def read(uri: str) -> bytes:
        began, over = files[Path(uri).name]
        began.set()
        assert over.wait(30)
        return b"old\n"

    monkeypatch.setattr(storage, "read_bytes", read)
    keeper.want(Live(bundle=str(tiny_bundle), keys_watch=str(tmp_path / "slow")))
    assert files["slow"][0].wait(30)
    keeper.want(Live(bundle=str(tiny_bundle), key_hashes=(hash_key("new"),)))
    files["slow"][1].set()
    # Once the next is read the slow one is done with.
    keeper.want(Live(bundle=str(tiny_bundle), keys_watch=str(tmp_path / "next")))
    assert files["next"][0].wait(30)
    try:
        assert (ring.allows(b"old"), ring.allows(b"new")) == (False, True)
    finally:
        files["next"][1].set()


def test_a_replica_without_its_file_of_keys_does_not_start(
    keeper: Keeper, tiny_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(StorageError):
        keeper.begin(Live(bundle=str(tiny_bundle), keys_watch=str(tmp_path / "away.txt")))
    assert not keeper.begun
