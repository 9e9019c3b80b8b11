"""Texts that are almost the same: how many on one side have their like on the other.

The likeness of two texts is the Jaccard index of their sets of character trigrams (Broder, On the
resemblance and containment of documents, 1997), which works in every script and needs no
tokenizer. Case and white space do not count. It knows nothing of splits or labels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jobs.classifier.text import normalise

# Lee et al. (Deduplicating training data makes language models better, 2022) draw the line here
# too, over words. A ticket of 60 characters may differ by two typing errors, a "please" or a
# greeting, not by its subject.
THRESHOLD = 0.8
# A longer text is compared by its beginning: 2,000 such texts against 20,000 took 3 s on one core.
CHARACTERS = 500

_BITS = 20  # trigrams are hashed to 2²⁰ numbers: of eight sets of 500, about one has a collision
_MASK = (1 << _BITS) - 1
_CHUNK = 1000
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
# What bounds the work where thousands of texts come from one form: of the texts that share a rare
# trigram the first 200 are candidates, and the 10 that share most of them are compared in full.
_POSTINGS = 200
_COMPARED = 10
_ROUNDING = 1e-9  # 0.8 · 35 is a little more than 28

Grams = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]


class _Sets:
    """The trigram sets of texts, flat: text k has `grams[starts[k]:starts[k + 1]]`, ascending."""

    def __init__(self, keys: Numbers, texts: int) -> None:
        self.grams = (keys & _MASK).astype(np.int32)
        self.texts = (keys >> _BITS).astype(np.int32)
        self.starts = np.searchsorted(self.texts, np.arange(texts + 1))

    def of(self, text: int) -> Grams:
        return self.grams[self.starts[text] : self.starts[text + 1]]

    def prefixes(self, threshold: float) -> npt.NDArray[np.bool_]:
        """bool [grams]: the first n - ⌈threshold · n⌉ + 1 of each text's n trigrams.

        Two sets of the likeness `threshold`, in the same order, share at least one of these
        (Bayardo, Ma, Srikant, Scaling up all pairs similarity search, 2007).
        """
        sizes = np.diff(self.starts)
        first = sizes - np.ceil(threshold * sizes - _ROUNDING).astype(np.int64) + 1
        rank = np.arange(len(self.grams)) - np.repeat(self.starts[:-1], sizes)
        return np.asarray(rank < np.repeat(first, sizes))


def near_duplicates(
    asked: Sequence[str], known: Sequence[str], threshold: float = THRESHOLD
) -> npt.NDArray[np.bool_]:
    """bool [asked]: which have a text among `known` whose likeness is `threshold` or more.

    Every pair found is one; a few can be missed where very many texts share their rarest
    trigrams, so that a share reckoned from this is a lower bound.
    """
    mine, theirs = _sets(asked, known)
    rare = theirs.prefixes(threshold)
    order = np.argsort(theirs.grams[rare], kind="stable")
    holders = theirs.texts[rare][order]
    begins = np.searchsorted(theirs.grams[rare][order], np.arange(_MASK + 2))
    sought = mine.prefixes(threshold)
    found = np.zeros(len(asked), dtype=np.bool_)
    for text in range(len(asked)):
        own = mine.of(text)
        prefix = own[sought[mine.starts[text] : mine.starts[text + 1]]]
        if not len(prefix):
            continue
        ends = np.minimum(begins[prefix + 1], begins[prefix] + _POSTINGS)
        postings = [holders[i:j] for i, j in zip(begins[prefix], ends, strict=True)]
        candidates, shared = np.unique(np.concatenate(postings), return_counts=True)
        best = candidates[np.argsort(-shared, kind="stable")[:_COMPARED]]
        found[text] = any(_alike(own, theirs.of(k), threshold) for k in best.tolist())
    return found


def _sets(asked: Sequence[str], known: Sequence[str]) -> tuple[_Sets, _Sets]:
    """The sets of both sides, with trigrams numbered from the rarest to the most frequent."""
    keys = [_keys(texts) for texts in (asked, known)]
    frequency = sum(np.bincount(side & _MASK, minlength=_MASK + 1) for side in keys)
    number = np.empty(_MASK + 1, dtype=np.int64)
    number[np.argsort(frequency, kind="stable")] = np.arange(_MASK + 1)
    for side in keys:
        side[:] = (side & ~_MASK) | number[side & _MASK]
        side.sort()
    return _Sets(keys[0], len(asked)), _Sets(keys[1], len(known))


def _keys(texts: Sequence[str]) -> Numbers:
    """int64, ascending, each once: the number of the text above `_BITS` bits of a trigram."""
    parts = [np.zeros(0, np.int64)]
    for first in range(0, len(texts), _CHUNK):
        clean = [f" {normalise(t[:CHARACTERS]).casefold()} " for t in texts[first : first + _CHUNK]]
        joined = "".join(clean).encode("utf-32-le", "surrogatepass")
        codes = np.frombuffer(joined, dtype="<u4").astype(np.uint64)
        lengths = [len(text) for text in clean]
        owners = np.repeat(np.arange(first, first + len(clean)), lengths)
        mixed = codes[:-2] * _FACTORS[0] + codes[1:-1] * _FACTORS[1] + codes[2:] * _FACTORS[2]
        grams = ((mixed * _FACTORS[0]) >> np.uint64(64 - _BITS)).astype(np.int64)
        within = owners[:-2] == owners[2:]
        keys = np.sort((owners[:-2][within] << _BITS) | grams[within])
        parts.append(keys[np.diff(keys, prepend=-1) > 0])  # np.unique takes six times as long
    return np.concatenate(parts)


def _alike(one: Grams, other: Grams, threshold: float) -> bool:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common >= threshold * (len(one) + len(other) - common) - _ROUNDING
