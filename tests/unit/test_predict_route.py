"""`/predict` over HTTP: the shapes of text-embeddings-inference."""

import pytest

from jobs.classifier.predictor import Predictions
from serve.models import Loaded
from tests.unit.asking import TEXTS, Ask, assert_refused


def test_predict_gives_a_flat_list_for_one_text_and_a_list_of_lists_for_many(
    ask: Ask, loaded: Loaded, right: Predictions
) -> None:
    one = ask("POST", "/predict", json={"inputs": TEXTS[0]}).json()
    many = ask("POST", "/predict", json={"inputs": [[TEXTS[0]], [TEXTS[1]]]}).json()
    single = ask("POST", "/predict", json={"inputs": [[TEXTS[0]]]}).json()
    labels = loaded.predictor.about.labels
    assert [set(item) for item in one] == [{"label", "score"}] * 3
    assert single == [one]
    assert len(many) == 2
    for row, answer in enumerate(many):
        assert answer[0]["label"] == labels[right.labels[row]]
        said = {item["label"]: item["score"] for item in answer}
        assert said == pytest.approx(dict(zip(labels, right.scores[row].tolist(), strict=True)))


def test_predict_gives_logits_where_raw_scores_are_wanted(
    ask: Ask, loaded: Loaded, right: Predictions
) -> None:
    found = ask("POST", "/predict", json={"inputs": TEXTS[0], "raw_scores": True}).json()
    said = {item["label"]: item["score"] for item in found}
    labels = loaded.predictor.about.labels
    expected = dict(zip(labels, right.logits[0].tolist(), strict=True))
    assert said == pytest.approx(expected, abs=1e-5)
    assert found[0]["score"] == max(said.values())


def test_predict_cuts_a_long_text_unless_told_not_to(ask: Ask) -> None:
    long = "please help " * 20
    assert ask("POST", "/predict", json={"inputs": long}).status_code == 200
    short = ask("POST", "/predict", json={"inputs": "please help", "truncate": False})
    assert short.status_code == 200
    refused = ask("POST", "/predict", json={"inputs": [["vpn"], [long]], "truncate": False})
    assert_refused(refused, 413, "too_large")
    assert "Text 1 has more than 16 tokens" in refused.json()["error"]


def test_predict_takes_a_list_of_one_text_for_one_text(ask: Ask) -> None:
    one = ask("POST", "/predict", json={"inputs": TEXTS[0]})
    listed = ask("POST", "/predict", json={"inputs": [TEXTS[0]]})
    assert listed.status_code == 200
    assert listed.json() == one.json()


@pytest.mark.parametrize(
    ("inputs", "name", "texts"),
    [
        (["one", "two"], "inputs", 2),
        (["one", "two", "three"], "inputs", 3),
        ([["one"], ["two", "three"]], "inputs[1]", 2),
        ([["one", "two"]], "inputs[0]", 2),
        ([[]], "inputs[0]", 0),
    ],
)
def test_predict_says_what_to_send_where_several_texts_are_meant_for_one(
    inputs: list[object], name: str, texts: int, ask: Ask
) -> None:
    reply = ask("POST", "/predict", json={"inputs": inputs})
    assert_refused(reply, 422, "invalid")
    assert reply.json()["error"] == (
        f"{name} is a list of {texts} texts: this model labels one text at a time, so a batch is "
        '[["first"], ["second"]].'
    )


@pytest.mark.parametrize("direction", ["right", "Right"])
def test_predict_cuts_a_text_on_the_right(direction: str, ask: Ask) -> None:
    long = "please help " * 20
    said = {"inputs": long, "truncation_direction": direction}
    assert ask("POST", "/predict", json=said).json() == (
        ask("POST", "/predict", json={"inputs": long}).json()
    )


def test_predict_says_that_it_cannot_cut_on_the_left(ask: Ask) -> None:
    reply = ask("POST", "/predict", json={"inputs": "vpn", "truncation_direction": "left"})
    assert_refused(reply, 422, "invalid")
    assert reply.json()["error"] == (
        'truncation_direction: this model reads the beginning of a text, so "left" is not '
        'possible; send "right", or leave the key out.'
    )


def test_truncate_null_is_the_default(ask: Ask) -> None:
    long = "please help " * 20
    assert ask("POST", "/predict", json={"inputs": long, "truncate": None}).status_code == 200


def test_every_key_of_text_embeddings_inference_is_taken_at_once(ask: Ask) -> None:
    body = {
        "inputs": [["vpn"], ["mail"]],
        "raw_scores": True,
        "truncate": True,
        "truncation_direction": "right",
    }
    reply = ask("POST", "/predict", json=body)
    assert [len(answer) for answer in reply.json()] == [3, 3]
