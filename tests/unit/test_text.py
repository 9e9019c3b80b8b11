"""The identity of a text and the seeded permutation of identities."""

import hashlib
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.classifier.text import normalise, salted, text_ids
from tests.unit.memory import STEADY

WORD = 2**64


@pytest.mark.parametrize(
    ("written", "identity"),
    [
        ("vpn is down", "vpn is down"),
        ("  vpn\t is\r\n\n down ", "vpn is down"),
        ("vpn\u00a0is\u3000down\u2028", "vpn is down"),
        ("cafe\u0301", "caf\u00e9"),
        ("VPN is down!", "VPN is down!"),
        (" \n ", ""),
    ],
)
def test_identity_folds_white_space_and_composes_and_changes_nothing_else(
    written: str, identity: str
) -> None:
    assert normalise(written) == identity


@STEADY
@given(st.text())
def test_the_identity_of_an_identity_is_itself(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)


def test_texts_of_one_identity_share_an_id_and_others_do_not() -> None:
    same = text_ids(["cafe\u0301  closed", "caf\u00e9 closed\n", " caf\u00e9\tclosed"])
    assert len(set(same.tolist())) == 1
    other = text_ids(["caf\u00e9 closed", "Caf\u00e9 closed", "cafe closed", "caf\u00e9closed", ""])
    assert len(set(other.tolist())) == 5
    assert same[0] == other[0]


def test_ids_never_change_since_prepared_data_holds_them() -> None:
    found = text_ids(["vpn is down", "支付 失败"])
    assert found.dtype == np.uint64
    expected = [
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        for text in ("vpn is down", "支付 失败")
    ]
    assert found.tolist() == expected
    assert found.tolist() == [12975833571515508127, 14484235124548449581]


def test_no_texts_have_no_ids_and_broken_surrogates_have_one() -> None:
    assert text_ids([]).dtype == np.uint64
    assert text_ids([]).shape == (0,)
    broken = text_ids(["a\ud800b", "a\udc00b"])
    assert broken[0] != broken[1]


def start_of(salt: int) -> int:
    digest = hashlib.blake2b(f"switchyard split {salt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def test_the_permutation_is_the_published_finaliser_of_splitmix64() -> None:
    # The first three numbers of SplitMix64 from the state 0.
    states = [(k * 0x9E3779B97F4A7C15) % WORD for k in (1, 2, 3)]
    ids = np.array([state ^ start_of(5) for state in states], dtype=np.uint64)
    assert salted(ids, 5).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def unshift(value: int, bits: int) -> int:
    found = value
    for _ in range(64 // bits + 1):
        found = value ^ (found >> bits)
    return found


def unsalted(value: int, salt: int) -> int:
    z = unshift(value, 31) * pow(0x94D049BB133111EB, -1, WORD) % WORD
    z = unshift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, WORD) % WORD
    return unshift(z, 30) ^ start_of(salt)


@STEADY
@given(st.lists(st.integers(0, WORD - 1), min_size=1), st.integers(0, 2**31))
def test_no_two_ids_tie_since_the_permutation_can_be_undone(ids: list[int], salt: int) -> None:
    found = salted(np.array(ids, dtype=np.uint64), salt)
    assert [unsalted(int(value), salt) for value in found] == ids


def test_another_salt_gives_another_order() -> None:
    ids = text_ids(str(number) for number in range(1000))
    first, second = np.argsort(salted(ids, 0)), np.argsort(salted(ids, 1))
    assert (first != second).mean() > 0.98
    # Neighbours in one order are strangers in the other.
    assert abs(np.corrcoef(salted(ids, 0), salted(ids, 1))[0, 1]) < 0.1
