"""Keys: the side that a row comes with, and columns that cannot be understood."""

import pyarrow as pa
import pytest

from cluster.errors import DataError
from jobs.data_settings import Columns
from jobs.keys import Reading, _parsed, given_sides
from jobs.sources import BadFile
from jobs.splits import FREE, TEST, VALIDATION

HOW = Reading("/a", "parquet", Columns(), {})


def table(split: object) -> pa.Table:
    rows = len(pa.array(split))
    return pa.table({"text": ["t"] * rows, "label": ["x"] * rows, "split": pa.array(split)})


def test_the_names_of_splits_are_read_whatever_their_case() -> None:
    found = given_sides(table(["train", " TEST", "val", "Dev"]), HOW, "/a/b")
    assert found.tolist() == [FREE, TEST, VALIDATION, VALIDATION]


def test_a_category_that_no_row_has_is_no_mistake() -> None:
    coded = pa.DictionaryArray.from_arrays(pa.array([1, 1]), pa.array(["holdout", "test"]))
    assert given_sides(table(coded), HOW, "/a/b").tolist() == [TEST, TEST]


@pytest.mark.parametrize(("split", "held"), [(["train", None], "nulls"), (["hold"], "'hold'")])
def test_another_name_is_refused_with_what_is_allowed(split: list[str], held: str) -> None:
    with pytest.raises(DataError, match=f"/a/b: the column 'split' holds {held}; it may hold"):
        given_sides(table(split), HOW, "/a/b")


def test_a_split_column_of_another_type_makes_a_bad_file() -> None:
    with pytest.raises(BadFile, match="/a/b holds a column that cannot be read"):
        _parsed(table([["train"]]), HOW, "/a/b")
