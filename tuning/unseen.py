"""Which test rows another model was trained on: they say nothing about it.

Where the other's prepared data still lies as it was, its text ids say it exactly. Where it is gone,
the cuts of its split say on which side a text would have stood: rows that it may have seen are then
left out too. For that the cuts are kept beside every registered version.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import DataError, StorageError
from jobs import splits
from jobs.classifier.bundle import About
from jobs.classifier.text import Hashes, salted
from jobs.prepared import Prepared, open_prepared

KEPT = "split.json"
_PARTS = ("seed", "cuts", "given_splits")
_SEEN = ("train", "validation")  # a model is chosen and calibrated on its validation rows

Mask = npt.NDArray[np.bool_]


def kept(prepared: Prepared) -> dict[str, Any]:
    """What of a manifest tells the side of a text; written as KEPT."""
    parts = {name: prepared.manifest[name] for name in _PARTS}
    return {"manifest_digest": prepared.digest, **parts}


def trained_on(
    ids: Hashes,
    labels: Sequence[str],
    *,
    about: About,
    uri: str,
    digest: str,
    renamed: Mapping[str, str],
) -> tuple[Mask, str]:
    """(rows that the other was trained on, how that is known), bool [rows] and a few words.

    `ids`, `labels` [rows]: of the test rows, whose data has the manifest digest `digest`. `about`,
    `uri`: the other's. `renamed`: old label → new, since the other was trained.
    """
    if about.manifest_digest == digest:
        return np.zeros(len(ids), np.bool_), "it was trained on the same data"
    data = _as_it_was(about)
    if data is not None:
        return _by_ids(ids, data.uri), "by the text ids of its data"
    place = storage.join(uri, KEPT)
    if not storage.is_file(place):
        raise DataError(
            f"Which rows the model in {uri} was trained on cannot be told: its data "
            f"({about.data.get('uri') or 'not recorded'}) is gone, and there is no {KEPT} in it."
        )
    return _by_cuts(ids, labels, storage.read_json(place), renamed), "by the cuts of its split"


def _as_it_was(about: About) -> Prepared | None:
    """The data that a model was trained on, if it can be reached and is still the same."""
    uri = str(about.data.get("uri") or "")
    try:
        found = open_prepared(uri) if uri else None
    except (DataError, StorageError):
        return None
    return found if found is not None and found.digest == about.manifest_digest else None


def _by_ids(ids: Hashes, uri: str) -> Mask:
    known = np.unique(ids)
    seen = np.zeros(len(known), np.bool_)
    for part in _text_ids(uri):
        at = splits.place_of(part, known)
        seen[at[at >= 0]] = True
    return np.asarray(seen[np.searchsorted(known, ids)], dtype=np.bool_)


def _text_ids(uri: str) -> Iterator[Hashes]:
    """All text ids that a model saw, a batch at a time."""
    fs, _ = storage.filesystem(uri)
    for split in _SEEN:
        for path, _ in storage.list_files(storage.join(uri, split), ".parquet"):
            with pq.ParquetFile(path, filesystem=fs) as file:
                for batch in file.iter_batches(1 << 20, columns=["text_id"]):
                    yield batch["text_id"].to_numpy()


def _by_cuts(
    ids: Hashes, labels: Sequence[str], split: Mapping[str, Any], renamed: Mapping[str, str]
) -> Mask:
    """A text is held out if it is so under each label that the other may have known it by.

    A label that the other has no cuts of, and no old name of it, is new: nothing of it was seen.
    """
    order = salted(ids, int(split["seed"]))
    codes = {name: code for code, name in enumerate(dict.fromkeys(labels))}
    coded = np.array([codes[name] for name in labels], np.int64)
    seen = np.zeros(len(ids), np.bool_)
    for old, cut in split["cuts"].items():
        meant = [codes[name] for name in {old, renamed.get(old, old)} if name in codes]
        rows = np.flatnonzero(np.isin(coded, meant))
        cuts = splits.Cuts(
            np.array([cut["test"]], np.uint64), np.array([cut["validation"]], np.uint64)
        )
        sides = cuts.sides(order[rows], np.zeros(len(rows), np.int32))
        seen[rows[sides != splits.TEST]] = True
    # Of a text under several labels it is not known which one the other counted it under.
    return np.isin(ids, ids[seen])
