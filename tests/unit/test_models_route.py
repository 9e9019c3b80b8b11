"""`/models/{name}` over HTTP: the shapes of the Hugging Face inference API."""

import math
from dataclasses import replace
from typing import Any

import pytest

from jobs.classifier.predictor import Predictions
from serve.models import Loaded
from tests.unit.asking import TEXTS, Ask, asker, assert_refused

PATH = "/models/tickets"


def test_one_text_and_several_texts_both_have_a_list_for_each_text(
    ask: Ask, loaded: Loaded, right: Predictions
) -> None:
    one = ask("POST", PATH, json={"inputs": TEXTS[0]}).json()
    many = ask("POST", PATH, json={"inputs": TEXTS}).json()
    assert one == [many[0]]
    assert ask("POST", PATH, json={"inputs": TEXTS[:1]}).json() == one
    labels = loaded.predictor.about.labels
    for row, answer in enumerate(many):
        assert [set(item) for item in answer] == [{"label", "score"}] * 3
        assert answer[0]["label"] == labels[right.labels[row]]
        said = {item["label"]: item["score"] for item in answer}
        expected = dict(zip(labels, right.scores[row].tolist(), strict=True))
        assert said == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "also",
    [
        {},
        {"parameters": None, "options": None},
        {"parameters": {}, "options": {}},
        {"parameters": {"top_k": None, "function_to_apply": None}},
        {"parameters": {"top_k": 3, "function_to_apply": "softmax"}},
        {"parameters": {"top_k": 10_000}},
        {"options": {"use_cache": False, "wait_for_model": True, "of": [{"tomorrow": 1}]}},
    ],
)
def test_without_a_wish_every_label_is_given_with_its_calibrated_score(
    also: dict[str, Any], ask: Ask
) -> None:
    plain = ask("POST", "/v1/classify", json={"texts": TEXTS[:2], "top_k": 3}).json()
    reply = ask("POST", PATH, json={"inputs": TEXTS[:2]} | also)
    assert reply.status_code == 200, reply.text
    assert reply.json() == [found["alternatives"] for found in plain["predictions"]]


@pytest.mark.parametrize("top_k", [1, 2])
def test_top_k_gives_the_first_of_them(top_k: int, ask: Ask) -> None:
    all_of_them = ask("POST", PATH, json={"inputs": TEXTS}).json()
    some = ask("POST", PATH, json={"inputs": TEXTS, "parameters": {"top_k": top_k}}).json()
    assert some == [answer[:top_k] for answer in all_of_them]


def test_a_function_is_applied_to_the_logits_of_the_decision(
    ask: Ask, loaded: Loaded, right: Predictions
) -> None:
    def said(function: str) -> dict[str, float]:
        body = {"inputs": TEXTS[0], "parameters": {"function_to_apply": function}}
        (answer,) = ask("POST", PATH, json=body).json()
        return {item["label"]: item["score"] for item in answer}

    logits = dict(zip(loaded.predictor.about.labels, right.logits[0].tolist(), strict=True))
    assert said("none") == pytest.approx(logits, abs=1e-5)
    assert said("sigmoid") == pytest.approx(
        {label: 1 / (1 + math.exp(-logit)) for label, logit in logits.items()}, abs=1e-5
    )
    whole = sum(math.exp(logit) for logit in logits.values())
    assert said("softmax") == pytest.approx(
        {label: math.exp(logit) / whole for label, logit in logits.items()}, abs=1e-5
    )


def test_an_unknown_model_is_answered_with_the_one_that_is_here(ask: Ask) -> None:
    for path in ("/models/org/tickets", "/models/ticket", "/models/tickets/pipeline/x"):
        reply = ask("POST", path, json={"inputs": "vpn"})
        assert_refused(reply, 404, "not_found")
        assert reply.json()["error"] == (
            'No model of that name is here: "tickets" is served, at /models/tickets.'
        )


def test_a_name_may_hold_a_slash_a_space_and_letters_of_any_script(loaded: Loaded) -> None:
    ask = asker(replace(loaded, name="org/kö 1"))
    for path in ("/models/org/k%C3%B6%201", "/models/org%2Fk%C3%B6%201"):
        assert ask("POST", path, json={"inputs": "vpn"}).status_code == 200
    refused = ask("POST", "/models/k%C3%B6%201", json={"inputs": "vpn"})
    assert_refused(refused, 404, "not_found")
    assert "/models/org/k%C3%B6%201" in refused.json()["error"]
