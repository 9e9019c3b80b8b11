"""The keys that are let in, kept as hashes, several at once. Knows nothing of HTTP."""

import hashlib
import hmac
import re
from collections.abc import Sequence

from cluster.errors import SettingError

_HASHED = re.compile(r"sha256:([0-9a-f]{64})")


def hash_key(key: str) -> str:
    """What is kept of a key: its SHA-256. A key is random and long, so that no salt is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(text: str, place: str) -> tuple[str, ...]:
    """The hashes of the keys in a file: one a line, plain or as `sha256:HEX`; `#` is a remark.

    SettingError, which names `place` and never a key, if there is none.
    """
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise SettingError(f"{place} holds no key; write one a line.")
    return tuple(_hash_of(key, number, place) for number, key in enumerate(keys, 1))


def _hash_of(key: str, number: int, place: str) -> str:
    if not key.startswith("sha256:"):
        return hash_key(key)
    found = _HASHED.fullmatch(key.lower())
    if found is None:
        raise SettingError(
            f"{place}: key {number} begins with sha256: and is not 64 hexadecimal digits after it."
        )
    return found[1]


class Keyring:
    """Which keys are let in; another set may take its place at any time, from any thread."""

    def __init__(self, hashes: Sequence[str] | None) -> None:
        """None lets everybody in, without a key; an empty sequence lets nobody in."""
        self._hashes = _encoded(hashes)
        self.is_known = True

    @classmethod
    def unknown(cls) -> "Keyring":
        """One that lets nobody in until it is told whom, and that can say so."""
        made = cls(())
        made.is_known = False
        return made

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in."""
        return self._hashes is None

    def replace(self, hashes: Sequence[str] | None) -> None:
        """The next request is asked for one of these; one assignment, so no request sees half."""
        self._hashes = _encoded(hashes)
        self.is_known = True

    def allows(self, key: bytes) -> bool:
        """Whether this key is let in.

        All hashes are compared, each in constant time, so that the time taken does not tell which
        one was near.
        """
        hashes = self._hashes
        if hashes is None:
            return True
        seen = hashlib.sha256(key).hexdigest().encode()
        matches = [hmac.compare_digest(seen, known) for known in hashes]
        return any(matches)


def _encoded(hashes: Sequence[str] | None) -> tuple[bytes, ...] | None:
    return None if hashes is None else tuple(known.encode() for known in hashes)
