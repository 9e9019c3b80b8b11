"""Sources: which files, in which format, in which chunks."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataError
from jobs import sources, text_files
from jobs.sources import BadFile, File, Source, base, open_source, read_part
from tests.unit.memory import STEADY

FS = pafs.LocalFileSystem()


def put(path: Path, rows: int = 2, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = columns or {"text": ["t"] * rows, "label": ["x"] * rows}
    pq.write_table(pa.table(columns), path)
    return path


def read(source: Source, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return [
        row
        for chunk in source.chunks()
        for part in chunk
        for table in read_part(FS, source.format, part, columns)
        for row in table.to_pylist()
    ]


def names(source: Source, folder: Path) -> list[str]:
    return [str(Path(file.path).relative_to(folder)) for file in source.files]


def test_a_source_is_a_file_a_folder_or_a_glob(tmp_path: Path) -> None:
    for name in ("2025/a.parquet", "2025/b.parquet", "2026/deep/a.parquet", "2026/_x/c.parquet"):
        put(tmp_path / name)
    (tmp_path / "README.txt").write_text("not data")

    def found(uri: str) -> list[str]:
        return names(open_source(f"{tmp_path}/{uri}".rstrip("/")), tmp_path)

    everything = ["2025/a.parquet", "2025/b.parquet", "2026/deep/a.parquet"]
    assert found("") == everything
    assert found("2025/b.parquet") == ["2025/b.parquet"]
    assert found("*") == found("**") == found("20*") == everything
    assert found("2025/*.parquet") == everything[:2]
    assert found("2026/**/*.parquet") == everything[2:]
    assert found("20?5/[ab].parquet") == everything[:2]
    assert found("20?5/[!a].parquet") == ["2025/b.parquet"]
    assert found("2026") == everything[2:]
    with pytest.raises(DataError, match=r"2026/\*\.parquet matches no file"):
        found("2026/*.parquet")


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("/a/b", "/a/b"),
        ("/a/b*/c", "/a"),
        ("/a/b/*.parquet", "/a/b"),
        ("s3://bucket/in/2026-[01]?/x", "s3://bucket/in"),
        ("s3://bucket/*", "s3://bucket"),
    ],
)
def test_what_has_to_exist_is_what_stands_before_the_first_wildcard(uri: str, place: str) -> None:
    assert base(uri) == place


def test_folders_that_say_key_and_value_give_columns(tmp_path: Path) -> None:
    put(tmp_path / "team=net%20work/year=2026/a.parquet", text=["one"])
    put(tmp_path / "team=__HIVE_DEFAULT_PARTITION__/year=2026/a.parquet", text=["two"])
    source = open_source(str(tmp_path))
    assert source.schema.names == ["text", "team", "year"]
    assert read(source, ["team", "text"]) == [
        {"team": None, "text": "two"},
        {"team": "net work", "text": "one"},
    ]
    assert read(source)[1] == {"text": "one", "team": "net work", "year": "2026"}


def test_a_bad_file_is_named_or_left_out(tmp_path: Path) -> None:
    good = put(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(good.read_bytes()[:-20])
    (tmp_path / "c.parquet").write_text("something else")
    with pytest.raises(DataError, match=r"--source .*/b\.parquet is not a readable Parquet file: "):
        open_source(str(tmp_path))
    source = open_source(str(tmp_path), on_bad_file="skip")
    assert names(source, tmp_path) == ["a.parquet"]
    assert [Path(bad.path).name for bad in source.bad] == ["b.parquet", "c.parquet"]
    good.unlink()
    with pytest.raises(DataError, match=r"b\.parquet is not a readable"):
        open_source(str(tmp_path), on_bad_file="skip")


def test_a_file_that_breaks_in_the_middle_or_lacks_a_column_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet", text=[f"{k} " * 50 for k in range(5000)])
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    middle = len(data) // 3
    data[middle : middle + 200] = b"\xff" * 200
    (tmp_path / "a.parquet").write_bytes(bytes(data))
    source = open_source(str(tmp_path))
    with pytest.raises(BadFile, match=r"a\.parquet cannot be read to its end: "):
        read(source, ["text"])
    with pytest.raises(BadFile, match=r"has no column 'team'\. It has: text"):
        read(source, ["team"])


def test_a_file_of_no_rows_is_a_good_file(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet")
    with pq.ParquetWriter(tmp_path / "b.parquet", pq.read_schema(tmp_path / "a.parquet")):
        pass
    put(tmp_path / "c.parquet", rows=0)
    source = open_source(str(tmp_path))
    assert len(source.files) == 3
    assert len(read(source)) == 2


def test_long_texts_come_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.parquet", text=[f"{k} " * 500 for k in range(1000)])
    monkeypatch.setattr(sources, "BATCH_BYTES", 100_000)
    (part,) = (part for chunk in open_source(str(tmp_path)).chunks() for part in chunk)
    sizes = [table.num_rows for table in read_part(FS, "parquet", part)]
    assert sum(sizes) == 1000
    assert 64 <= max(sizes) < 200


def test_a_place_that_is_called_like_a_glob_is_found(tmp_path: Path) -> None:
    put(tmp_path / "exp[1]" / "a*.parquet")
    assert len(read(open_source(f"{tmp_path}/exp[1]"))) == 2
    assert len(read(open_source(f"{tmp_path}/exp[1]/a*.parquet"))) == 2
    with pytest.raises(DataError, match="matches no file"):
        open_source(f"{tmp_path}/*[abc")


def test_the_schema_is_that_of_most_files(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet", other=[1])
    put(tmp_path / "b.parquet")
    put(tmp_path / "c.parquet")
    assert open_source(str(tmp_path)).schema.names == ["text", "label"]


@STEADY
@given(st.lists(st.lists(st.integers(0, 400_000), max_size=5), min_size=1, max_size=8))
def test_every_row_group_stands_in_exactly_one_chunk_of_a_bearable_size(
    files: list[list[int]],
) -> None:
    made = tuple(
        File(f"f{k}", 1, ("text",), tuple((rows, rows * 100) for rows in groups) or ((0, 0),))
        for k, groups in enumerate(files)
    )
    chunks = Source("/x", "parquet", made, pa.schema([])).chunks()
    found = [(part.file.path, group) for chunk in chunks for part in chunk for group in part.groups]
    assert found == [(file.path, k) for file in made for k in range(len(file.groups))]
    for chunk in chunks:
        sizes = [part.file.groups[group][0] for part in chunk for group in part.groups]
        assert sum(sizes) <= sources.CHUNK_ROWS or sum(size > 0 for size in sizes) == 1


def test_csv_and_json_lines_are_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text(
        'text,label,n\n"first\nline, two",007,1\n"say ""hi""",08,\n'
    )
    source = open_source(f"{tmp_path}/csv")
    assert source.format == "csv"
    assert read(source, ["text", "label"]) == [
        {"text": "first\nline, two", "label": "007"},
        {"text": 'say "hi"', "label": "08"},
    ]
    lines = [{"text": "a", "label": 1}, {"label": 2, "text": None, "more": {"k": [1]}}]
    packed = gzip.compress("\n\n".join(map(json.dumps, lines)).encode())
    (tmp_path / "x.jsonl.gz").write_bytes(packed)
    found = open_source(f"{tmp_path}/x.jsonl.gz")
    assert read(found) == [
        {"text": "a", "label": 1, "more": None},
        {"text": None, "label": 2, "more": '{"k": [1]}'},
    ]
    (tmp_path / "t.tsv").write_text("text\tlabel\na,b\tc\n")
    assert read(open_source(f"{tmp_path}/t.tsv")) == [{"text": "a,b", "label": "c"}]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', "line 2 is no JSON object"),
        ("a.jsonl", "\n\n", "it holds no object"),
        ("a.csv", "text,label\na,b\nc\n", "Expected 2 columns, got 1"),
        ("a.csv", "", "Empty CSV file"),
    ],
)
def test_a_text_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: str, problem: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises((DataError, BadFile), match=problem):
        read(open_source(f"{tmp_path}/{name}"))


def test_a_json_column_that_changes_its_type_is_named_with_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "HEAD_ROWS", 1)
    (tmp_path / "a.jsonl").write_text('{"label": 1}\n{"label": "x"}\n')
    with pytest.raises(BadFile, match="'label' changes its type between line 1 and 2"):
        read(open_source(f"{tmp_path}/a.jsonl"))


def test_formats_are_not_mixed_but_parquet_comes_before_all(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match=r"holds CSV and JSON lines files. Name those of one"):
        open_source(str(tmp_path))
    put(tmp_path / "c.parquet")
    assert names(open_source(str(tmp_path)), tmp_path) == ["c.parquet"]


def test_a_file_of_an_unknown_ending_is_taken_for_parquet(tmp_path: Path) -> None:
    put(tmp_path / "data.parquet").rename(tmp_path / "data")
    assert len(read(open_source(f"{tmp_path}/data"))) == 2
    with pytest.raises(DataError, match=r"holds no \.parquet file, and no \.csv"):
        open_source(str(tmp_path))
