"""The identity of a text: what counts as the same text, and the numbers that stand for it.

Identity alone is normalised: the tokenizer sees every text as it was written, so that a plain
transformers pipeline on the same bundle sees the same tokens.
"""

import hashlib
import unicodedata
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


def normalise(text: str) -> str:
    """NFC, with every run of white space folded into one blank and none at the ends."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def text_ids(texts: Iterable[str]) -> Hashes:
    """The first 8 bytes of BLAKE2b of each normalised text, as unsigned 64-bit integers.

    Two different texts among n share an id with a probability of about n² / 2⁶⁵: 3e-6 for ten
    million texts.
    """
    return hashes(normalise(text).encode("utf-8", "surrogatepass") for text in texts)


def hashes(normalised: Iterable[bytes]) -> Hashes:
    """The ids of texts that are in their normal form already, in UTF-8."""
    digests = b"".join([hashlib.blake2b(text, digest_size=8).digest() for text in normalised])
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def salted(ids: Hashes, salt: int) -> Hashes:
    """A seeded permutation of the 64-bit integers (the finaliser of SplitMix64).

    It is a bijection, so that different ids never tie, and its bits are as good as random: the
    order that it gives is the order in which texts are drawn.
    Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
    """
    start = _hash64(f"switchyard split {salt}")
    with np.errstate(over="ignore"):
        z = ids.astype(np.uint64) ^ np.uint64(start)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def _hash64(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return int(hashes([data])[0])
