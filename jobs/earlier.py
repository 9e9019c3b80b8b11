"""Earlier prepared data whose split goes on: its cuts, and where each of its texts stood."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import DataError
from jobs import passes, splits
from jobs.key_files import KEY, KeyFile, write_keys


@dataclass(frozen=True)
class Earlier:
    """Earlier prepared data whose cuts are used again."""

    uri: str
    cuts: Mapping[str, tuple[int, int]]  # label → (test, validation)
    given: Sequence[str]  # splits that came with the rows, and were not cut


def require_like(earlier: Earlier | None, came: Collection[int]) -> None:
    """DataError where the earlier data got its splits in another way than this one, of whose rows
    some `came` with these sides."""
    now = [splits.SPLITS[side] for side in sorted(came)]
    if earlier is not None and list(earlier.given) != now:
        raise DataError(
            f"--split.like {earlier.uri} was prepared with {_listed(earlier.given)} given, and "
            f"here {_listed(now)} given: its cuts do not fit. Prepare both in the same way."
        )


def _listed(splits_given: Sequence[str]) -> str:
    return f"{' and '.join(splits_given)} rows" if splits_given else "no split"


def remember(uri: str, ranges: int, scratch: str) -> list[KeyFile]:
    """Key files of earlier prepared data: where each of its texts stood."""
    files = [
        (path, side)
        for side, name in enumerate(splits.SPLITS)
        for path, _ in storage.list_files(storage.join(uri, name), ".parquet")
    ]
    told = passes.over(
        len(files), _write_memory, uri=uri, files=files, ranges=ranges, folder=scratch
    )
    return [KeyFile(message["uri"], tuple(message["offsets"])) for message in told]


def _write_memory(
    number: int, uri: str, files: Sequence[tuple[str, int]], ranges: int, folder: str
) -> dict[str, Any]:
    fs, _ = storage.filesystem(uri)
    path, side = files[number]
    ids = np.unique(pq.read_table(path, columns=["text_id"], filesystem=fs)["text_id"])
    keys = np.zeros(len(ids), KEY)
    keys["id"], keys["given"] = ids, side
    place = storage.join(folder, f"earlier-{number:06d}.bin")
    return {"uri": place, "offsets": write_keys(keys, ranges, place)}
