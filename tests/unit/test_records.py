"""Rows: what is read out of a table, and why a row is not fit for use."""

import unicodedata

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import records
from jobs.classifier.text import text_ids
from jobs.data_settings import Columns
from jobs.records import REASONS, Parsed, parse
from tests.unit.memory import STEADY

COLUMNS = Columns()


def parsed(texts: object, labels: object, **renamed: str) -> Parsed:
    return parse(pa.table({"text": texts, "label": labels}), COLUMNS, renamed=renamed)


def reasons(found: Parsed) -> list[str]:
    return [REASONS[code] for code in found.reasons]


def test_a_row_that_cannot_be_used_has_a_reason_and_the_text_comes_first() -> None:
    found = parsed(
        ["fine", None, " \t\n", "", "fine", "fine", None, "\x1c\u2003"],
        ["x", "x", "x", "x", None, " ", None, "x"],
    )
    assert reasons(found) == [
        "",
        "null text",
        "empty text",
        "empty text",
        "null label",
        "empty label",
        "null text",
        "empty text",
    ]
    assert found.fit.tolist() == [0]
    assert found.labels.to_pylist()[:5] == ["x", "x", "x", "x", None]


def test_a_text_longer_than_a_book_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_CHARACTERS", 5)
    # The third has five characters of two bytes each.
    assert reasons(parsed(["abcde", "abcdef", "äöüäö", "äöüäöü"], ["x"] * 4)) == [
        "",
        "over-long text",
        "",
        "over-long text",
    ]


@STEADY
@given(
    st.lists(
        st.text(
            st.sampled_from("ab 1~\x7f\t\n\x1c\u00a0é\u0301\u2003係か\u3099한\u11a8Ж€"), max_size=8
        ),
        max_size=20,
    )
)
def test_ids_are_those_of_the_normalised_texts_however_plain(texts: list[str]) -> None:
    found = parsed(pa.array(texts, pa.string()), pa.array(["x"] * len(texts), pa.string()))
    expected = text_ids(texts).tolist()
    usable = [bool(text.strip()) for text in texts]
    assert found.text_ids().tolist() == [
        number if ok else 0 for number, ok in zip(expected, usable, strict=True)
    ]
    assert (found.reasons == 0).tolist() == usable


def test_characters_of_a_plain_text_are_left_alone_by_nfc_whatever_stands_beside_them() -> None:
    # Without the surrogates, which no Arrow string holds.
    everything = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    matched = pc.match_substring_regex(pa.array(everything), records.PLAIN).to_pylist()
    plain = {character for character, ok in zip(everything, matched, strict=True) if ok}
    assert {*"az~é€ł", "ß", "Ж", "ё", "Ω", "係", "한", "ひ", "カ", "–", "\U0001f600"} <= plain
    assert not plain & {" ", "\u00a0", "\u0301", "\u3099", "\u037e", "\u0387", "\u1100", "\u2028"}
    for character in plain:
        assert not character.isspace()
        assert unicodedata.combining(character) == 0
        assert unicodedata.normalize("NFC", character) == character
    # What a pair composes to: its second half is never plain, so that no pair of these composes.
    pairs = [unicodedata.decomposition(character).split() for character in everything]
    second = {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and pair[0][0] != "<"}
    assert not plain & second


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
)
def test_texts_and_labels_may_be_strings_of_every_kind(kind: pa.DataType) -> None:
    texts = pa.array(["one", None, "two"]).cast(kind)
    labels = pa.array(["ß", "b", None]).cast(kind)
    found = parsed(texts, labels)
    assert found.texts.to_pylist() == ["one", None, "two"]
    assert found.labels.to_pylist() == ["ß", "b", None]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint8(), "dictionary"])
def test_labels_may_be_whole_numbers(kind: pa.DataType | str) -> None:
    plain = pa.array([7, None, 7])
    labels = plain.dictionary_encode() if kind == "dictionary" else plain.cast(kind)
    found = parsed(["a", "b", "c"], labels)
    assert found.labels.to_pylist() == ["7", None, "7"]


def test_tables_of_several_chunks_are_read_as_one() -> None:
    table = pa.concat_tables(
        [pa.table({"text": [text], "label": pa.array([text]).dictionary_encode()}) for text in "ab"]
    )
    found = parse(table, COLUMNS)
    assert found.labels.to_pylist() == ["a", "b"]
    assert found.texts.to_pylist() == ["a", "b"]


def test_columns_are_joined_by_one_newline_and_nulls_are_left_out() -> None:
    table = pa.table(
        {
            "subject": ["Printer", None, "", None],
            "body": ["no paper", "slow", "x", None],
            "more": pa.array([1, None, None, None], pa.int8()),
            "label": ["a"] * 4,
        }
    )
    found = parse(table, Columns(text=("subject", "body", "more")))
    assert found.texts.to_pylist() == ["Printer\nno paper\n1", "slow", "\nx", None]
    assert reasons(found) == ["", "", "", "null text"]


def test_labels_are_renamed_merged_and_dropped() -> None:
    found = parsed(["t"] * 5, ["a", "b", "c", "d", None], a="b", c="new", d="")
    assert found.labels.to_pylist() == ["b", "b", "new", "d", None]
    assert reasons(found) == ["", "", "", "dropped label", "null label"]


def test_a_new_name_is_not_looked_up_again() -> None:
    assert parsed(["t"] * 2, ["a", "b"], a="b", b="a").labels.to_pylist() == ["b", "a"]


def test_texts_can_be_read_without_labels() -> None:
    found = parse(pa.table({"text": ["a", None, " "]}), COLUMNS, labelled=False)
    assert reasons(found) == ["", "null text", "empty text"]


def test_an_empty_table_has_no_rows() -> None:
    none = pa.array([], pa.string())
    assert len(parsed(none, none).fit) == 0
    assert len(parsed(none, none).text_ids()) == 0
