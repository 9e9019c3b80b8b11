"""The profile of prepared data: numbers that can be reckoned by hand."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.classifier.encoding import Encoder
from jobs.profiling import lengths
from jobs.profiling.near_duplicates import near_duplicates
from jobs.profiling.profile import summary
from tests.unit.memory import STEADY
from tests.unit.profiling import EVEN, counts_of, profile_of, sample_of, sentence


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


def test_the_profile_goes_through_json_and_holds_no_text(encoder: Encoder) -> None:
    sample = sample_of(["a secret of somebody's", "my mail is down"], ["a secret of somebody"])
    found = profile_of(counts_of({"支付": 9, "Söhne": 400}), sample, encoder)
    told = json.dumps(found, allow_nan=False, ensure_ascii=False)
    assert json.loads(told) == found
    assert "secret" not in told
