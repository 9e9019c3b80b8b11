"""Earlier prepared data whose split goes on: its cuts, and where each of its texts stood."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from jobs import splits
from jobs.key_files import KEY, KeyFile, write_keys
from jobs.keys import as_messages, messages


@dataclass(frozen=True)
class Earlier:
    """Earlier prepared data whose cuts are used again."""

    uri: str
    seed: int
    cuts: Mapping[str, tuple[int, int]]  # label → (test, validation)


def remember(uri: str, ranges: int, scratch: str) -> list[KeyFile]:
    """Key files of earlier prepared data: where each of its texts stood."""
    import ray

    files = [
        (path, side)
        for side, name in enumerate(splits.SPLITS)
        for path, _ in storage.list_files(storage.join(uri, name), ".parquet")
    ]
    told = ray.data.range(len(files), override_num_blocks=len(files)).map_batches(
        _write_memory,
        batch_format="pyarrow",
        batch_size=1,
        fn_kwargs={"uri": uri, "files": files, "ranges": ranges, "folder": scratch},
    )
    return [KeyFile(message["uri"], tuple(message["offsets"])) for message in messages(told)]


def _write_memory(
    numbers: pa.Table, uri: str, files: Sequence[tuple[str, int]], ranges: int, folder: str
) -> pa.Table:
    fs, _ = storage.filesystem(uri)
    told = []
    for number in numbers["id"].to_pylist():
        path, side = files[number]
        ids = np.unique(pq.read_table(path, columns=["text_id"], filesystem=fs)["text_id"])
        keys = np.zeros(len(ids), KEY)
        keys["id"], keys["given"] = ids, side
        place = storage.join(folder, f"earlier-{number:06d}.bin")
        told.append({"uri": place, "offsets": write_keys(keys, ranges, place)})
    return as_messages(told)
