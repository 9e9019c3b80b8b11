"""The profile of prepared data: numbers that can be reckoned by hand, and the advice they give."""

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.classifier.encoding import Encoder
from jobs.profiling import lengths
from jobs.profiling.figures import listing, several, share, times
from jobs.profiling.near_duplicates import near_duplicates
from jobs.profiling.profile import describe, summary
from tests.unit.memory import STEADY

WORDS = ["vpn", "printer", "paper", "login", "password", "server", "disk", "invoice", "mail"]


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Encoder:
    return Encoder(tiny_model, 8)


def counts_of(
    train: Mapping[str, int], validation: int = 5, test: int = 5
) -> dict[str, dict[str, dict[str, int]]]:
    sides = {"validation": validation, "test": test}
    return {
        label: {
            split: {"rows": count, "texts": count}
            for split, count in ({"train": rows} | sides).items()
        }
        for label, rows in train.items()
    }


def sample_of(train: list[str], validation: list[str] | None = None) -> pa.Table:
    asked = validation or []
    splits = ["train"] * len(train) + ["validation"] * len(asked)
    return pa.table({"text": pa.array([*train, *asked], pa.string()), "split": splits})


def profile_of(
    counts: dict[str, dict[str, dict[str, int]]],
    sample: pa.Table | None = None,
    encoder: Encoder | None = None,
    **given: int,
) -> dict[str, Any]:
    rows = sum(side["rows"] for label in counts.values() for side in label.values())
    numbers = {"rows": rows, "duplicates": 0, "conflicts": 0, "max_tokens": 8, "seed": 0} | given
    return describe(counts, sample_of([]) if sample is None else sample, encoder=encoder, **numbers)


def sentence(words: random.Random) -> str:
    return " ".join(
        "".join(words.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(words.randint(3, 9)))
        for _ in range(12)
    )


EVEN = counts_of({"mail": 100, "network": 90, "printing": 80})


def test_ratio_and_effective_classes_are_those_of_the_training_rows() -> None:
    found = profile_of(counts_of({"mail": 60, "network": 30, "printing": 10}))
    assert found["largest"] == {"label": "mail", "rows": 60}
    assert found["smallest"] == {"label": "printing", "rows": 10}
    assert found["ratio"] == 6
    entropy = -(0.6 * math.log(0.6) + 0.3 * math.log(0.3) + 0.1 * math.log(0.1))
    assert found["effective_classes"] == pytest.approx(math.exp(entropy))
    assert (found["classes"], found["rows"], found["train_rows"]) == (3, 130, 100)
    assert found["undersampled_share"] == pytest.approx(0.3)


@STEADY
@given(st.integers(2, 300), st.integers(1, 10**6))
def test_equal_classes_are_as_effective_as_they_are_many(classes: int, rows: int) -> None:
    found = profile_of(counts_of({f"team {k}": rows for k in range(classes)}))
    assert found["effective_classes"] == pytest.approx(classes)
    assert found["ratio"] == 1


def test_a_class_without_training_rows_is_counted_and_left_out_of_the_shares() -> None:
    found = profile_of(counts_of({"mail": 40, "network": 40, "new": 0}))
    assert found["classes"] == 3
    assert found["ratio"] == 1
    assert found["effective_classes"] == pytest.approx(2)
    assert found["without"]["train"] == {"classes": 1, "labels": ["new"]}


def test_each_strategy_says_what_it_leaves() -> None:
    found = {o["name"]: o for o in profile_of(counts_of({"a": 400, "b": 100, "c": 30}))["balance"]}
    assert found["none"]["rows"] == 530
    assert found["none"]["per_class"] is None
    assert found["none"]["loss"] == "plain"
    assert found["undersample"]["per_class"] == [30, 30, 30]
    assert found["undersample"]["share"] == pytest.approx(90 / 530)
    assert found["undersample, max_ratio 10"]["per_class"] == [300, 100, 30]
    assert found["oversample"]["per_class"] == [400, 400, 400]
    assert found["class-weights"]["loss"] == "weighted"
    assert found["logit-adjustment"]["loss"] == "adjusted"
    # No class has fewer than 20 rows, so that "to the rarest" is what the defaults do anyway.
    assert "undersample, min_rows 1" not in found


def test_undersampling_strictly_to_the_rarest_is_shown_where_the_default_is_milder() -> None:
    found = {o["name"]: o for o in profile_of(counts_of({"a": 400, "b": 100, "c": 4}))["balance"]}
    assert found["undersample"]["per_class"] == [100, 100, 4]
    assert found["undersample, min_rows 1"]["per_class"] == [4, 4, 4]
    assert found["undersample, min_rows 1"]["settings"] == {
        "balance.strategy": "undersample",
        "balance.min_rows": 1,
    }


def test_lengths_are_those_before_any_cut_and_the_encoder_keeps_its_limit(encoder: Encoder) -> None:
    texts = [" ".join(["mail"] * words) for words in (1, 2, 3, 5, 9)]
    assert lengths.count(texts, encoder).tolist() == [3, 4, 5, 7, 11]
    assert encoder.encode(texts).lengths.tolist() == [3, 4, 5, 7, 8]


def test_percentiles_and_the_share_that_is_cut(encoder: Encoder) -> None:
    # 1 to 100 words, and two special tokens: lengths of 3 to 102.
    texts = [" ".join(["mail"] * words) for words in range(1, 101)]
    found = profile_of(EVEN, sample_of(texts), encoder, max_tokens=42)["lengths"]
    assert [found[key] for key in ("p50", "p90", "p95", "p99", "max")] == [52, 92, 97, 101, 102]
    assert found["mean"] == pytest.approx(52.5)
    assert found["rows"] == 100
    assert found["cut_share"] == pytest.approx(0.6)  # lengths of 43 to 102
    assert found["cut_tokens_share"] == pytest.approx(sum(range(1, 61)) / 5250)
    # 64 is what the tiny model can read: nothing beyond it is offered.
    assert found["limits"] == [
        {"max_tokens": 32, "cut_share": pytest.approx(0.7)},
        {"max_tokens": 42, "cut_share": pytest.approx(0.6)},
        {"max_tokens": 64, "cut_share": pytest.approx(0.38)},
    ]


@STEADY
@given(st.lists(st.integers(2, 3000), min_size=1, max_size=200), st.integers(4, 600))
def test_the_histogram_holds_every_text_and_no_bar_is_both_cut_and_whole(
    found: list[int], max_tokens: int
) -> None:
    drawn = lengths.histogram(np.array(found), max_tokens)
    edges, counts = drawn["edges"], drawn["counts"]
    assert sum(counts) == len(found)
    assert len(edges) == len(counts) + 1 <= 54
    assert edges == sorted(set(edges))
    cut = sum(n for left, n in zip(edges, counts, strict=False) if left >= max_tokens)
    if edges[-2] >= max_tokens:
        assert cut == sum(length > max_tokens for length in found)


def test_of_long_texts_fewer_are_measured(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lengths, "CHARACTERS", 1000)
    assert lengths.measure(["mail mail"] * 300, encoder, 8)["rows"] == 111
    assert lengths.measure(["mail " * 50] * 300, encoder, 8)["rows"] == 100


def test_without_a_tokenizer_there_are_no_lengths() -> None:
    found = profile_of(EVEN, sample_of(["my mail is down"]))
    assert found["lengths"] is None
    assert any("not measured" in line for line in summary(found))


def test_planted_near_duplicates_are_found_and_nothing_else() -> None:
    words = random.Random(3)
    known = [sentence(words) for _ in range(300)]
    planted = {
        "one letter less": known[0][:-1],
        "in capitals": known[1].upper(),
        "other white space": known[2].replace(" ", " \n "),
        "a word more": f"{known[3]} please",
        "a typing error": known[4].replace("a", "e", 1),
    }
    fresh = [sentence(words) for _ in range(50)]
    assert near_duplicates(list(planted.values()), known).tolist() == [True] * len(planted)
    assert not near_duplicates(fresh, known).any()


def test_the_threshold_is_the_jaccard_index_of_the_trigrams() -> None:
    # " abcdefgh " has the trigrams " ab" … "gh ": 8. "abcdefghi" shares 7 of them and has 9: 7/10.
    asked, known = ["abcdefghi"], ["abcdefgh"]
    assert near_duplicates(asked, known, threshold=0.7).tolist() == [True]
    assert near_duplicates(asked, known, threshold=0.71).tolist() == [False]


def test_likeness_works_in_scripts_without_spaces_and_for_the_shortest_texts() -> None:
    known = ["支付系统无法登录请尽快处理谢谢大家", "打印机没有纸了请派人来看一下好吗", "?"]
    asked = ["支付系统无法登录请尽快处理谢谢大家!", "虚拟专用网络今天早上断开连接三次", "?", "!"]
    assert near_duplicates(asked, known).tolist() == [True, False, True, False]
    assert near_duplicates([], known).tolist() == []
    assert near_duplicates(asked, []).tolist() == [False] * 4


def test_near_duplicates_are_shared_over_the_texts_that_were_looked_at() -> None:
    words = random.Random(5)
    known = [sentence(words) for _ in range(40)]
    asked = [f"{known[0]} please", *(sentence(words) for _ in range(9))]
    found = profile_of(EVEN, sample_of(known * 2, asked))["near_duplicates"]
    assert found["share"] == pytest.approx(0.1)
    assert found["asked"] == {"validation": 10, "test": 0}
    assert found["found"] == {"validation": 1, "test": 0}
    assert found["known"] == 40  # a repeated text is looked at once


def test_the_profile_does_not_depend_on_the_order_of_the_sample(encoder: Encoder) -> None:
    words = random.Random(7)
    sample = sample_of([sentence(words) for _ in range(60)], [sentence(words) for _ in range(20)])
    turned = sample.take(list(reversed(range(sample.num_rows))))
    assert profile_of(EVEN, sample, encoder) == profile_of(EVEN, turned, encoder)


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


def test_the_profile_goes_through_json_and_holds_no_text(encoder: Encoder) -> None:
    sample = sample_of(["a secret of somebody's", "my mail is down"], ["a secret of somebody"])
    found = profile_of(counts_of({"支付": 9, "Söhne": 400}), sample, encoder)
    told = json.dumps(found, allow_nan=False, ensure_ascii=False)
    assert json.loads(told) == found
    assert "secret" not in told


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
