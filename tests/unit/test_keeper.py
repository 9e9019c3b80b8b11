"""What takes the place of the model that answers, when, and what is said of one that cannot."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import BundleError, SettingError, StorageError
from cluster.registry import CHAMPION, Registry
from serve.keeper import Keeper
from serve.models import version_of
from serve.settings import Live, Registered
from tests.unit.keeping import Loader, Shelf, until

POLL = Registered(poll_s=0.02)


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
    assert loader.before == [None, shelf.put_there[0]], "what it may take over from"


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
