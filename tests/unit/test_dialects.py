"""From answers to the shapes that clients speak, without HTTP."""

import numpy as np
import pytest

from jobs.classifier.predictor import Predictions
from serve import dialects
from serve.errors import Empty, RequestError, TooLarge, shown
from serve.schema import Prediction
from serve.settings import Limits

LABELS = ["mail", "network", "printing", "access"]


def found(scores: list[list[float]], labels: list[int] | None = None) -> Predictions:
    """Answers with these scores; the labels are their argmax unless given."""
    table = np.array(scores, dtype=np.float32)
    chosen = table.argmax(axis=1) if labels is None else np.array(labels)
    return Predictions(
        labels=chosen.astype(np.int64),
        scores=table,
        abstained=table.max(axis=1) < 0.5,
        truncated=np.arange(len(table)) % 2 == 1,
        logits=table * 10 - 5,
    )


def named(answer: Prediction) -> list[str]:
    return [a.label for a in answer.alternatives]


def test_alternatives_fall_and_begin_with_the_label() -> None:
    one, two = dialects.predictions(
        found([[0.1, 0.5, 0.25, 0.15], [0.4, 0.3, 0.2, 0.1]]), LABELS, top_k=3, min_score=0.0
    )
    assert named(one) == ["network", "printing", "access"]
    assert named(two) == ["mail", "network", "printing"]
    assert (one.label, one.score, one.abstained, one.truncated) == ("network", 0.5, False, False)
    assert (two.label, two.abstained, two.truncated) == ("mail", True, True)
    assert two.score == pytest.approx(0.4)


def test_the_label_comes_first_even_where_it_has_the_lowest_score_of_all() -> None:
    (answer,) = dialects.predictions(
        found([[0.4, 0.3, 0.2, 0.1]], labels=[3]), LABELS, top_k=2, min_score=0.0
    )
    assert answer.label == "access"
    assert answer.score == pytest.approx(0.1)
    assert named(answer) == ["access", "mail"]


@pytest.mark.parametrize(("top_k", "given"), [(1, 1), (4, 4), (5, 4), (10_000, 4)])
def test_there_are_as_many_alternatives_as_asked_for_or_as_there_are_classes(
    top_k: int, given: int
) -> None:
    (answer,) = dialects.predictions(
        found([[0.1, 0.5, 0.25, 0.15]]), LABELS, top_k=top_k, min_score=0.0
    )
    assert len(answer.alternatives) == given
    assert len(set(named(answer))) == given


@pytest.mark.parametrize(
    ("min_score", "left"),
    [
        (0.0, ["network", "printing", "access", "mail"]),
        (0.125, ["network", "printing", "access", "mail"]),
        (0.126, ["network", "printing"]),
        (0.9, ["network"]),
        (1.0, ["network"]),
    ],
)
def test_min_score_keeps_what_reaches_it_and_always_the_label(
    min_score: float, left: list[str]
) -> None:
    (answer,) = dialects.predictions(
        found([[0.125, 0.5, 0.25, 0.125]]), LABELS, top_k=4, min_score=min_score
    )
    assert sorted(named(answer)) == sorted(left)
    assert named(answer)[: 2 if len(left) > 1 else 1] == left[:2]


def test_equal_scores_keep_the_order_of_the_classes() -> None:
    (answer,) = dialects.predictions(found([[0.25] * 4]), LABELS, top_k=4, min_score=0.0)
    assert named(answer) == LABELS


def test_no_answers_are_no_predictions() -> None:
    none = found(np.zeros((0, 4)).tolist() or [[0.25] * 4])
    none = Predictions(
        none.labels[:0], none.scores[:0], none.abstained[:0], none.truncated[:0], none.logits[:0]
    )
    assert dialects.predictions(none, LABELS, top_k=3, min_score=0.0) == []
    assert dialects.tei_scores(none, LABELS, raw_scores=False) == []


def test_tei_gives_every_label_once_with_the_decision_first() -> None:
    (scores,) = dialects.tei_scores(
        found([[0.4, 0.3, 0.2, 0.1]], labels=[2]), LABELS, raw_scores=False
    )
    assert [s["label"] for s in scores] == ["printing", "mail", "network", "access"]
    assert [s["score"] for s in scores] == pytest.approx([0.2, 0.4, 0.3, 0.1])


def test_tei_raw_scores_are_the_logits_of_the_same_labels() -> None:
    answers = found([[0.1, 0.5, 0.25, 0.15]])
    (scores,) = dialects.tei_scores(answers, LABELS, raw_scores=True)
    assert {s["label"]: s["score"] for s in scores} == pytest.approx(
        dict(zip(LABELS, answers.logits[0].tolist(), strict=True))
    )
    assert scores[0]["label"] == "network"


def test_tei_inputs_are_one_text_or_a_list_of_lists_of_one() -> None:
    assert dialects.tei_texts("one") == (["one"], True)
    assert dialects.tei_texts(["one"]) == (["one"], True)
    assert dialects.tei_texts([["one"], ["two"]]) == (["one", "two"], False)
    assert dialects.tei_texts([["one"]]) == (["one"], False)
    assert dialects.tei_texts([]) == ([], False)


@pytest.mark.parametrize("inputs", [[["a"], ["b", "c"]], [["a"], []]])
def test_tei_inputs_of_other_lengths_are_refused_by_their_number(inputs: list[list[str]]) -> None:
    with pytest.raises(RequestError, match=rf"^inputs\[1\] is a list of {len(inputs[1])} texts"):
        dialects.tei_texts(inputs)


def test_a_flat_list_of_tei_inputs_is_refused_as_a_pair_would_be() -> None:
    with pytest.raises(RequestError, match=r"^inputs is a list of 2 texts.*\[\[\"first\"\]"):
        dialects.tei_texts(["a", "b"])


def test_inference_scores_begin_with_the_decision_and_fall_whatever_the_function() -> None:
    answers = found([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]], labels=[2, 3])
    for function in (None, "softmax", "sigmoid", "none"):
        for answer, label in zip(
            dialects.inference_scores(answers, LABELS, top_k=None, function=function),
            ("printing", "access"),
            strict=True,
        ):
            assert answer[0]["label"] == label
            assert sorted(item["label"] for item in answer) == sorted(LABELS)
            others = [item["score"] for item in answer[1:]]
            assert others == sorted(others, reverse=True)


def test_the_sigmoid_of_logits_of_any_size_is_between_zero_and_one() -> None:
    answers = found([[1e6, -1e6, 0.0, 90.0]])  # the logits are ten times these, less five
    with np.errstate(all="raise"):
        (answer,) = dialects.inference_scores(answers, LABELS, top_k=None, function="sigmoid")
    said = {item["label"]: item["score"] for item in answer}
    assert said == pytest.approx(
        {"mail": 1.0, "network": 0.0, "printing": 1 / (1 + np.exp(5)), "access": 1.0}
    )


@pytest.mark.parametrize(("top_k", "given"), [(None, 4), (1, 1), (4, 4), (10_000, 4)])
def test_inference_scores_are_as_many_as_asked_for_or_all(top_k: int | None, given: int) -> None:
    (answer,) = dialects.inference_scores(
        found([[0.1, 0.5, 0.25, 0.15]]), LABELS, top_k=top_k, function=None
    )
    assert len(answer) == given


@pytest.mark.parametrize(
    ("min_score", "abstained"),
    [(0.0, [True, False]), (0.49, [True, False]), (0.7, [True, False]), (0.71, [True, True])],
)
def test_min_score_only_adds_to_what_is_abstained_on(
    min_score: float, abstained: list[bool]
) -> None:
    answers = dialects.predictions(
        found([[0.4, 0.3, 0.2, 0.1], [0.1, 0.7, 0.1, 0.1]]), LABELS, top_k=1, min_score=min_score
    )
    assert [answer.abstained for answer in answers] == abstained


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("kö 1", "kö 1"),
        ("12345678", "12345678"),
        ("123456789", "12345678…"),
        ("a\n\0\x1b\u202e\ud800b", "a\ufffd\ufffd\ufffd\ufffd\ufffdb"),
    ],
)
def test_what_a_client_sent_is_said_back_short_and_on_one_line(text: str, said: str) -> None:
    assert shown(text, 8) == said


@pytest.mark.parametrize(
    ("texts", "error", "says"),
    [
        ([], Empty, "texts is empty"),
        (["a", ""], Empty, "Text 1 is empty"),
        (["\n\t \u3000"], Empty, "Text 0 is empty"),
        (["a"] * 4, TooLarge, "4 texts were sent, and 3 are allowed"),
        (["a", "b" * 11], TooLarge, "Text 1 has 11 characters, and 10 are allowed"),
    ],
)
def test_texts_outside_the_limits_are_refused_with_the_limit_and_not_the_text(
    texts: list[str], error: type[RequestError], says: str
) -> None:
    with pytest.raises(error, match=says) as refused:
        dialects.check_texts(texts, Limits(texts=3, characters=10))
    assert "bbb" not in str(refused.value)


def test_texts_exactly_at_the_limits_pass() -> None:
    dialects.check_texts(["b" * 10] * 3, Limits(texts=3, characters=10))
    with pytest.raises(TooLarge):
        dialects.check_texts(["b" * 10] * 3, Limits(texts=2, characters=10))
