"""From raw records to prepared data: two streaming passes over the source.

The first pass (jobs.keys) writes keys of fixed width, which are settled range by range
(jobs.ranges); the second (jobs.sides) reads the rows again, and each task writes its rows to the
side that the cuts give them. The text of a row never leaves the task that read it, except for
texts under several labels, which are written to conflicts/, and the sample for the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import DataError
from cluster.session import say
from jobs import keys, splits
from jobs.conflicts import CONFLICTS, write_conflicts
from jobs.data_settings import Columns, Split
from jobs.earlier import Earlier, remember
from jobs.keys import Inventory, Reading
from jobs.labelling import Labelling, choose_cuts, judge, without_training
from jobs.ranges import FEW_KEYS, MOST_RANGES, RANGE_KEYS, Ranges
from jobs.records import FIT
from jobs.sides import REJECTED, SAMPLE, Written, write_part, write_rows
from jobs.sources import Source
from jobs.splits import FREE, SPLITS, TEST, VALIDATION, Cuts

FORMAT_VERSION = 2
SAMPLE_ROWS = 100_000
SAMPLE_BYTES = 512 << 20  # the sample is looked at in one place
UNPACKED = 4  # bytes of text in a byte of a compressed file, roughly
SCRATCH = ".scratch"


@dataclass(frozen=True)
class Request:
    """What to prepare, in plain values."""

    source: Source
    test_source: Source | None
    columns: Columns
    split: Split
    renamed: Mapping[str, str]
    earlier: Earlier | None
    on_bad_file: str


@dataclass(frozen=True)
class _Read:
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


def prepare(request: Request, folder: str) -> tuple[dict[str, Any], pa.Table]:
    """Writes rows, conflicts and rejected rows of the contract's folder; (manifest, sample).

    The manifest is not yet written. The sample: a table of text and split, at most SAMPLE_ROWS
    rows. Raises DataError before any row is written where the data cannot train a classifier.
    """
    scratch = storage.join(folder, SCRATCH)
    fs, path = storage.filesystem(scratch)
    fs.create_dir(path, recursive=True)
    count = _ranges(request)
    say("Reading the keys of every row …")
    reads = _first_pass(request, count, scratch)
    files = [file for read in reads for file in read.found.files]
    if request.earlier is not None:
        files += remember(request.earlier.uri, count, scratch)
    names = tuple(sorted(set().union(*(read.found.labels for read in reads))))
    _require_rows(reads)
    came = set().union(*(read.found.given for read in reads)) - {FREE}
    _require_like(request, came)
    _say_unmatched(request, reads)
    drop = request.split.conflicts == "drop"
    ranges = Ranges(files, count, names, seed=request.split.seed, drop_conflicts=drop)
    labelling = judge(
        names,
        ranges.summary.owned,
        ranges.summary.open,
        request.split,
        source=f"--source {request.source.uri}",
        given=_given(request),
    )
    cuts = choose_cuts(
        labelling,
        ranges,
        validation=0.0 if VALIDATION in came else request.split.validation,
        test=0.0 if TEST in came else request.split.test,
        earlier={} if request.earlier is None else request.earlier.cuts,
        renamed=request.renamed,
    )
    counts, special = ranges.decide(cuts)
    labelling = without_training(labelling, counts, source=f"--source {request.source.uri}")
    say("Writing every row to its side …")
    written = _second_pass(reads, labelling, cuts, special, request, folder, scratch)
    write_conflicts(ranges, names, folder, scratch)
    _write_empty_parts(folder, reads[0].how.id_type)
    sample = _read_all(storage.join(scratch, "sample"), SAMPLE)
    storage.remove(scratch)
    return _manifest(request, reads, labelling, cuts, counts, written, ranges), sample


def _require_like(request: Request, came: set[int]) -> None:
    """DataError where the earlier data got its splits in another way than this one."""
    earlier = request.earlier
    now = [SPLITS[side] for side in sorted(came)]
    if earlier is not None and list(earlier.given) != now:
        raise DataError(
            f"--split.like {earlier.uri} was prepared with {_listed(earlier.given)} given, and "
            f"here {_listed(now)} given: its cuts do not fit. Prepare both in the same way."
        )


def _listed(splits_given: Sequence[str]) -> str:
    return f"{' and '.join(splits_given)} rows" if splits_given else "no split"


def _say_unmatched(request: Request, reads: Sequence[_Read]) -> None:
    there = set().union(*(read.found.renamed for read in reads))
    missing = sorted(request.renamed.keys() - there)
    if missing:
        names = ", ".join(map(repr, missing[:5])) + (" …" if len(missing) > 5 else "")
        say(f"warning: --labels.map names labels that no row has: {names}")


def _given(request: Request) -> str:
    if request.test_source is not None:
        return f"--test-source {request.test_source.uri} holds"
    return "The rows given for validation or test hold"


def _ranges(request: Request) -> int:
    """How many ranges of keys: few enough to be quick, small enough for one task each."""
    rows = 0
    for source in (request.source, request.test_source):
        if source is not None:
            rows += source.rows if source.rows is not None else source.size // 100
    return min(MOST_RANGES, max(1, min(4, rows // FEW_KEYS), -(-rows // RANGE_KEYS)))


def _first_pass(request: Request, count: int, scratch: str) -> list[_Read]:
    reads = []
    for asked, key, given in (
        (request.source, "source", FREE),
        (request.test_source, "test-source", TEST),
    ):
        if asked is None:
            continue
        how = keys.reading(asked, request.columns, request.renamed, given=given)
        if request.test_source is not None and how.columns.split is not None:
            raise DataError(
                f"--source {asked.uri} has a column {how.columns.split!r} that gives the split, "
                "and --test-source gives another. Leave out one of them (--columns.split none)."
            )
        source, found = keys.read_keys(
            asked, how, count, scratch, on_bad_file=request.on_bad_file, key=key
        )
        reads.append(_Read(source, how, found))
    return reads


def _require_rows(reads: Sequence[_Read]) -> None:
    for read, key in zip(reads, ("source", "test-source"), strict=False):
        if read.found.rows == 0:
            reasons = ", ".join(f"{n:,} × {why}" for why, n in read.found.rejected.items())
            raise DataError(
                f"--{key} {read.source.uri} holds no usable row ({reasons or 'it is empty'})."
            )


def _second_pass(
    reads: Sequence[_Read],
    labelling: Labelling,
    cuts: Cuts,
    special: Any,
    request: Request,
    folder: str,
    scratch: str,
) -> Written:
    total = sum(read.found.rows for read in reads)
    assignment = {
        "labels": labelling.names,
        "cuts": cuts,
        "seed": request.split.seed,
        "verdicts": labelling.verdicts,
        "conflicts": request.split.conflicts,
    }
    written = Written(np.zeros((len(labelling.names), len(SPLITS)), np.int64))
    for read in reads:
        more = write_rows(
            read.source,
            read.how,
            assignment,
            special,
            folder,
            scratch,
            sample=read.sample(total),
        )
        written = Written(written.rows + more.rows, written.rejected + more.rejected)
    return written


def _read_all(folder: str, schema: pa.Schema) -> pa.Table:
    """All scratch files of a folder; sorted names make the order the same in every run."""
    fs, _ = storage.filesystem(folder)
    parts = [pq.read_table(path, filesystem=fs) for path, _ in storage.list_files(folder)]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _write_empty_parts(folder: str, id_type: pa.DataType | None) -> None:
    """An empty file where there are no rows, so that every reader finds folder and columns."""
    rows = {"text": pa.string(), "label": pa.string(), "text_id": pa.uint64()}
    if id_type is not None:
        rows["id"] = id_type
    parts = dict.fromkeys(SPLITS, pa.schema(rows))
    parts |= {"rejected": REJECTED, "conflicts": CONFLICTS}
    for name, schema in parts.items():
        place = storage.join(folder, name)
        if not storage.list_files(place, ".parquet"):
            write_part(schema.empty_table(), place, "part-0.parquet")


def _manifest(
    request: Request,
    reads: Sequence[_Read],
    labelling: Labelling,
    cuts: Cuts,
    counts: splits.Ints,
    written: Written,
    ranges: Ranges,
) -> dict[str, Any]:
    kept = labelling.verdicts == FIT
    total = int(written.rows[kept].sum())
    given = set().union(*(read.found.given for read in reads)) - {FREE}
    rare = labelling.named(labelling.whole)
    known = {} if request.earlier is None else dict(request.earlier.cuts)
    known |= {
        name: (int(cuts.test[c]), int(cuts.validation[c]))
        for c, name in enumerate(labelling.names)
        # A label that is too rare this time has no cuts of its own.
        if kept[c] and not (labelling.whole[c] and name in known)
    }
    return {
        "format_version": FORMAT_VERSION,
        "rows": total,
        "labels": {
            name: {
                side: {"rows": int(written.rows[c, s]), "texts": int(counts[c, s])}
                for s, side in enumerate(SPLITS)
            }
            for c, name in enumerate(labelling.names)
            if kept[c]
        },
        # Labels that only the earlier data had keep their cuts, for when they come back.
        "cuts": {
            name: {"test": test, "validation": validation}
            for name, (test, validation) in sorted(known.items())
        },
        "seed": request.split.seed,
        "rejected": dict(sorted(written.rejected.items())),
        "duplicates": total - int(counts[kept].sum()),
        "conflicts": ranges.summary.conflicts,
        "given_splits": [SPLITS[side] for side in sorted(given)],
        "rare": {"rule": request.split.rare, "labels": rare},
        "dropped_labels": labelling.named(~kept),
        "labels_map": dict(request.renamed),
        "bad_files": [
            {"path": bad.path, "error": bad.problem} for read in reads for bad in read.source.bad
        ],
        "sources": [
            {"path": file.path, "bytes": file.size} for read in reads for file in read.source.files
        ],
    }
