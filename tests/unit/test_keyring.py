"""The keys that are let in, and the files they are read from."""

import hashlib

import pytest

from cluster.errors import SettingError
from serve.keyring import Keyring, hash_key, read_keys


def test_a_key_is_kept_as_its_sha256() -> None:
    assert hash_key("sy_ä") == hashlib.sha256("sy_ä".encode()).hexdigest()


def test_a_file_holds_plain_keys_and_hashes_and_remarks() -> None:
    hashed = hash_key("sy_second")
    text = f"\ufeff# of the help desk\nsy_first\r\n\n  sha256:{hashed.upper()} \n # of nobody\n"
    assert read_keys(text, "keys.txt") == (hash_key("sy_first"), hashed)


@pytest.mark.parametrize("text", ["", "\n \n", "# none yet\n"])
def test_a_file_without_a_key_is_refused_by_its_place(text: str) -> None:
    with pytest.raises(SettingError, match=r"^keys\.txt holds no key; write one a line\.$"):
        read_keys(text, "keys.txt")


@pytest.mark.parametrize("wrong", ["sha256:", "sha256:abc", "sha256:" + "g" * 64])
def test_a_broken_hash_is_refused_by_its_number_and_not_taken_for_a_key(wrong: str) -> None:
    with pytest.raises(SettingError, match=r"keys\.txt: key 2 begins with sha256:") as refused:
        read_keys(f"sy_first\n{wrong}\n", "keys.txt")
    assert "sy_first" not in str(refused.value)


def test_several_keys_are_valid_at_once_and_others_may_take_their_place() -> None:
    ring = Keyring([hash_key("old"), hash_key("new")])
    assert (ring.allows(b"old"), ring.allows(b"new"), ring.allows(b"other")) == (True, True, False)
    ring.replace([hash_key("new")])
    assert (ring.allows(b"old"), ring.allows(b"new")) == (False, True)


def test_no_keys_let_nobody_in_and_only_none_lets_everybody_in() -> None:
    assert Keyring(None).is_open
    assert Keyring(None).allows(b"anything")
    assert not Keyring(()).is_open
    assert not Keyring(()).allows(b"")


def test_a_ring_that_was_told_nothing_yet_lets_nobody_in_and_says_so() -> None:
    ring = Keyring.unknown()
    assert (ring.is_known, ring.is_open, ring.allows(b"new")) == (False, False, False)
    ring.replace([hash_key("new")])
    assert (ring.is_known, ring.allows(b"new")) == (True, True)
