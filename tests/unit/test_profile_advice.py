"""What a profile tells: the advice it gives, its summary, and numbers in words."""

import random

import pytest

from jobs.classifier.encoding import Encoder
from jobs.profiling.figures import listing, several, share, times
from jobs.profiling.profile import summary
from tests.unit.profiling import EVEN, counts_of, profile_of, sample_of, sentence


def test_even_data_with_short_texts_gets_no_advice(encoder: Encoder) -> None:
    assert profile_of(EVEN, sample_of(["my mail is down"]), encoder)["advice"] == []


def test_uneven_classes_are_told_with_what_undersampling_keeps() -> None:
    train = {"a": 1000, "b": 500, "c": 90, "d": 10}
    assert profile_of(counts_of(train))["advice"] == [
        "Undersampling to the rarest keeps 2.5% of the rows; 18% with balance.min_rows 20 (the "
        "default); 94% with balance.max_ratio 10.",
        "1 class has fewer than 20 training rows: d.",
        "The largest class has 100 times the rows of the smallest: try balance.strategy "
        "class-weights or logit-adjustment, which keep every row.",
    ]


def test_undersampling_alone_is_told_where_the_ratio_is_small() -> None:
    assert profile_of(counts_of({"a": 300, "b": 30 + 27}))["advice"] == [
        "Undersampling to the rarest keeps 32% of the rows."
    ]


def test_of_many_rare_classes_the_rarest_five_are_named() -> None:
    train = {"big": 25} | {f"team {k}": 19 - k for k in range(12)}
    assert profile_of(counts_of(train))["advice"][-1] == (
        "12 classes have fewer than 20 training rows: team 11, team 10, team 9, team 8, team 7 "
        "and 7 more."
    )


def test_classes_that_a_split_lacks_are_named_but_not_where_the_whole_split_is_empty() -> None:
    counts = counts_of({"mail": 40, "network": 40, "printing": 40}, test=0)
    counts["network"]["validation"] = {"rows": 0, "texts": 0}
    assert profile_of(counts)["advice"] == [
        "1 class has no validation rows, so that nothing measures it there: network."
    ]
    del counts["mail"]["validation"]
    assert profile_of(counts)["advice"] == [
        "2 classes have no validation rows, so that nothing measures them there: mail and network."
    ]


def test_a_limit_that_cuts_much_is_told_with_one_that_does_not(encoder: Encoder) -> None:
    texts = [" ".join(["mail"] * words) for words in range(1, 51)]  # lengths of 3 to 52
    found = profile_of(EVEN, sample_of(texts), encoder, max_tokens=16)
    assert found["advice"] == [
        "72% of the texts are longer than model.max_tokens (16) and lose their end; "
        "model.max_tokens 64 would cut none."
    ]
    assert profile_of(EVEN, sample_of(texts), encoder, max_tokens=50)["advice"] == []


def test_a_limit_that_is_the_models_own_is_said_to_be_that(encoder: Encoder) -> None:
    texts = [" ".join(["mail"] * words) for words in (1, 500)]
    found = profile_of(EVEN, sample_of(texts), encoder, max_tokens=64)
    assert found["advice"] == [
        "50% of the texts are longer than model.max_tokens (64) and lose their end; the model "
        "reads no more."
    ]


def test_duplicates_conflicts_and_near_duplicates_are_told_where_they_are_many() -> None:
    words = random.Random(5)
    known = [sentence(words) for _ in range(40)]
    asked = [f"{known[0]} please", *(sentence(words) for _ in range(9))]
    found = profile_of(EVEN, sample_of(known, asked), duplicates=100, conflicts=4)
    assert found["advice"] == [
        "At least 10% of the validation and test texts have a near-duplicate in training: their "
        "scores are better than those of new texts will be.",
        "4 texts stand under several labels (2.0% of the distinct ones): conflicts/ lists them, "
        "and split.conflicts says what becomes of them.",
        "33% of the rows repeat a text that is there already (100 rows): was something exported "
        "twice?",
    ]
    assert profile_of(EVEN, sample_of(known, asked[1:]), duplicates=60, conflicts=2)["advice"] == []


def test_the_summary_of_thousands_of_labels_is_short_and_shows_both_ends() -> None:
    train = {f"team {k:04}": 1 + 30_000 // (k + 1) for k in range(3000)}
    lines = summary(profile_of(counts_of(train, validation=0, test=0)))
    assert len(lines) <= 45
    assert lines[1].startswith("team 0000")
    assert any(line.startswith("team 2999") for line in lines)
    assert any("2,983 labels between these" in line for line in lines)
    assert max(map(len, lines[:20])) < 110


def test_the_summary_says_every_figure(encoder: Encoder) -> None:
    counts = counts_of({"mail": 60, "network": 30, "printing": 10})
    lines = summary(profile_of(counts, sample_of(["my mail is down"] * 4), encoder, duplicates=3))
    text = "\n".join(lines)
    assert lines[1].split() == ["mail", "60", "5", "5", "█" * 24]
    assert "6 : 1 (mail 60, printing 10)" in text
    assert "2.5 of 3" in text
    assert "median 6, 95% up to 6, 99% up to 6, longest 6 (4 texts)" in text
    assert "max_tokens 8: 0% of the texts" in text
    assert "3 rows (2.3%)" in text
    assert lines[-1] == "  - 1 class has fewer than 20 training rows: printing."


def test_a_label_cannot_steer_the_terminal() -> None:
    lines = summary(profile_of(counts_of({"red\x1b[31m\nalert": 4, "支付" * 40: 400})))
    assert all(line.isprintable() for line in lines)
    assert lines[1].startswith("支付")
    assert "…" in lines[1]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0%"),
        (0.0004, "less than 0.1%"),
        (0.031, "3.1%"),
        (0.0996, "10%"),
        (0.27, "27%"),
        (0.9999, "more than 99%"),
        (1, "100%"),
        (None, "–"),
    ],
)
def test_a_share_is_neither_nothing_nor_all_unless_it_is(value: float | None, told: str) -> None:
    assert share(value) == told


def test_words_agree_with_their_numbers() -> None:
    assert several(1, "class", "classes") == "1 class"
    assert several(1200, "class", "classes") == "1,200 classes"
    assert [times(value) for value in (1, 4.25, 40.0, 1600)] == ["1", "4.2", "40", "1,600"]
    assert listing(["a"], 1) == "a"
    assert listing(["a", "b", "c"], 3) == "a, b and c"
    assert listing(["a", "b"], 9) == "a, b and 7 more"
