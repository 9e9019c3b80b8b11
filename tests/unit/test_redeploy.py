"""Deploying where an endpoint runs already: what stays, and what is refused. No Ray."""

from pathlib import Path
from typing import Any

import pytest

from cluster import command, session
from cluster.errors import BundleError, SettingError
from serve import deploy, running
from serve.deploy import Deploy, live_of
from serve.models import version_of
from serve.settings import Live

OLD = Live(bundle="/runs/old/bundle", key_hashes=("aa",), fallbacks=("/runs/older/bundle",))


@pytest.fixture(autouse=True)
def serving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "serving", lambda: "/runs/serving/bundle")


def again(bundle: Path, old: Live = OLD, **values: Any) -> tuple[Live, str | None]:
    settings = command.build(Deploy, {"bundle": str(bundle)} | values)
    return live_of(settings, ({}, old.model_dump(mode="json")))


def test_another_bundle_leaves_the_keys_as_they_are(tiny_bundle: Path) -> None:
    live, made = again(tiny_bundle)
    assert (live.bundle, live.key_hashes, live.open, made) == (
        str(tiny_bundle), ("aa",), False, None,
    )  # fmt: skip


@pytest.mark.parametrize("old", [Live(bundle="/b", open=True), Live(bundle="/b", keys_watch="/k")])
def test_so_does_an_open_endpoint_and_one_that_watches_a_file(tiny_bundle: Path, old: Live) -> None:
    live, made = again(tiny_bundle, old)
    assert (live.open, live.keys_watch, made) == (old.open, old.keys_watch, None)


def test_keys_that_are_given_take_the_place_of_the_old_ones(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("sy_new\n")
    assert again(tiny_bundle, keys=str(keys))[0].key_hashes != OLD.key_hashes
    assert again(tiny_bundle, open=True)[0].open
    watching = again(tiny_bundle, keys={"watch": str(keys)})[0]
    assert (watching.keys_watch, watching.key_hashes) == (str(keys), ())


def test_what_serves_now_is_the_first_to_fall_back_to_and_three_are_kept(tiny_bundle: Path) -> None:
    old = OLD.model_copy(update={"fallbacks": ("/1", str(tiny_bundle), "/2")})
    live, _ = again(tiny_bundle, old)
    assert live.fallbacks == ("/runs/serving/bundle", "/runs/old/bundle", "/1")


def test_the_config_holds_what_the_bundle_is_and_not_only_where(tiny_bundle: Path) -> None:
    live, _ = again(tiny_bundle)
    assert live.bundle_version == version_of((tiny_bundle / "bundle.json").read_bytes())


@pytest.mark.parametrize(
    ("host", "addresses", "refused"),
    [
        ("127.0.0.1", ["10.0.0.1", "10.0.0.2"], True),
        ("localhost", ["10.0.0.1", "10.0.0.2"], True),
        ("0.0.0.0", ["10.0.0.1", "10.0.0.2"], False),
        ("127.0.0.1", ["127.0.0.1", "127.0.0.1"], False),
    ],
)
def test_loopback_is_refused_where_the_cluster_has_several_machines(
    host: str, addresses: list[str], refused: bool, tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    nodes = [{"NodeManagerAddress": address} for address in addresses]
    monkeypatch.setattr(session, "nodes", lambda: nodes)
    monkeypatch.setattr(session, "require_everywhere", lambda *_: None)
    monkeypatch.setattr(running, "listens", lambda: (host, 8000))
    settings = command.build(Deploy, {"bundle": str(tiny_bundle), "host": host})
    if refused:
        with pytest.raises(SettingError, match=r"has 2 machines.*Give --host 0\.0\.0\.0\."):
            deploy._require_places(settings, str(tiny_bundle), joined=True)
    else:
        deploy._require_places(settings, str(tiny_bundle), joined=True)


def test_a_replica_that_refused_the_bundle_fails_the_command_with_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update = {"wanted": "/new", "problem": "tokenizer.json is missing.", "at": "now"}
    state = {"uri": "/old", "version": "0a", "name": "n", "update": update}
    monkeypatch.setattr(running, "_state", lambda _: state)
    with pytest.raises(BundleError) as refused:
        running.require_model(lambda: ("/new", "0b"))
    assert str(refused.value) == (
        "/new was refused: tokenizer.json is missing. The endpoint goes on with /old (version 0a)."
    )


def test_the_same_place_with_other_content_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [{"uri": "/b", "version": version, "update": None} for version in ("old", "new")]
    monkeypatch.setattr(running, "_state", lambda _: states.pop(0))
    running.require_model(lambda: ("/b", "new"))
    assert states == []
