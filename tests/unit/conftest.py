"""What unit tests share: a small model, its tokenizer, a registry of it, a keeper; one thread; a
file of settings; a bucket that is a folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
import torch

from cluster import storage
from cluster.registry import CHAMPION, Registry
from jobs.classifier.encoding import Encoder
from jobs.classifier.predictor import Predictions, Predictor
from serve import keeper as keeping
from serve.keeper import Keeper
from serve.keyring import Keyring
from serve.models import Loaded, load
from tests.unit.asking import TEXTS, Ask, asker
from tests.unit.keeping import Loader, Shelf


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Encoder:
    """The tiny model's tokenizer, which cuts at 8 tokens."""
    return Encoder(tiny_model, 8)


@pytest.fixture(scope="session")
def loaded(tiny_bundle: Path) -> Loaded:
    """A model of three labels with the name `tickets`."""
    return load(str(tiny_bundle), "tickets", precision="fp32", threads=1)


@pytest.fixture(scope="session")
def right(tiny_bundle: Path) -> Predictions:
    """Its answers for TEXTS."""
    return Predictor(tiny_bundle).predict(TEXTS)


@pytest.fixture
def ask(loaded: Loaded) -> Ask:
    """Sends one request to an endpoint of its own."""
    return asker(loaded)


@pytest.fixture(scope="session")
def schema(loaded: Loaded) -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = asker(loaded)("GET", "/openapi.json").json()
    return found


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def ring() -> Keyring:
    return Keyring(())


@pytest.fixture
def keeper(
    shelf: Shelf, loader: Loader, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Keeper]:
    monkeypatch.setattr(keeping, "KEYS_POLL_S", 0.02)
    made = Keeper(loader, shelf, ring)
    yield made
    loader.gate.set()
    made.close()


@pytest.fixture
def damaged(tmp_path: Path, make_bundle: Callable[..., Path]) -> Path:
    made = make_bundle(tmp_path / "damaged")
    with (made / "model.safetensors").open("ab") as file:
        file.write(b"x")
    return made


@pytest.fixture
def registry(tmp_path: Path, tiny_bundle: Path) -> Registry:
    """Two versions of a model called tickets, the second of them champion."""
    made = Registry(str(tmp_path / "registry"))
    for before in (None, "0001"):
        version = made.publish("tickets", tiny_bundle, "bundle.json")
        made.point("tickets", CHAMPION, version, expected=before, reason="")
    return made


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], str]:
    """Writes a file of settings and names it."""

    def write(text: str) -> str:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the objects of s3://bucket."""
    folder = tmp_path / "objects" / "bucket"
    folder.mkdir(parents=True)
    inside = pafs.SubTreeFileSystem(str(folder.parent), pafs.LocalFileSystem())
    local = storage.filesystem

    def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
        return (inside, uri.removeprefix("s3://")) if uri.startswith("s3://") else local(uri)

    monkeypatch.setattr(storage, "filesystem", filesystem)
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in one order, and no threads to wake for a model this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
