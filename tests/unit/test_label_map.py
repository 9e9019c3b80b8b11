"""Label maps: JSON or CSV, and what is refused."""

from pathlib import Path

import pytest

from cluster.errors import DataError, StorageError
from jobs.label_map import read_label_map


@pytest.mark.parametrize(
    "content",
    [
        '{"Net, old": "Net", "closed": "", "gone": null}',
        '\ufeffold,new\n"Net, old",Net\nclosed,\n\ngone,\n',
        '"Net, old",Net\nclosed,\ngone,\n',
        'old, new\n"Net, old", Net\nclosed, \ngone, \n',
    ],
)
def test_a_map_is_json_or_csv_and_an_empty_name_drops(tmp_path: Path, content: str) -> None:
    (tmp_path / "map").write_text(content)
    assert read_label_map(f"{tmp_path}/map") == {"Net, old": "Net", "closed": "", "gone": ""}


def test_no_map_renames_nothing() -> None:
    assert read_label_map(None) == {}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": 1}', "the new name of 'a' is 1; give a string, or null"),
        (b'["a"]', "has 1 columns; give two"),
        (b'{"a": ', "is not valid JSON"),
        (b"a,b,c\n", "'a,b,c' has 3 columns; give two"),
        (b"a,b\na,c\n", "gives 'a' two new names"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "map").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_label_map(f"{tmp_path}/map")


def test_a_map_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        read_label_map(f"{tmp_path}/none")
