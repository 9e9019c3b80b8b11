"""The token store: every text tokenized once, read by all workers of all runs that share it.

Ray Data streams the prepared rows through a pool of tokenizers; each task writes one shard. The
store is keyed by manifest, tokenizer and `model.max_tokens`, lies below the prepared data, and is
whole when its `index.json` is there. A shard is Parquet: text_id uint64, label int32, length
int32, tokens list<int32>.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import resources, storage
from cluster.errors import DataError, StorageError
from cluster.session import say
from jobs.classifier.batches import WINDOW_SHARDS, RowNumbers
from jobs.classifier.encoding import Encoder, TokenIds
from jobs.classifier.labels import Labels
from jobs.prepared import Prepared
from jobs.records import dataset
from jobs.sources import open_source

INDEX = "index.json"
SHARD_ROWS = 8192


class _Tokenize:
    """Turns a batch of prepared rows into one shard; one a pool actor."""

    def __init__(self, model_folder: str, max_tokens: int, names: Sequence[str], folder: str):
        self.encoder = Encoder(Path(model_folder), max_tokens)
        self.labels = Labels(tuple(names))
        self.folder = folder

    def __call__(self, table: pa.Table) -> pa.Table:
        texts = table["text"].to_pylist()
        encoded = self.encoder.encode(texts)
        lengths = encoded.lengths
        ids = table["text_id"].to_numpy()
        labels = self.labels.encode(table["label"].to_pylist(), where="the prepared data")
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        flat = np.concatenate(encoded.tokens) if encoded.tokens else np.zeros(0, np.int32)
        name = hashlib.blake2b(ids.tobytes() + labels.tobytes(), digest_size=12).hexdigest()
        shard = pa.table(
            {
                "text_id": ids,
                "label": labels,
                "length": lengths,
                "tokens": pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.int32())),
            }
        )
        fs, path = storage.filesystem(storage.join(self.folder, f"{name}.parquet"))
        pq.write_table(shard, path, filesystem=fs, compression="zstd")
        return pa.table(
            {
                "name": [f"{name}.parquet"],
                "rows": [len(texts)],
                "cut": [int(encoded.truncated.sum())],
                "tokens": [int(lengths.sum())],
            }
        )


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
    try:
        with storage.staging(uri, [INDEX]) as folder:
            index = _write_shards(prepared, split, model_folder, max_tokens, folder)
            storage.write_json(storage.join(folder, INDEX), index)
    except StorageError:
        # Another run published the same store meanwhile: content and name are the same.
        if not storage.exists(storage.join(uri, INDEX)):
            raise
    return uri


def _write_shards(
    prepared: Prepared, split: str, model_folder: Path, max_tokens: int, folder: str
) -> dict[str, Any]:
    import ray

    fs, path = storage.filesystem(folder)
    fs.create_dir(path, recursive=True)
    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
    claim = resources.pool_cpus()
    rows = dataset(open_source(storage.join(prepared.uri, split)), ["text", "label", "text_id"])
    told = rows.map_batches(
        _Tokenize,
        batch_format="pyarrow",
        batch_size=SHARD_ROWS,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=cpus),
        num_cpus=claim,
        fn_constructor_args=(str(model_folder), max_tokens, prepared.labels.names, folder),
    )
    shards = [
        shard
        for batch in told.iter_batches(batch_format="pyarrow", batch_size=None)
        for shard in batch.to_pylist()
    ]
    expected = int(prepared.counts(split).sum())
    if sum(shard["rows"] for shard in shards) != expected:
        raise DataError(
            f"{prepared.uri}/{split} holds {sum(s['rows'] for s in shards):,} rows, and its "
            f"manifest says {expected:,}: the folder was changed. Prepare it again."
        )
    return {"shards": sorted(shards, key=lambda shard: shard["name"])}


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
