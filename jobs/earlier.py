"""Earlier prepared data whose split goes on: its cuts, and where each of its texts stood."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cluster import storage
from jobs import passes, splits
from jobs.key_files import KEY, KeyFile, write_keys


@dataclass(frozen=True)
class Earlier:
    """Earlier prepared data whose cuts are used again."""

    uri: str
    cuts: Mapping[str, tuple[int, int]]  # label → (test, validation)
    given: Sequence[str]  # splits that came with the rows, and were not cut


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
