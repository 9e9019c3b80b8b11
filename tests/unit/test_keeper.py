"""What takes the place of the model that answers, when, and what is said of one that cannot."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import BundleError, SettingError, StorageError
from cluster.registry import CHAMPION, Registry
from serve import keeper as keeping
from serve.keeper import Keeper
from serve.keyring import Keyring, hash_key
from serve.models import Loaded, load, version_of
from serve.schema import Update
from serve.settings import Live, Registered

POLL = Registered(poll_s=0.02)


class Shelf:
    """Where the keeper puts what it loaded."""

    def __init__(self) -> None:
        self.update: Update | None = None
        self.put_there: list[Loaded] = []

    def put(self, loaded: Loaded) -> None:
        self.put_there.append(loaded)

    @property
    def versions(self) -> list[str]:
        return [loaded.version for loaded in self.put_there]


class Loader:
    """Loads for real; counts, and waits where the test wants it to."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, uri: str, name: str, version: str | None) -> Loaded:
        self.tried.append(uri)
        assert self.gate.wait(30)
        return load(uri, name, precision="fp32", threads=1, version=version)


def until(condition: Callable[[], Any]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "it did not come about within 30 s"
        time.sleep(0.005)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def ring() -> Keyring:
    return Keyring(())


@pytest.fixture
def keeper(
    shelf: Shelf, loader: Loader, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Keeper]:
    monkeypatch.setattr(keeping, "KEYS_POLL_S", 0.02)
    made = Keeper(loader, shelf, ring)
    yield made
    loader.gate.set()
    made.close()


@pytest.fixture
def damaged(tmp_path: Path, make_bundle: Callable[..., Path]) -> Path:
    made = make_bundle(tmp_path / "damaged")
    with (made / "model.safetensors").open("ab") as file:
        file.write(b"x")
    return made


@pytest.fixture
def registry(tmp_path: Path, tiny_bundle: Path) -> Registry:
    """Two versions of a model called tickets, the second of them champion."""
    made = Registry(str(tmp_path / "registry"))
    for before in (None, "0001"):
        version = made.publish("tickets", tiny_bundle, "bundle.json")
        made.point("tickets", CHAMPION, version, expected=before, reason="")
    return made


def of(registry: Registry) -> Live:
    return Live(registry=Registered(uri=registry.uri, poll_s=0.02), name="tickets")


def test_the_first_model_is_there_when_the_keeper_has_begun(
    keeper: Keeper, shelf: Shelf, tiny_bundle: Path
) -> None:
    keeper.begin(Live(bundle=str(tiny_bundle), name="tickets"))
    (loaded,) = shelf.put_there
    assert (loaded.name, loaded.uri) == ("tickets", str(tiny_bundle))
    assert shelf.update is None


def test_a_wish_is_loaded_in_the_background_and_then_put(
    keeper: Keeper,
    shelf: Shelf,
    loader: Loader,
    tiny_bundle: Path,
    make_bundle: Any,
    tmp_path: Path,
) -> None:
    other = make_bundle(tmp_path / "other", labels=("a", "b"))
    keeper.begin(Live(bundle=str(tiny_bundle)))
    loader.gate.clear()
    keeper.want(Live(bundle=str(other)))  # returns while the loader stands still
    until(lambda: loader.tried[-1] == str(other))
    assert len(shelf.put_there) == 1
    loader.gate.set()
    until(lambda: len(shelf.put_there) == 2)
    assert shelf.put_there[1].predictor.about.labels == ["a", "b"]


def test_of_two_wishes_the_newer_counts_however_long_the_older_takes_to_load(
    keeper: Keeper, shelf: Shelf, loader: Loader, tiny_bundle: Path, make_bundle: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    other = make_bundle(tmp_path / "other", labels=("a", "b"))
    keeper.begin(Live(bundle=str(tiny_bundle)))
    loader.gate.clear()
    keeper.want(Live(bundle=str(other)))
    until(lambda: loader.tried[-1] == str(other))
    keeper.want(Live(bundle=str(tiny_bundle), name="again"))
    loader.gate.set()
    until(lambda: len(shelf.put_there) == 2)
    assert (shelf.put_there[1].uri, shelf.put_there[1].name) == (str(tiny_bundle), "again")
    assert shelf.update is None


def test_what_fails_for_an_older_wish_is_not_said_of_the_newer(
    keeper: Keeper, shelf: Shelf, loader: Loader, tiny_bundle: Path, damaged: Path
) -> None:
    keeper.begin(Live(bundle=str(tiny_bundle)))
    loader.gate.clear()
    keeper.want(Live(bundle=str(damaged)))
    until(lambda: loader.tried[-1] == str(damaged))
    keeper.want(Live(bundle=str(tiny_bundle), name="again"))
    loader.gate.set()
    until(lambda: len(shelf.put_there) == 2)
    assert shelf.update is None


def test_other_content_under_the_same_uri_is_another_bundle(
    keeper: Keeper, shelf: Shelf, make_bundle: Any, tmp_path: Path
) -> None:
    place = make_bundle(tmp_path / "place", labels=("a", "b"))
    keeper.begin(Live(bundle=str(place)))
    first = shelf.put_there[0].version
    keeper.want(Live(bundle=str(place), bundle_version=first))
    shutil.rmtree(place)
    make_bundle(place, labels=("a", "c"))
    version = version_of((place / "bundle.json").read_bytes())
    keeper.want(Live(bundle=str(place), bundle_version=version))
    until(lambda: shelf.versions == [first, version])


def test_keys_change_at_once_also_while_a_model_is_loaded(
    keeper: Keeper, ring: Keyring, loader: Loader, tiny_bundle: Path, make_bundle: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    keeper.begin(Live(bundle=str(tiny_bundle), key_hashes=(hash_key("old"),)))
    loader.gate.clear()
    keeper.want(Live(bundle=str(make_bundle(tmp_path / "b")), key_hashes=(hash_key("new"),)))
    assert (ring.allows(b"old"), ring.allows(b"new")) == (False, True)


def test_a_panic_while_loading_leaves_the_thread_at_work(
    keeper: Keeper, shelf: Shelf, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.begin(of(registry))

    def panic(*_: object) -> Any:
        raise BaseException("as the tokenizer's Rust does")

    monkeypatch.setattr(Registry, "resolve", panic)
    until(lambda: shelf.update)
    monkeypatch.undo()
    until(lambda: shelf.update is None)
    assert keeper.is_alive


def test_without_keys_nobody_is_let_in_unless_it_is_open(
    keeper: Keeper, ring: Keyring, tiny_bundle: Path
) -> None:
    keeper.begin(Live(bundle=str(tiny_bundle)))
    assert not ring.is_open
    keeper.want(Live(bundle=str(tiny_bundle), open=True))
    assert ring.is_open


def test_a_promotion_reaches_the_replica_and_so_does_a_rollback(
    keeper: Keeper, shelf: Shelf, registry: Registry, tiny_bundle: Path
) -> None:
    keeper.begin(of(registry))
    version = registry.publish("tickets", tiny_bundle, "bundle.json")
    registry.point("tickets", CHAMPION, version, expected="0002", reason="better")
    until(lambda: shelf.versions == ["0002", "0003"])
    registry.roll_back("tickets", CHAMPION, reason="worse")
    until(lambda: shelf.versions == ["0002", "0003", "0002"])
    assert shelf.put_there[-1].uri == registry.folder("tickets", "0002")


def test_while_nothing_changes_nothing_is_loaded_again(
    keeper: Keeper, loader: Loader, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    resolve = Registry.resolve
    monkeypatch.setattr(
        Registry, "resolve", lambda self, name: (looks.append(name), resolve(self, name))[1]
    )
    keeper.begin(of(registry))
    until(lambda: len(looks) >= 5)
    assert len(loader.tried) == 1


def test_a_bad_bundle_leaves_the_good_one_and_says_why(
    keeper: Keeper, shelf: Shelf, tiny_bundle: Path, damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.begin(Live(bundle=str(tiny_bundle)))
    with caplog.at_level(logging.ERROR, logger="ray.serve"):
        keeper.want(Live(bundle=str(damaged)))
        until(lambda: shelf.update)
    assert shelf.update is not None
    assert shelf.update.wanted == str(damaged)
    assert "model.safetensors was changed" in shelf.update.problem
    assert "model.safetensors was changed" in caplog.text
    assert len(shelf.put_there) == 1
    keeper.want(Live(bundle=str(tiny_bundle)))  # the good one again: nothing is wrong any more
    until(lambda: shelf.update is None)


def test_a_bundle_that_was_mended_is_taken_at_a_later_try(
    keeper: Keeper, shelf: Shelf, tiny_bundle: Path, damaged: Path
) -> None:
    keeper.begin(Live(bundle=str(tiny_bundle), registry=POLL))
    keeper.want(Live(bundle=str(damaged), registry=POLL))
    until(lambda: shelf.update)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    until(lambda: len(shelf.put_there) == 2)
    until(lambda: shelf.update is None)


def test_a_model_without_finite_numbers_is_not_put(
    keeper: Keeper, shelf: Shelf, tiny_bundle: Path, make_bundle: Any, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from jobs.classifier import bundle

    spoilt = make_bundle(tmp_path / "spoilt")
    weights = load_file(spoilt / "model.safetensors")
    weights["classifier.bias"][0] = torch.nan
    save_file(weights, spoilt / "model.safetensors", metadata={"format": "pt"})
    bundle.amend(spoilt, {"README.md": "# spoilt\n"})
    about = (spoilt / "bundle.json").read_text()
    old = bundle._sha256(tiny_bundle / "model.safetensors")
    (spoilt / "bundle.json").write_text(
        about.replace(old, bundle._sha256(spoilt / "model.safetensors"))
    )
    keeper.begin(Live(bundle=str(tiny_bundle)))
    keeper.want(Live(bundle=str(spoilt)))
    until(lambda: shelf.update)
    assert shelf.update is not None
    assert "gives no finite numbers" in shelf.update.problem
    assert len(shelf.put_there) == 1


def test_a_new_replica_that_cannot_load_the_champion_serves_the_one_before(
    keeper: Keeper, shelf: Shelf, registry: Registry
) -> None:
    Path(registry.folder("tickets", "0002"), "model.safetensors").write_bytes(b"no")
    keeper.begin(of(registry))
    assert shelf.versions == ["0001"]
    assert shelf.update is not None
    assert shelf.update.wanted == f"the champion of tickets in {registry.uri}"
    assert "model.safetensors was changed" in shelf.update.problem


def test_a_new_replica_falls_back_to_the_bundles_of_its_config_in_their_order(
    keeper: Keeper, shelf: Shelf, tiny_bundle: Path, damaged: Path, tmp_path: Path
) -> None:
    fallbacks = (str(tmp_path / "away"), str(tiny_bundle))
    keeper.begin(Live(bundle=str(damaged), fallbacks=fallbacks))
    assert [loaded.uri for loaded in shelf.put_there] == [str(tiny_bundle)]
    assert shelf.update is not None
    assert shelf.update.wanted == str(damaged)


def test_a_new_replica_that_can_load_nothing_fails_with_the_reason_of_the_newest(
    keeper: Keeper, damaged: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"model\.safetensors was changed"):
        keeper.begin(Live(bundle=str(damaged), fallbacks=(str(tmp_path / "away"),)))
    assert not keeper.begun


def test_a_registry_that_cannot_be_read_leaves_the_model_that_answers(
    keeper: Keeper, shelf: Shelf, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.begin(of(registry))

    def away(*_: object) -> Any:
        raise StorageError("The storage is away.")

    monkeypatch.setattr(Registry, "resolve", away)
    until(lambda: shelf.update)
    assert shelf.update is not None
    assert shelf.update.problem == "The storage is away."
    monkeypatch.undo()
    until(lambda: shelf.update is None)
    assert shelf.versions == ["0002"]


def test_an_error_that_is_not_ours_is_named_and_not_quoted(
    keeper: Keeper, shelf: Shelf, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.begin(of(registry))

    def broken(*_: object) -> Any:
        raise ValueError("a text that somebody sent")

    monkeypatch.setattr(Registry, "resolve", broken)
    until(lambda: shelf.update)
    assert shelf.update is not None
    assert shelf.update.problem == "ValueError; see the log."


def test_after_failures_the_next_try_waits_longer_and_at_most_ten_minutes(
    keeper: Keeper, tiny_bundle: Path, shelf: Shelf
) -> None:
    keeper.begin(Live(bundle=str(tiny_bundle), registry=Registered(poll_s=30)))
    waits = []
    for failures in (1, 2, 3, 10):
        keeper._failures = failures
        waits.append(keeper._wait_s())
    assert waits == [60, 120, 240, 600]


def test_settings_that_cannot_be_read_are_told_and_change_nothing(
    keeper: Keeper, shelf: Shelf, tiny_bundle: Path
) -> None:
    keeper.begin(Live(bundle=str(tiny_bundle)))
    keeper.reject(SettingError("bundel is not a setting of this command."))
    assert shelf.update is not None
    assert shelf.update.problem == "bundel is not a setting of this command."
    assert len(shelf.put_there) == 1


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


def test_a_replica_without_its_file_of_keys_does_not_start(
    keeper: Keeper, tiny_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(StorageError):
        keeper.begin(Live(bundle=str(tiny_bundle), keys_watch=str(tmp_path / "away.txt")))
    assert not keeper.begun
