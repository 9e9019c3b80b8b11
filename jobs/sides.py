"""The second pass over a source: every row written to its side by the task that read it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster import storage
from jobs import passes, splits
from jobs.classifier.text import Hashes, salted
from jobs.key_files import read_rows, rows_uri
from jobs.keys import Reading, given_sides
from jobs.part_files import PartFile, write_part
from jobs.records import FIT, REASONS, Parsed, parse, strings, whole_batches
from jobs.sources import Part, Source, read_part
from jobs.splits import FREE, SPLITS, Cuts

REJECTED = pa.schema(
    {"source_file": pa.string(), "reason": pa.string(), "text": pa.string(), "label": pa.string()}
)
CONFLICTING_TEXTS = pa.schema({"text_id": pa.uint64(), "text": pa.string()})
SAMPLE = pa.schema({"text": pa.string(), "split": pa.string()})
# Reasons that only the whole of the data can give; they go on where those of records end.
LATE_REASONS = (
    "leak",
    "conflicting labels",
    "rare label",
    "label without a text of its own",
    "label without a text to train on",
)
LEAK, CONFLICT, RARE, NO_TEXT, NO_TRAINING = (
    len(REASONS) + number for number in range(len(LATE_REASONS))
)
ALL_REASONS = (*REASONS, *LATE_REASONS)


@dataclass(frozen=True)
class Assignment:
    """All that a task needs to give each row its side; numbers alone, sent to every task.

    `verdicts` int8 [labels]: FIT, or why rows under that label leave. `conflicts`: as the setting.
    """

    labels: tuple[str, ...]
    cuts: Cuts
    seed: int
    special: npt.NDArray[np.void]
    verdicts: npt.NDArray[np.int8]
    conflicts: str


@dataclass
class Written:
    """What a pass wrote: rows int64 [labels, 3], and rejected rows per reason."""

    rows: splits.Ints
    rejected: Counter[str] = field(default_factory=Counter)


def write_rows(
    source: Source,
    how: Reading,
    assignment: Mapping[str, Any],
    special: Any,
    folder: str,
    scratch: str,
    *,
    sample: Sequence[tuple[int, int]],
) -> Written:
    """The second pass. `assignment`: the values of an Assignment but `special`, which is a
    reference. `sample`: for each chunk its rows that are fit, and how many of them are set aside
    for the report.
    """
    import ray

    chunks = source.chunks()
    shared = ray.put((chunks, dict(assignment), list(sample)))
    written = Written(np.zeros((len(assignment["labels"]), len(SPLITS)), np.int64))
    for message in passes.over(
        len(chunks),
        _write_chunk,
        how=how,
        shared=[shared, special],
        folder=folder,
        scratch=scratch,
    ):
        written.rows += np.array(message["rows"], np.int64).reshape(written.rows.shape)
        written.rejected += Counter(message["rejected"])
    return written


def _write_chunk(
    number: int, how: Reading, shared: list[Any], folder: str, scratch: str
) -> dict[str, Any]:
    """Writes the rows of one chunk to their sides; says what it wrote."""
    import ray

    (chunks, values, sample), special = ray.get(shared)
    assignment = Assignment(**values, special=special)
    rows, take = sample[number]
    chosen = np.random.default_rng([assignment.seed, number]).choice(rows, take, replace=False)
    known = read_rows(rows_uri(scratch, how.name, number))
    file = f"{how.name}-{number:06d}.parquet"
    return _Chunk(assignment, how, file, folder, scratch, chosen, known).write(chunks[number])


class _Chunk:
    """One chunk on its way to its sides, batch by batch.

    In memory are a few batches, nine bytes a row of the chunk, and its texts in conflict.
    """

    def __init__(
        self,
        assignment: Assignment,
        how: Reading,
        name: str,
        folder: str,
        scratch: str,
        sample: splits.Ints,
        known: tuple[Hashes, npt.NDArray[np.int8]],
    ) -> None:
        """`sample`: which of the rows that are fit are set aside, by their numbers. `known`: text
        ids and reasons of all rows, from the first pass."""
        self.known, self.row = known, 0
        self.assignment, self.how, self.name = assignment, how, name
        self.sample, self.read = np.sort(sample), 0
        self.folder, self.scratch = folder, scratch
        self.numbers = {label: c for c, label in enumerate(assignment.labels)}
        self.rows = np.zeros((len(assignment.labels), len(SPLITS)), np.int64)
        self.rejected: Counter[str] = Counter()
        self.corrections = None if how.corrections is None else how.corrections.get()
        self.special_ids = np.ascontiguousarray(assignment.special["id"])
        self._files: dict[str, PartFile] = {}
        self._conflicting: dict[int, str] = {}

    def write(self, parts: Sequence[Part]) -> dict[str, Any]:
        """Writes all rows; what was written, for the driver."""
        fs, _ = storage.filesystem(self.how.uri)
        for part in parts:
            tables = read_part(fs, self.how.format, part, self.how.names)
            for table in whole_batches(tables):
                self._write_table(table, part.file.path)
        if self._conflicting:
            ids, texts = zip(*sorted(self._conflicting.items()), strict=True)
            found = pa.table(
                [pa.array(ids, pa.uint64()), pa.array(texts)], schema=CONFLICTING_TEXTS
            )
            # Sorted and in small row groups: who reads a range of ids passes over the others.
            write_part(found, storage.join(self.scratch, "conflicts"), self.name, group_rows=4096)
        for file in self._files.values():
            file.close()
        return {"rows": self.rows.ravel().tolist(), "rejected": dict(self.rejected)}

    def _write_table(self, table: pa.Table, path: str) -> None:
        now = slice(self.row, self.row + table.num_rows)
        self.row = now.stop
        ids, reasons = self.known[0][now], self.known[1][now]
        parsed = parse(table, self.how.columns, renamed=self.how.renamed, reasons=reasons)
        if self.corrections is not None:
            parsed, _, _ = self.corrections.apply(parsed, ids)
        labels, reasons, sides, conflicting = self._decide(table, parsed, ids, path)
        fit = reasons == FIT
        names = pa.array(self.assignment.labels, pa.string())
        columns = {
            "text": parsed.texts,
            "label": names.take(pa.array(labels)),
            "text_id": pa.array(ids, pa.uint64()),
        }
        if parsed.ids is not None:
            columns["id"] = parsed.ids.cast(self.how.id_type)
        rows = pa.table(columns)
        for side, split in enumerate(SPLITS):
            here = fit & (sides == side)
            if here.any():
                self._put(storage.join(self.folder, split), rows.filter(pa.array(here)))
                self.rows[:, side] += np.bincount(labels[here], minlength=len(self.rows))
        self._reject(table, parsed, reasons, path)
        self._note_conflicts(parsed.texts, ids, conflicting)
        self._set_aside(parsed, fit, sides)

    def _decide(
        self, table: pa.Table, parsed: Parsed, ids: Hashes, path: str
    ) -> tuple[splits.Classes, npt.NDArray[np.int8], splits.Sides, splits.Mask]:
        """(class, reason, side, whether its text is in conflict) of each row."""
        told = self.assignment
        given = given_sides(table, self.how, path)
        places = [self.numbers.get(name, 0) for name in parsed.labels.dictionary.to_pylist()]
        codes = parsed.labels.indices.fill_null(0).to_numpy()
        labels = np.array(places, np.int32)[codes]
        reasons = parsed.reasons.copy()
        at = splits.place_of(ids, self.special_ids)
        at[reasons != FIT] = -1
        known = at >= 0
        special = told.special[at[known]]
        leak, conflicting = np.zeros_like(known), np.zeros_like(known)
        leak[known] = given[known] != special["given"]
        conflicting[known] = special["conflict"]
        conflicting &= ~leak
        if told.conflicts == "majority":
            taken = conflicting[known]
            labels[np.flatnonzero(known)[taken]] = special["owner"][taken]
        sides = told.cuts.sides(salted(ids, told.seed), labels)
        sides = np.where(given != FREE, given, sides).astype(np.int8)
        sides[known] = special["side"]
        fit = reasons == FIT
        reasons = np.where(fit, told.verdicts[labels], reasons)
        if told.conflicts == "drop":
            reasons[conflicting] = CONFLICT
        reasons[leak] = LEAK
        return labels, reasons.astype(np.int8), sides, conflicting

    def _reject(
        self, table: pa.Table, parsed: Parsed, reasons: npt.NDArray[np.int8], path: str
    ) -> None:
        bad = np.flatnonzero(reasons != FIT)
        if len(bad) == 0:
            return
        why = [ALL_REASONS[code] for code in reasons[bad]]
        self.rejected += Counter(why)
        at = pa.array(bad)
        labels = parsed.labels.take(at).dictionary_decode()
        origin = self.how.origin
        files = pa.array([path] * len(bad)) if origin is None else strings(table[origin]).take(at)
        columns = [files, pa.array(why), parsed.texts.take(at), labels]
        self._put(storage.join(self.folder, "rejected"), pa.table(columns, schema=REJECTED))

    def _note_conflicts(self, texts: pa.StringArray, ids: Hashes, which: splits.Mask) -> None:
        """Remembers one spelling of each text in conflict: the smallest, whatever the order."""
        rows = np.flatnonzero(which)
        for text_id, text in zip(
            ids[rows].tolist(), texts.take(pa.array(rows)).to_pylist(), strict=True
        ):
            self._conflicting[text_id] = min(text, self._conflicting.get(text_id, text))

    def _set_aside(self, parsed: Parsed, kept: splits.Mask, sides: splits.Sides) -> None:
        """Keeps the rows of the sample that fall into this table."""
        fit = parsed.fit
        start, stop = np.searchsorted(self.sample, [self.read, self.read + len(fit)])
        rows = fit[self.sample[start:stop] - self.read]
        self.read += len(fit)
        rows = rows[kept[rows]]
        if len(rows):
            names = pa.array([SPLITS[side] for side in sides[rows]], pa.string())
            found = pa.table([parsed.texts.take(pa.array(rows)), names], schema=SAMPLE)
            self._put(storage.join(self.scratch, "sample"), found)

    def _put(self, folder: str, table: pa.Table) -> None:
        if folder not in self._files:
            self._files[folder] = PartFile(folder, self.name)
        self._files[folder].write(table)
