"""Checkpoints in object storage: the same as in a folder."""

from collections.abc import Iterator
from functools import partial

import pytest

from cluster import lease, storage
from cluster.errors import InUseError
from jobs.checkpoints import Shelf, best_sound, newest_sound
from jobs.classifier.checkpoint import Damaged, weights
from jobs.saving import Saver
from tests.integration import s3
from tests.unit.test_checkpoints import snapshot


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3.store() as uri:
        yield uri


def test_checkpoints_are_written_found_checked_thinned_out_and_fetched(bucket: str) -> None:
    shelf = Shelf(storage.join(bucket, "run", "checkpoints"))
    said: list[str] = []
    assert newest_sound(shelf, said.append) is None
    storage.write_bytes(f"{shelf.uri}/epoch-0000-step-00000002-00000000/model.safetensors", b"half")
    scores = (0.5, 0.9, 0.6)
    with Saver(shelf, keep=2, metric="macro_f1", tell=said.append) as saver:
        for epoch in (1, 2, 3):
            saver.save(partial(snapshot, epoch, scores=scores[:epoch]))
            saver.save(partial(snapshot, epoch, 10, scores=scores[:epoch]))
    names = shelf.names()
    assert [name[:24] for name in names] == [
        "epoch-0003-step-00000010",
        "epoch-0003-step-00000000",
        "epoch-0002-step-00000000",
    ]
    assert newest_sound(shelf, said.append) == names[0]
    best = best_sound(shelf, "macro_f1", said.append)
    assert best is not None
    assert best[0] == names[2]
    assert said == []
    with shelf.fetch(names[2]) as folder:
        assert weights(folder)["w"].tolist() == [2.0] * 1000
    place = f"{shelf.uri}/{names[0]}/optimizer.pt"
    data = bytearray(storage.read_bytes(place))
    data[len(data) // 2] ^= 1
    storage.write_bytes(place, bytes(data))
    with pytest.raises(Damaged, match=r"optimizer\.pt"), shelf.fetch(names[0]):
        pass
    assert newest_sound(shelf, said.append) == names[1]
    assert names[0] in said[0]


def test_a_run_holds_its_folder(bucket: str) -> None:
    uri = storage.join(bucket, "held")
    with lease.held(uri, "output"), pytest.raises(InUseError), lease.held(uri, "output"):
        pass
    with lease.held(uri, "output"):
        pass
