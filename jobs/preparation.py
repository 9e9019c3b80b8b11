"""From raw records to prepared data: two streaming passes over the source.

The first pass (jobs.keys) writes keys of fixed width, which are settled range by range
(jobs.ranges); the second (jobs.sides) reads the rows again, and each task writes its rows to the
side that the cuts give them. The text of a row never leaves the task that read it, except for
texts under several labels, which are written to conflicts/, and the sample for the report.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from cluster.session import say
from jobs import feedback, splits
from jobs.conflicts import CONFLICTS, write_conflicts
from jobs.earlier import remember, require_like
from jobs.feedback import Feedback, Settled
from jobs.labelling import Labelling, choose_cuts, judge, without_training
from jobs.part_files import write_part
from jobs.ranges import FEW_KEYS, MOST_RANGES, RANGE_KEYS, Ranges
from jobs.reads import Read, Request, add_corrections, first_pass, require_rows
from jobs.records import FIT
from jobs.sides import REJECTED, SAMPLE, Written, write_rows
from jobs.splits import FREE, SPLITS, TEST, VALIDATION, Cuts

FORMAT_VERSION = 2
SCRATCH = ".scratch"


def prepare(request: Request, folder: str) -> tuple[dict[str, Any], pa.Table]:
    """Writes rows, conflicts and rejected rows of the contract's folder; (manifest, sample).

    The manifest is not yet written. The sample: a table of text and split, at most SAMPLE_ROWS
    rows. Raises DataError before any row is written where the data cannot train a classifier.
    """
    scratch = storage.join(folder, SCRATCH)
    fs, path = storage.filesystem(scratch)
    fs.create_dir(path, recursive=True)
    settled = _settled(request, folder, scratch)
    count = _ranges(request, settled)
    say("Reading the keys of every row …")
    reads = first_pass(request, settled, count, scratch)
    require_rows(reads)
    told = None if settled is None else add_corrections(request, settled, reads, count, scratch)
    files = [file for read in reads for file in read.found.files]
    if request.earlier is not None:
        files += remember(request.earlier.uri, count, scratch)
    names = tuple(sorted(set().union(*(read.found.labels for read in reads))))
    came = set().union(*(read.found.given for read in reads)) - {FREE}
    require_like(request.earlier, came)
    _say_unmatched(request, reads, settled)
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
    written.rejected += Counter() if settled is None else settled.rejected
    write_conflicts(ranges, names, folder, scratch)
    _write_empty_parts(folder, reads[0].how.id_type)
    sample = _read_all(storage.join(scratch, "sample"), SAMPLE)
    storage.remove(scratch)
    manifest = _manifest(request, reads, labelling, cuts, counts, written, ranges)
    return manifest | ({} if told is None else {"corrections": told}), sample


def _say_unmatched(request: Request, reads: Sequence[Read], settled: Settled | None) -> None:
    there = set().union(*(read.found.renamed for read in reads))
    there |= set() if settled is None else settled.renamed
    missing = sorted(request.renamed.keys() - there)
    if missing:
        names = ", ".join(map(repr, missing[:5])) + (" …" if len(missing) > 5 else "")
        say(f"warning: --labels.map names labels that no row has: {names}")


def _given(request: Request) -> str:
    if request.test_source is not None:
        return f"--test-source {request.test_source.uri} holds"
    return "The rows given for validation or test hold"


def _ranges(request: Request, settled: Settled | None) -> int:
    """How many ranges of keys: few enough to be quick, small enough for one task each."""
    rows = 0 if settled is None else len(settled.positions)
    for source in (request.source, request.test_source):
        if source is not None:
            rows += source.rows if source.rows is not None else source.size // 100
    return min(MOST_RANGES, max(1, min(4, rows // FEW_KEYS), -(-rows // RANGE_KEYS)))


def _settled(request: Request, folder: str, scratch: str) -> Settled | None:
    if request.feedback is None:
        return None
    say("Reading the corrections …")
    return feedback.read(request.feedback, request.renamed, folder, scratch)


def _second_pass(
    reads: Sequence[Read],
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
    reads: Sequence[Read],
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
            {"path": file.path, "bytes": file.size}
            for read in reads
            if read.how.origin is None
            for file in read.source.files
        ]
        + _feedback_files(request.feedback),
    }


def _feedback_files(found: Feedback | None) -> list[dict[str, Any]]:
    """The folder of corrections as one source: it may hold a million objects."""
    return [] if found is None else [{"path": found.uri, "bytes": found.size}]
