"""The registry in object storage: conditional puts against a server that speaks S3."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import claims, conditional, storage
from cluster.errors import ChangedError, StorageError
from cluster.registry import CHAMPION, Registry
from tests.integration import s3
from tests.unit import registering
from tests.unit.registering import COMMIT, folder_of, run


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3.store() as uri:
        yield uri


def test_a_file_is_written_only_over_what_the_writer_saw(bucket: str) -> None:
    uri = storage.join(bucket, "conditional", "a b+c.json")
    assert conditional.read(uri) is None
    assert conditional.put(uri, b"1", None)
    assert not conditional.put(uri, b"2", None)
    seen = conditional.read(uri)
    assert seen is not None
    assert (seen.data, storage.read_bytes(uri)) == (b"1", b"1")
    assert conditional.put(uri, b"3", seen)
    assert not conditional.put(uri, b"4", seen)
    assert conditional.put(uri, b"3", seen), "the answer to it may have got lost on the way"
    assert storage.read_bytes(uri) == b"3"
    storage.remove(storage.join(bucket, "conditional"))
    assert not conditional.put(uri, b"5", seen)
    assert conditional.read(uri) is None


def test_a_bucket_that_is_not_there_says_so(bucket: str) -> None:
    with pytest.raises(StorageError, match="there is no such bucket"):
        claims.claim("s3://no-such-bucket/registry/claims", {})


def test_of_promotions_at_once_none_is_lost_and_one_wins(bucket: str, tmp_path: Path) -> None:
    registering.check_promotions_at_once(storage.join(bucket, "registry"), tmp_path, 3, 3)


def test_uses_at_once_are_all_counted(bucket: str) -> None:
    uri = storage.join(bucket, "used")
    with registering.crew(3) as at_once:
        found = at_once(registering.use, [(uri, 5)] * 3)
    assert sorted(n for numbers in found for n in numbers) == list(range(1, 16))
    assert Registry(uri).uses("0123abcd") == 15


def test_an_alias_goes_back_and_its_changes_are_told(bucket: str, tmp_path: Path) -> None:
    registry, before = Registry(storage.join(bucket, "back")), None
    for name in "ab":
        version = registry.publish("router", folder_of(tmp_path / name, name), COMMIT)
        registry.point("router", CHAMPION, version, expected=before, reason=name)
        before = version
    assert registry.names() == ["router"]
    assert registry.roll_back("router", CHAMPION, reason="bad") == ("0002", "0001")
    assert registry.resolve("router")[0] == "0001"
    assert [entry["reason"] for entry in registry.history("router")] == ["a", "b", "bad"]
    with pytest.raises(ChangedError, match="is version 0001 now and no longer version 0002"):
        registry.point("router", CHAMPION, "0002", expected="0002", reason="late")


_DIES = """
import os, shutil, signal, sys
from pathlib import Path
from cluster.registry import Registry

copy = shutil.copyfileobj

def last(source, sink, length):
    if source.name.endswith("bundle.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    copy(source, sink, length)

shutil.copyfileobj = last
Registry(sys.argv[1]).publish("router", Path(sys.argv[2]), "bundle.json")
"""


def test_a_promotion_killed_before_its_commit_is_never_seen_and_blocks_nobody(
    bucket: str, tmp_path: Path
) -> None:
    registry = Registry(storage.join(bucket, "killed"))
    killed = run(_DIES, registry.uri, str(folder_of(tmp_path / "a", "a")))
    assert killed.wait(60) == -signal.SIGKILL
    assert storage.is_file(storage.join(registry.folder("router", "0001"), "weights"))
    assert registry.versions("router") == []
    with pytest.raises(StorageError, match="has no version 0001"):
        registry.point("router", CHAMPION, "0001", expected=None, reason="")
    assert registry.publish("router", folder_of(tmp_path / "b", "b"), COMMIT) == "0002"
    registry.point("router", CHAMPION, "0002", expected=None, reason="")
    assert registry.resolve("router")[0] == "0002"
