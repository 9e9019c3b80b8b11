"""conflicts/: one row a (text, label) of each text that stands under several labels."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster import resources, sharing, storage
from jobs.key_files import bounds
from jobs.part_files import write_part
from jobs.ranges import Ranges, Settled
from jobs.sides import CONFLICTING_TEXTS

CONFLICTS = pa.schema({"text": pa.string(), "label": pa.string(), "rows": pa.int64()})


def write_conflicts(ranges: Ranges, names: Sequence[str], folder: str, scratch: str) -> None:
    """conflicts/: one row a (text, label) of each text under several labels, range by range."""
    import ray

    if ranges.summary.conflicts == 0:
        return
    write = ray.remote(num_cpus=resources.TASK_CPUS)(_write_range)
    shared = ray.put(list(names))
    ray.get(
        sharing.spread(
            write,
            (
                (ref, number, ranges.count, shared, folder, scratch)
                for number, ref in enumerate(ranges.texts)
            ),
        )
    )


def _write_range(
    settled: Settled, number: int, count: int, names: Sequence[str], folder: str, scratch: str
) -> None:
    texts = settled.texts
    at, classes, rows = texts.pairs
    if len(at) == 0:
        return
    place = storage.join(scratch, "conflicts")
    fs, path = storage.filesystem(place)
    ends = [*bounds(count)[number : number + 2].tolist(), None][:2]
    inside = pc.field("text_id") >= pa.scalar(ends[0], pa.uint64())
    if ends[1] is not None:
        inside &= pc.field("text_id") < pa.scalar(ends[1], pa.uint64())
    found = pq.read_table(path, filesystem=fs, filters=inside, schema=CONFLICTING_TEXTS)
    # One text may have been written in several ways: the smallest stands for it.
    spelled: dict[int, str] = {}
    for text_id, text in zip(found["text_id"].to_pylist(), found["text"].to_pylist(), strict=True):
        spelled[text_id] = min(text, spelled.get(text_id, text))
    order = np.lexsort((classes, at))
    table = pa.table(
        [
            [spelled[int(texts.ids[at[k]])] for k in order],
            [names[classes[k]] for k in order],
            rows[order],
        ],
        schema=CONFLICTS,
    )
    write_part(table, storage.join(folder, "conflicts"), f"conflicts-{number:06d}.parquet")
