"""What is to be prepared, and its sources after their first pass.

Corrections of texts that no source has are one more source, and the last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cluster.errors import DataError
from jobs import feedback, keys
from jobs.corrections import Shared
from jobs.data_settings import Columns, Split
from jobs.earlier import Earlier
from jobs.feedback import Feedback, Settled
from jobs.keys import Inventory, Reading
from jobs.sources import Source
from jobs.splits import FREE, TEST

SAMPLE_ROWS = 100_000
SAMPLE_BYTES = 512 << 20  # the sample is looked at in one place
UNPACKED = 4  # bytes of text in a byte of a compressed file, roughly


@dataclass(frozen=True)
class Request:
    """What to prepare, in plain values."""

    source: Source
    test_source: Source | None
    columns: Columns
    split: Split
    renamed: Mapping[str, str]
    earlier: Earlier | None
    feedback: Feedback | None
    on_bad_file: str


@dataclass(frozen=True)
class Read:
    """A source after its first pass."""

    source: Source
    how: Reading
    found: Inventory

    def sample(self, total: int) -> list[tuple[int, int]]:
        """(rows that are fit, rows to set aside) of each chunk: SAMPLE_ROWS of `total` in all, or
        as many as hold about SAMPLE_BYTES."""
        ends = np.cumsum([0, *self.found.chunk_rows])
        each = UNPACKED * self.source.size / max(1, self.found.rows)
        most = min(SAMPLE_ROWS, SAMPLE_BYTES / max(1.0, each))
        shares = np.floor(ends * min(1.0, most / max(1, total))).astype(np.int64)
        return list(zip(self.found.chunk_rows, np.diff(shares).tolist(), strict=True))


def first_pass(request: Request, settled: Settled | None, count: int, scratch: str) -> list[Read]:
    """The keys of all rows, in `count` ranges; those of corrected texts under their new labels."""
    reads = []
    corrections = None if settled is None else Shared.put(settled.corrections)
    for asked, key, given in (
        (request.source, "source", FREE),
        (request.test_source, "test-source", TEST),
    ):
        if asked is None:
            continue
        how = replace(
            keys.reading(asked, request.columns, request.renamed, given=given),
            corrections=corrections,
        )
        if request.test_source is not None and how.columns.split is not None:
            raise DataError(
                f"--source {asked.uri} has a column {how.columns.split!r} that gives the split, "
                "and --test-source gives another. Leave out one of them (--columns.split none)."
            )
        source, found = keys.read_keys(
            asked, how, count, scratch, on_bad_file=request.on_bad_file, key=key
        )
        reads.append(Read(source, how, found))
    return reads


def add_corrections(
    request: Request, settled: Settled, reads: list[Read], count: int, scratch: str
) -> dict[str, int]:
    """Adds the corrections of texts that no source has to `reads`; what became of all of them.

    In counts: `objects`; corrections that were `read` and, for what they hold, `rejected`; `texts`
    that have a usable one; of these `changed`, of which a row got another label, and `added`.
    """
    there = np.logical_or.reduce([read.found.corrected for read in reads])
    changed = np.logical_or.reduce([read.found.changed for read in reads])
    id_type = reads[0].how.id_type
    more = feedback.added(settled, there, id_type, scratch)
    rejected, rows = settled.rejected.total(), 0
    if more is not None:
        how = feedback.reading(more, request.renamed, id_type)
        more, found = keys.read_keys(more, how, count, scratch, on_bad_file="fail", key="feedback")
        reads.append(Read(more, how, found))
        rejected, rows = rejected + found.rejected.total(), found.rows
    return {
        "objects": 0 if request.feedback is None else len(request.feedback.objects),
        "read": settled.read,
        "texts": len(settled.positions),
        "changed": int(changed.sum()),
        "added": rows,
        "rejected": rejected,
    }


def require_rows(reads: Sequence[Read]) -> None:
    """DataError where a source has no row that can be used."""
    for read, key in zip(reads, ("source", "test-source"), strict=False):
        if read.found.rows == 0:
            reasons = ", ".join(f"{n:,} × {why}" for why, n in read.found.rejected.items())
            raise DataError(
                f"--{key} {read.source.uri} holds no usable row ({reasons or 'it is empty'})."
            )
