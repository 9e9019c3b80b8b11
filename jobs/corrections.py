"""Corrections as numbers: the newest label of each corrected text, and rows under it.

A corrected text is one text like any other: all its rows have the one corrected label, which
settles conflicts about it, and its side is what the split says of such a text, or the one where it
stood under `split.like`. So corrections get into validation and test by no other way, and there
they judge like all rows: they are truths, if harder ones than most, since somebody minded them.
Knows nothing of where corrections come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs import splits
from jobs.classifier.text import Hashes
from jobs.records import Parsed


@dataclass(frozen=True)
class Corrections:
    """The newest correction of each text: 13 bytes a text, in every task that reads rows.

    `ids` uint64 [texts]: sorted. `codes` int32 [texts]: positions in `names`, where labels stand
    under their new names. `reasons` int8 [texts]: FIT, or DROPPED_LABEL for labels that the label
    map drops.
    """

    ids: Hashes
    codes: npt.NDArray[np.int32]
    reasons: npt.NDArray[np.int8]
    names: tuple[str, ...]

    def apply(self, parsed: Parsed, ids: Hashes) -> tuple[Parsed, splits.Ints, splits.Mask]:
        """The rows under their corrected labels, also those that came without a usable one.

        `ids` uint64 [rows]. Also, for each row whose text is corrected, the position of its
        correction, and whether that changed anything about the row.
        """
        at = splits.place_of(ids, self.ids)
        at[~parsed.has_text] = -1
        rows = np.flatnonzero(at >= 0)
        at = at[rows]
        if len(rows) == 0:
            return parsed, at, np.zeros(0, np.bool_)
        numbers = {name: k for k, name in enumerate(parsed.labels.dictionary.to_pylist())}
        used, which = np.unique(self.codes[at], return_inverse=True)
        places = [numbers.setdefault(self.names[code], len(numbers)) for code in used]
        corrected = np.array(places, np.int32)[which]
        missing = parsed.labels.indices.is_null().to_numpy(zero_copy_only=False).copy()
        codes = parsed.labels.indices.fill_null(0).to_numpy().copy()
        reasons = parsed.reasons.copy()
        same = ~missing[rows] & (codes[rows] == corrected) & (reasons[rows] == self.reasons[at])
        missing[rows], codes[rows], reasons[rows] = False, corrected, self.reasons[at]
        labels = pa.DictionaryArray.from_arrays(
            pa.array(codes, mask=missing), pa.array([*numbers], pa.string())
        )
        return replace(parsed, labels=labels, reasons=reasons), at, ~same


@dataclass(frozen=True)
class Shared:
    """Corrections in Ray's object store, for tasks to take."""

    texts: int
    _reference: Any

    @classmethod
    def put(cls, corrections: Corrections) -> "Shared":
        import ray

        return cls(len(corrections.ids), ray.put(corrections))

    def get(self) -> Corrections:
        import ray

        found: Corrections = ray.get(self._reference)
        return found


def newest(ids: Hashes, times: splits.Ints) -> splits.Ints:
    """int64 [texts]: the position of the newest record of each text, by id; of equal times the
    last."""
    order = np.lexsort((times, ids))  # stable: records of one time keep their order
    ends = np.ones(len(ids), np.bool_)
    ends[:-1] = ids[order][1:] != ids[order][:-1]
    return np.asarray(order[ends], np.int64)


def settle(
    ids: Hashes,
    times: splits.Ints,
    codes: npt.NDArray[np.int32],
    reasons: npt.NDArray[np.int8],
    names: Sequence[str],
) -> tuple[Corrections, splits.Ints]:
    """The newest corrections, out of all in the order of object and line; and their positions."""
    at = newest(ids, times)
    return Corrections(ids[at], codes[at], reasons[at], tuple(names)), at
