"""The token store: every text tokenized once, read by all workers of all runs that share it.

Ray Data streams the prepared rows to tasks that tokenize them and write shards. The
store is keyed by manifest, tokenizer and `model.max_tokens`, lies below the prepared data, and is
whole when its `index.json` is there. A shard is Parquet: text_id uint64, label int32, length
int32, tokens list<int32>.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import publishing, storage
from cluster.errors import DataError, InUseError, StorageError
from cluster.session import say
from jobs import passes
from jobs.classifier.batches import WINDOW_SHARDS, RowNumbers
from jobs.classifier.encoding import Encoder, TokenIds
from jobs.classifier.labels import Labels
from jobs.prepared import Prepared
from jobs.records import whole_batches
from jobs.sources import Part, open_source, read_part

INDEX = "index.json"
SHARD_ROWS = 8192
TASK_ROWS = 2 * SHARD_ROWS
OTHER_RUN_S = 2.0  # between two looks at what another run is making


def store_uri(prepared: Prepared, split: str, model_folder: Path, max_tokens: int) -> str:
    """Where the store of a split lies: a function of all that decides its content."""
    tokenizer = hashlib.sha256((model_folder / "tokenizer.json").read_bytes()).hexdigest()
    key = storage.digest([prepared.digest, tokenizer, max_tokens, 1])
    return storage.join(prepared.uri, ".tokens", key, split)


def ensure(prepared: Prepared, split: str, model_folder: Path, max_tokens: int) -> str:
    """The URI of the split's store, made now if it is not there yet."""
    uri = store_uri(prepared, split, model_folder, max_tokens)
    if storage.exists(storage.join(uri, INDEX)):
        return uri
    say(f"Tokenizing the {split} rows …")
    while not storage.exists(storage.join(uri, INDEX)):
        try:
            with publishing.staging(uri, [INDEX]) as folder:
                index = _write_shards(prepared, split, model_folder, max_tokens, folder)
                storage.write_json(storage.join(folder, INDEX), index)
        except InUseError:
            # Another run makes the same store: of the same name and content.
            time.sleep(OTHER_RUN_S)
        except StorageError:
            if not storage.exists(storage.join(uri, INDEX)):
                raise
    return uri


def _write_shards(
    prepared: Prepared, split: str, model_folder: Path, max_tokens: int, folder: str
) -> dict[str, Any]:
    import ray

    fs, path = storage.filesystem(folder)
    fs.create_dir(path, recursive=True)
    source = open_source(storage.join(prepared.uri, split))
    chunks = source.chunks(TASK_ROWS)
    told = passes.over(
        len(chunks),
        _write_chunk,
        uri=source.uri,
        chunks=[ray.put(chunks)],
        model_folder=str(model_folder),
        max_tokens=max_tokens,
        names=prepared.labels.names,
        folder=folder,
    )
    shards = [shard for message in told for shard in message["shards"]]
    expected = int(prepared.counts(split).sum())
    if sum(shard["rows"] for shard in shards) != expected:
        raise DataError(
            f"{prepared.uri}/{split} holds {sum(s['rows'] for s in shards):,} rows, and its "
            f"manifest says {expected:,}: the folder was changed. Prepare it again."
        )
    return {"shards": sorted(shards, key=lambda shard: shard["name"])}


def _write_chunk(
    number: int,
    uri: str,
    chunks: list[Any],
    model_folder: str,
    max_tokens: int,
    names: Sequence[str],
    folder: str,
) -> dict[str, Any]:
    """Tokenizes one chunk of prepared rows into shards."""
    import ray

    parts: list[tuple[Part, ...]] = ray.get(chunks[0])
    fs, _ = storage.filesystem(uri)
    tables = [
        table
        for part in parts[number]
        for table in whole_batches(read_part(fs, "parquet", part, ["text", "label", "text_id"]))
    ]
    rows = pa.concat_tables(tables) if tables else pa.table({"text": pa.array([], pa.string())})
    encoder, labels = _encoder(model_folder, max_tokens), Labels(tuple(names))
    return {
        "shards": [
            _write_shard(rows.slice(start, SHARD_ROWS), encoder, labels, folder)
            for start in range(0, rows.num_rows, SHARD_ROWS)
        ]
    }


@cache
def _encoder(model_folder: str, max_tokens: int) -> Encoder:
    """The tokenizer, loaded once a process: Ray gives it task after task."""
    return Encoder(Path(model_folder), max_tokens)


def _write_shard(rows: pa.Table, encoder: Encoder, labels: Labels, folder: str) -> dict[str, Any]:
    encoded = encoder.encode(rows["text"].to_pylist())
    lengths = encoded.lengths
    ids = rows["text_id"].to_numpy()
    classes = labels.encode(rows["label"].to_pylist(), where="the prepared data")
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = np.concatenate(encoded.tokens)
    name = hashlib.blake2b(ids.tobytes() + classes.tobytes(), digest_size=12).hexdigest()
    shard = pa.table(
        {
            "text_id": ids,
            "label": classes,
            "length": lengths,
            "tokens": pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.int32())),
        }
    )
    fs, path = storage.filesystem(storage.join(folder, f"{name}.parquet"))
    pq.write_table(shard, path, filesystem=fs, compression="zstd")
    return {
        "name": f"{name}.parquet",
        "rows": rows.num_rows,
        "cut": int(encoded.truncated.sum()),
        "tokens": int(lengths.sum()),
    }


class TokenStore:
    """Reads a store: numbers of every row in memory (16 bytes a row), tokens as they are asked."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            index = storage.read_json(storage.join(uri, INDEX))
        except StorageError:
            raise DataError(f"The token store {uri} is gone; start the run again.") from None
        self.names = [shard["name"] for shard in index["shards"]]
        self.shard_rows: Sequence[int] = [shard["rows"] for shard in index["shards"]]
        self._starts = np.concatenate([[0], np.cumsum(self.shard_rows)]).astype(np.int64)
        columns = [self._columns(name) for name in self.names]
        self.text_ids: npt.NDArray[np.uint64] = _joined([c[0] for c in columns], np.uint64)
        self.labels: npt.NDArray[np.int32] = _joined([c[1] for c in columns], np.int32)
        self.lengths: npt.NDArray[np.int32] = _joined([c[2] for c in columns], np.int32)
        self._open: OrderedDict[int, tuple[TokenIds, npt.NDArray[np.int32]]] = OrderedDict()

    def read(self, rows: RowNumbers) -> list[TokenIds]:
        """The token ids of the given rows, in that order."""
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        found = []
        for row, shard in zip(rows, shards, strict=True):
            flat, offsets = self._tokens(int(shard))
            inside = row - self._starts[shard]
            found.append(flat[offsets[inside] : offsets[inside + 1]])
        return found

    def _tokens(self, shard: int) -> tuple[TokenIds, npt.NDArray[np.int32]]:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        table = self._table(self.names[shard], ["tokens"])
        tokens = table["tokens"].combine_chunks()
        self._open[shard] = (tokens.values.to_numpy(), tokens.offsets.to_numpy())
        if len(self._open) > WINDOW_SHARDS:
            self._open.popitem(last=False)
        return self._open[shard]

    def _columns(self, name: str) -> list[npt.NDArray[Any]]:
        table = self._table(name, ["text_id", "label", "length"])
        return [table[column].to_numpy() for column in ("text_id", "label", "length")]

    def _table(self, name: str, columns: list[str]) -> pa.Table:
        fs, path = storage.filesystem(storage.join(self.uri, name))
        return pq.read_table(path, columns=columns, filesystem=fs)


def _joined(parts: list[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)
