"""Prepared data, as a reader finds it: manifest, labels, counts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import DataError, StorageError
from jobs.classifier.labels import Labels
from jobs.preparation import FORMAT_VERSION


@dataclass(frozen=True)
class Prepared:
    """A prepared folder."""

    uri: str
    manifest: dict[str, Any]
    labels: Labels

    @property
    def digest(self) -> str:
        """What identifies the data: the manifest without where it lies and how it looks."""
        settings = {
            key: value
            for key, value in self.manifest["settings"].items()
            if key != "output" and not key.startswith("model.")
        }
        found = {key: value for key, value in self.manifest.items() if key != "profile"}
        return storage.digest(found | {"settings": settings})

    @property
    def text_columns(self) -> list[str]:
        return list(self.manifest["settings"]["columns.text"])

    def counts(self, split: str) -> npt.NDArray[np.int64]:
        """int64 [classes]: rows per class of a split."""
        return np.array(
            [self.manifest["labels"][name][split]["rows"] for name in self.labels.names], np.int64
        )

    def rows(self, split: str) -> tuple[list[str], list[str]]:
        """Texts and labels of a split, all in memory."""
        fs, path = storage.filesystem(storage.join(self.uri, split))
        table = pq.read_table(path, columns=["text", "label"], filesystem=fs)
        return table["text"].to_pylist(), table["label"].to_pylist()


def open_prepared(uri: str, *, key: str = "data") -> Prepared:
    """The prepared data at `uri`; DataError if it is none, or not whole."""
    try:
        manifest = storage.read_json(storage.join(uri, "manifest.json"))
        names = storage.read_json(storage.join(uri, "labels.json"))
    except StorageError:
        there = "exists but holds no" if storage.exists(uri) else "does not exist: there is no"
        raise DataError(
            f"--{key} {uri} {there} manifest.json. Make prepared data with python -m jobs.prepare "
            "--source URI --output URI."
        ) from None
    found = manifest.get("format_version")
    if found != FORMAT_VERSION:
        raise DataError(
            f"--{key} {uri} is prepared data of format {found}; this version reads "
            f"{FORMAT_VERSION}. Prepare it again."
        )
    return Prepared(uri, manifest, Labels(tuple(names)))
