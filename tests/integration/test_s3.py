"""What the rest relies on in object storage: pyarrow against a server that speaks S3."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import publishing, storage
from cluster.errors import StorageError
from tests.integration import s3


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3.store() as uri:
        yield uri


def test_small_files_are_written_listed_read_and_removed(bucket: str) -> None:
    folder = storage.join(bucket, "small", "team=mail")
    names = ["a.json", "deeper/b.json", "deeper/_hidden.json", "c+d.json"]
    assert not storage.exists(folder)
    publishing.refuse_used(folder)
    for name in names:
        storage.write_json(storage.join(folder, name), {"name": name})
    assert storage.is_file(storage.join(folder, "a.json"))
    assert storage.list_files(folder, ".json") == [
        (f"{s3.BUCKET}/small/team=mail/{name}", len(f'{{\n "name": "{name}"\n}}\n'))
        for name in ("a.json", "c+d.json", "deeper/b.json")
    ]
    assert storage.read_json(storage.join(folder, "c+d.json")) == {"name": "c+d.json"}
    with pytest.raises(StorageError, match="already holds files"):
        publishing.refuse_used(folder)
    storage.remove(folder)
    assert not storage.exists(folder)
    assert storage.list_files(folder) == []
    storage.remove(folder)


def test_a_file_of_several_parts_comes_back_whole(bucket: str) -> None:
    uri = storage.join(bucket, "large", "file")
    data = bytes(range(256)) * 4096 * 25  # 25 MiB; a part is 10 MiB at most
    storage.write_bytes(uri, data)
    fs, path = storage.filesystem(uri)
    assert fs.get_file_info(path).size == len(data)
    with fs.open_input_file(path) as file:
        assert file.read() == data
        assert file.read_at(5, len(data) - 300) == data[-300:-295]
    fs.copy_file(path, f"{path}-2")
    fs.move(f"{path}-2", f"{path}-3")
    fs.delete_file(path)
    assert storage.list_files(storage.join(bucket, "large")) == [(f"{path}-3", len(data))]


def test_parquet_is_written_and_read_in_place(bucket: str) -> None:
    fs, path = storage.filesystem(storage.join(bucket, "tickets"))
    table = pa.table({"text": ["the vpn is down", "打印机"], "label": ["network", "printing"]})
    fs.create_dir(path, recursive=True)
    for number in range(3):
        pq.write_table(table, f"{path}/{number}.parquet", filesystem=fs, compression="zstd")
    assert pq.read_schema(f"{path}/0.parquet", filesystem=fs) == table.schema
    assert pq.read_table(path, filesystem=fs, columns=["label"]).num_rows == 6


def test_a_folder_goes_up_and_comes_down(bucket: str, tmp_path: Path) -> None:
    folder, uri = tmp_path / "up", storage.join(bucket, "published")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "weights").write_bytes(b"\x00" * 100_000)
    (folder / "manifest.json").write_text("{}")
    publishing.publish(folder, uri, "manifest.json")
    storage.download(uri, tmp_path / "down")
    for name in ("deep/weights", "manifest.json"):
        assert (tmp_path / "down" / name).read_bytes() == (folder / name).read_bytes()


def test_a_bucket_that_is_not_there_says_so(bucket: str) -> None:
    assert not storage.exists("s3://no-such-bucket/data")
    with pytest.raises(StorageError, match="no-such-bucket"):
        storage.write_bytes("s3://no-such-bucket/data/file", b"")
