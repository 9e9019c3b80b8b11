"""Writes an unbalanced incident desk: tickets in a company's jargon, and where they went.

    python -m jobs.synthesize --output /data/desk --rows 5000

The same settings give the same rows, whatever the size of the cluster.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from cluster import command, publishing, session, storage
from cluster.storage import OutputUri
from jobs import passes
from jobs.desk import Desk

ROWS_PER_FILE = 100_000


class Synthesize(command.Settings):
    """Settings of `jobs.synthesize`."""

    output: OutputUri = Field(description="new folder for the Parquet files")
    rows: int = Field(5000, ge=1, description="tickets to write")
    classes: int = Field(12, ge=2, le=3000, description="teams")
    skew: float = Field(
        1.1, ge=0, description="exponent of the Zipf law of team sizes; 0: all teams equal"
    )
    noise: float = Field(
        0.03, ge=0, lt=0.5, description="share of tickets that went to a wrong team (0-0.5)"
    )
    seed: int = Field(0, ge=0, description="seed of everything")


def synthesize(settings: Synthesize) -> dict[str, Any]:
    """Writes and publishes the desk; what it is, in numbers."""
    publishing.refuse_used(settings.output)
    desk = Desk(settings.classes, settings.skew, settings.seed, settings.noise)
    session.connect()
    session.streaming_context()
    files = -(-settings.rows // ROWS_PER_FILE)
    with publishing.staging(settings.output, []) as folder:
        fs, path = storage.filesystem(folder)
        fs.create_dir(path, recursive=True)
        session.require_everywhere(folder, "output")
        told = passes.numbered(files, _write_files, desk=desk, rows=settings.rows, folder=folder)
        written = sum(
            batch["rows"].to_numpy().sum()
            for batch in told.iter_batches(batch_format="pyarrow", batch_size=None)
        )
    shares = sorted(zip(desk.shares.tolist(), desk.labels, strict=True), reverse=True)
    print(f"Wrote {written:,} tickets of {settings.classes} teams to {settings.output}")
    print(
        f"  largest {shares[0][1]} ({shares[0][0]:.1%}), rarest {shares[-1][1]} "
        f"({shares[-1][0]:.2%})"
    )
    print(
        f"  {1 - desk.ceiling:.1%} of the tickets went to a wrong team: no router can be right "
        f"on more than about {desk.ceiling:.1%}"
    )
    return {
        "output": settings.output,
        "rows": int(written),
        "classes": settings.classes,
        "ceiling": desk.ceiling,
    }


def _write_files(numbers: pa.Table, desk: Desk, rows: int, folder: str) -> pa.Table:
    """One file a number, with as many tickets as there are left up to ROWS_PER_FILE."""
    written = []
    for number in numbers["id"].to_pylist():
        start = number * ROWS_PER_FILE
        count = min(ROWS_PER_FILE, rows - start)
        fs, path = storage.filesystem(storage.join(folder, f"tickets-{number:06d}.parquet"))
        pq.write_table(desk.rows(start, count), path, filesystem=fs, compression="zstd")
        written.append(count)
    return pa.table({"rows": pa.array(written, pa.int64())})


def main(argv: Sequence[str] | None = None) -> None:
    command.run(Synthesize, synthesize, program="jobs.synthesize", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
