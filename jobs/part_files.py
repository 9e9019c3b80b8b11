"""Parquet files of prepared data while they are written, in row groups that can be shared out."""

import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from jobs.sources import BATCH_ROWS

# Small enough that whoever reads a part can share it out evenly.
GROUP_ROWS = BATCH_ROWS // 2
DICTIONARIES = ("label", "reason", "source_file", "split")


class PartFile:
    """A Parquet file in row groups of about GROUP_ROWS, however few rows come at a time."""

    def __init__(self, folder: str, name: str) -> None:
        self.fs, path = storage.filesystem(folder)
        self.fs.create_dir(path, recursive=True)
        self.path = storage.join(path, name)
        self._waiting: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Adds rows; tables of one schema only."""
        self._waiting.append(table)
        if sum(waiting.num_rows for waiting in self._waiting) >= BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        self._waiting = []
        if self._writer is None:
            # Texts and their ids hardly repeat: a dictionary of them would be made for nothing.
            self._writer = pq.ParquetWriter(
                self.path,
                table.schema,
                filesystem=self.fs,
                compression="zstd",
                use_dictionary=[n for n in table.schema.names if n in DICTIONARIES],
            )
        self._writer.write_table(table, row_group_size=GROUP_ROWS)


def write_part(table: pa.Table, folder: str, name: str, *, group_rows: int | None = None) -> None:
    fs, path = storage.filesystem(folder)
    fs.create_dir(path, recursive=True)
    place = storage.join(path, name)
    pq.write_table(table, place, filesystem=fs, compression="zstd", row_group_size=group_rows)
