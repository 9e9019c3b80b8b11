"""The registry on a local folder: numbers, aliases, processes at once, and processes that die."""

import signal
import time
from pathlib import Path

import pytest

from cluster import claims, conditional
from cluster.errors import ChangedError, SettingError, StorageError
from cluster.registry import CHAMPION, Registry, check_name
from tests.unit import registering
from tests.unit.registering import COMMIT, folder_of, run


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


def publish(registry: Registry, path: Path, name: str = "router") -> str:
    return registry.publish(name, folder_of(path, path.name), COMMIT)


def promote(registry: Registry, path: Path) -> str:
    before = registry.aliases("router").get(CHAMPION)
    version = publish(registry, path)
    registry.point("router", CHAMPION, version, expected=before, reason=f"after {before}")
    return version


def test_versions_are_numbered_per_name_and_hold_what_was_published(
    registry: Registry, tmp_path: Path
) -> None:
    assert registry.names() == []
    assert registry.versions("router") == []
    assert [publish(registry, tmp_path / name) for name in ("a", "b")] == ["0001", "0002"]
    assert publish(registry, tmp_path / "c", "other.Model-2") == "0001"
    assert registry.names() == ["other.Model-2", "router"]
    assert registry.versions("router") == ["0001", "0002"]
    place = Path(registry.folder("router", "0002"))
    assert place == tmp_path / "registry" / "router" / "versions" / "0002"
    assert sorted(p.name for p in place.iterdir()) == [COMMIT, "weights"]
    assert (place / COMMIT).read_text() == "b"


def test_a_new_version_is_meant_by_no_alias_until_one_is_pointed_at_it(
    registry: Registry, tmp_path: Path
) -> None:
    publish(registry, tmp_path / "a")
    assert registry.aliases("router") == {}
    with pytest.raises(StorageError, match="has no champion of router"):
        registry.resolve("router")
    registry.point("router", CHAMPION, "0001", expected=None, reason="the first")
    registry.point("router", "trial", "0001", expected=None, reason="to look at")
    assert registry.aliases("router") == {"champion": "0001", "trial": "0001"}
    assert registry.resolve("router") == ("0001", registry.folder("router", "0001"))
    said = [(e["alias"], e["version"], e["was"], e["reason"]) for e in registry.history("router")]
    assert said == [
        ("champion", "0001", None, "the first"), ("trial", "0001", None, "to look at")
    ]  # fmt: skip


def test_a_name_that_is_not_there_is_told_beside_those_that_are(
    registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=r"has no router \(empty\)"):
        registry.resolve("router")
    publish(registry, tmp_path / "a", "desk")
    with pytest.raises(StorageError, match=r"has no router \(it has desk\)"):
        registry.resolve("router")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "_uses", "-a", "a b", "ü", "a" * 101, "a\n"]
)
def test_a_name_that_is_no_plain_folder_name_is_refused(name: str, registry: Registry) -> None:
    with pytest.raises(SettingError, match="is not allowed: at most 100 letters"):
        registry.aliases(name)


@pytest.mark.parametrize("name", ["a", "Router-2", "desk_eu.v1", "0", "a" * 100])
def test_letters_digits_dots_dashes_and_underscores_make_a_name(name: str) -> None:
    assert check_name(name) == name


def test_an_alias_changes_only_from_what_the_writer_believed_it_to_be(
    registry: Registry, tmp_path: Path
) -> None:
    for name in "abc":
        publish(registry, tmp_path / name)
    registry.point("router", CHAMPION, "0001", expected=None, reason="")
    registry.point("router", CHAMPION, "0002", expected="0001", reason="")
    for expected in (None, "0001", "0003"):
        with pytest.raises(ChangedError, match="is version 0002 now and no longer"):
            registry.point("router", CHAMPION, "0003", expected=expected, reason="late")
    assert registry.aliases("router") == {"champion": "0002"}
    assert len(registry.history("router")) == 2


@pytest.mark.parametrize("version", ["0002", "0000", "x", ""])
def test_an_alias_is_never_pointed_at_what_is_not_a_whole_version(
    version: str, registry: Registry, tmp_path: Path
) -> None:
    publish(registry, tmp_path / "a")
    claims.claim(f"{registry.uri}/router/claims", {"commit": COMMIT})  # and then it died
    with pytest.raises(StorageError, match="has no version"):
        registry.point("router", CHAMPION, version, expected=None, reason="")
    assert registry.versions("router") == ["0001"]
    assert registry.aliases("router") == {}


def test_a_folder_without_its_commit_file_is_not_registered(
    registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=r"has no other\.json"):
        registry.publish("router", folder_of(tmp_path / "a", "a"), "other.json")
    assert registry.names() == []


def test_rolling_back_goes_one_back_each_time_and_not_to_what_was_rolled_back(
    registry: Registry, tmp_path: Path
) -> None:
    for name in "abc":
        promote(registry, tmp_path / name)
    assert registry.roll_back("router", CHAMPION, reason="bad") == ("0003", "0002")
    assert registry.roll_back("router", CHAMPION, reason="bad") == ("0002", "0001")
    with pytest.raises(StorageError, match="is version 0001, and there is none before it"):
        registry.roll_back("router", CHAMPION, reason="bad")
    assert registry.resolve("router")[0] == "0001"
    assert promote(registry, tmp_path / "d") == "0004"
    assert registry.roll_back("router", CHAMPION, reason="bad") == ("0004", "0001")
    assert registry.versions("router") == ["0001", "0002", "0003", "0004"]
    assert [entry["rolled_back"] for entry in registry.history("router")] == [
        False, False, False, True, True, False, True
    ]  # fmt: skip


def test_there_is_nothing_to_roll_back_where_nothing_was_promoted(registry: Registry) -> None:
    with pytest.raises(StorageError, match="has no router"):
        registry.roll_back("router", CHAMPION, reason="")


def test_a_version_that_was_taken_away_is_not_rolled_back_to(
    registry: Registry, tmp_path: Path
) -> None:
    for name in "ab":
        promote(registry, tmp_path / name)
    Path(registry.folder("router", "0001"), COMMIT).unlink()
    with pytest.raises(StorageError, match="has no version 0001 of router"):
        registry.roll_back("router", CHAMPION, reason="")
    assert registry.resolve("router")[0] == "0002"


# Several at once.


def test_of_promotions_at_once_none_is_lost_and_one_wins(tmp_path: Path) -> None:
    registering.check_promotions_at_once(str(tmp_path / "registry"), tmp_path, 3, 4)


def test_uses_at_once_are_all_counted(registry: Registry) -> None:
    with registering.crew(4) as at_once:
        found = at_once(registering.use, [(registry.uri, 10)] * 4)
    assert sorted(n for numbers in found for n in numbers) == list(range(1, 41))
    assert all(numbers == sorted(numbers) for numbers in found)
    assert registry.uses("0123abcd") == 40
    assert registry.uses("4567ef") == 0
    assert registry.names() == []


def test_two_aliases_that_change_at_once_are_both_changed(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(registry, tmp_path / "a")
    put, between = conditional.put, [True]

    def late(uri: str, data: bytes, was: conditional.Seen | None) -> bool:
        if uri.endswith("aliases.json") and between:
            between.clear()
            registry.point("router", "trial", "0001", expected=None, reason="meanwhile")
        return put(uri, data, was)

    monkeypatch.setattr(conditional, "put", late)
    registry.point("router", CHAMPION, "0001", expected=None, reason="")
    assert registry.aliases("router") == {"champion": "0001", "trial": "0001"}
    assert [entry["alias"] for entry in registry.history("router")] == ["trial", "champion"]


def test_a_change_whose_answer_got_lost_is_not_made_twice_nor_denied(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        publish(registry, tmp_path / name)
    put, lost = conditional.put, [True]

    def silent(uri: str, data: bytes, was: conditional.Seen | None) -> bool:
        written = put(uri, data, was)
        if uri.endswith("aliases.json") and lost:
            lost.clear()
            registry.point("router", CHAMPION, "0002", expected="0001", reason="meanwhile")
            return False
        return written

    monkeypatch.setattr(conditional, "put", silent)
    registry.point("router", CHAMPION, "0001", expected=None, reason="")
    assert registry.aliases("router") == {"champion": "0002"}
    assert [entry["version"] for entry in registry.history("router")] == ["0001", "0002"]


# Writers that die.

_DIES = """
import os, shutil, signal, sys
from pathlib import Path
from cluster.registry import Registry

def half(source, target, **_):
    shutil.copy(Path(source) / "bundle.json", target)
    os.kill(os.getpid(), signal.SIGKILL)

shutil.copytree = half
Registry(sys.argv[1]).publish("router", Path(sys.argv[2]), "bundle.json")
"""

_HOLDS = """
import sys, time
from pathlib import Path
from cluster import conditional

with conditional._locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_promotion_killed_while_it_copies_is_never_seen_and_blocks_nobody(
    registry: Registry, tmp_path: Path
) -> None:
    promote(registry, tmp_path / "a")
    folder_of(tmp_path / "b", "b")
    killed = run(_DIES, registry.uri, str(tmp_path / "b"))
    assert killed.wait(60) == -signal.SIGKILL
    versions = Path(registry.uri, "router", "versions")
    assert [p.name for p in versions.iterdir() if p.name.endswith(".partial")]
    assert registry.versions("router") == ["0001"]
    assert registry.resolve("router")[0] == "0001"
    assert promote(registry, tmp_path / "c") == "0003"
    assert registry.resolve("router")[0] == "0003"
    assert sorted(p.name for p in versions.iterdir()) == ["0001", "0003"], "nothing is left of it"


def test_the_lock_of_a_killed_writer_is_free_at_once(tmp_path: Path) -> None:
    holder = run(_HOLDS, str(tmp_path))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(conditional, "LOCK_LIMIT_S", 0.05)
        with pytest.raises(StorageError, match="has been locked by another process"):
            conditional.put(str(tmp_path / "a.json"), b"1", None)
    holder.kill()
    holder.wait(60)
    begun = time.monotonic()
    assert conditional.put(str(tmp_path / "a.json"), b"1", None)
    assert time.monotonic() - begun < 5


# Files that are written only if nobody else did.


def test_a_file_is_written_only_over_what_the_writer_saw(tmp_path: Path) -> None:
    uri = str(tmp_path / "new" / "a.json")
    assert conditional.read(uri) is None
    assert conditional.put(uri, b"1", None)
    assert not conditional.put(uri, b"2", None)
    seen = conditional.read(uri)
    assert conditional.put(uri, b"3", seen)
    assert not conditional.put(uri, b"4", seen)
    found = conditional.read(uri)
    assert found is not None
    assert found.data == b"3"


def test_a_put_whose_answer_got_lost_is_known_by_its_bytes(tmp_path: Path) -> None:
    uri = str(tmp_path / "a.json")
    seen = conditional.read(uri)
    assert conditional.put(uri, b"mine", seen)
    assert conditional.put(uri, b"mine", seen), "the same writer asks again"


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be locked and written"):
        conditional.put(str(tmp_path / "file" / "a.json"), b"1", None)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (None, {"access_key_id": "one", "secret_access_key": "two%"}),
        (
            "work",
            {"access_key_id": "three", "secret_access_key": "four", "session_token": "five"},
        ),
        ("roles", {}),
        ("none", {}),
    ],
)
def test_keys_come_from_the_chosen_profile_as_they_do_for_pyarrow(
    profile: str | None,
    expected: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id = one\naws_secret_access_key = two%\n"
        "[work]\naws_access_key_id = three\naws_secret_access_key = four\n"
        "aws_session_token = five\n[roles]\nrole_arn = arn:aws:iam::1:role/a\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_DEFAULT_PROFILE", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    if profile is not None:
        monkeypatch.setenv("AWS_PROFILE", profile)
    assert conditional._profile_keys() == expected
