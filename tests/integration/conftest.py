"""One local Ray for all tests of this folder, and what they write their data with."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import session
from cluster.ports import lasting_port
from tests.integration import s3

S3_PORT = lasting_port()


@pytest.fixture(scope="package", autouse=True)
def ray_session() -> Iterator[None]:
    """A Ray of two CPUs; `connect` finds it wherever a command calls it."""
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    # Workers inherit it: whoever starts a store at this port can prepare and train on it.
    os.environ.update(s3.environment(S3_PORT))
    session.connect(cpus=2)
    yield
    ray.shutdown()


def write_tickets(folder: Path, rows: Sequence[dict[str, object]], files: int = 1) -> Path:
    """Writes rows as Parquet, dealt out over a number of files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        part = pa.Table.from_pylist(list(rows[number::files]))
        pq.write_table(part, folder / f"part-{number}.parquet")
    return folder


def read_rows(folder: Path) -> list[dict[str, object]]:
    """All rows below a folder, in the order of the files' names."""
    rows: list[dict[str, object]] = pq.read_table(folder).to_pylist()
    return rows
