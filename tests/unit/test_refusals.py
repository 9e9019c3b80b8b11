"""Requests that are refused: the status and the kind that the contract gives them."""

from typing import Any

import pytest

from serve.keyring import hash_key
from serve.models import Loaded
from tests.unit.asking import KEY, SECRET, Ask, Kept, asker, assert_refused, log_everything, raw

Request = tuple[str, str, dict[str, Any]]


def classify(**body: Any) -> Request:
    return "POST", "/v1/classify", {"json": {"texts": [SECRET]} | body}


def classify_raw(body: bytes | str) -> Request:
    return "POST", "/v1/classify", raw(body)


def predict(inputs: Any = SECRET, **body: Any) -> Request:
    return "POST", "/predict", {"json": {"inputs": inputs} | body}


def infer(inputs: Any = SECRET, name: str = "tickets", **body: Any) -> Request:
    return "POST", f"/models/{name}", {"json": {"inputs": inputs} | body}


def correct(**body: Any) -> Request:
    return "POST", "/v1/feedback", {"json": {"text": SECRET, "label": "mail"} | body}


def with_key(request: Request, key: str | None) -> Request:
    return (*request[:2], {**request[2], "key": key})


def authorized(value: str) -> Request:
    return "GET", "/info", {"key": None, "headers": {"Authorization": value}}


PLAIN = f'{{"texts": ["{SECRET}"]}}'
REFUSED: dict[tuple[int, str], dict[str, Request]] = {
    (401, "unauthorized"): {
        "no key": with_key(classify(), None),
        "no key on predict": with_key(predict(), None),
        "no key on models": with_key(infer(), None),
        "no key on an unknown model": with_key(infer(name=SECRET), None),
        "no key on feedback": with_key(correct(), None),
        "no key on info": ("GET", "/info", {"key": None}),
        "wrong key": with_key(classify(), "sy_other"),
        "the hash as the key": ("GET", "/info", {"key": hash_key(KEY)}),
        "basic instead of bearer": authorized(f"Basic {KEY}"),
        "bearer without a key": authorized("Bearer "),
        "the key without bearer": authorized(KEY),
        "unknown route without a key": ("GET", f"/{SECRET}", {"key": None}),
    },
    (400, "empty"): {
        "no texts": classify(texts=[]),
        "empty text": classify(texts=[SECRET, ""]),
        "white space": classify(texts=[SECRET, " \t\n\u00a0\u2003"]),
        "no inputs": predict([]),
        "empty input": predict(""),
        "white space in a batch": predict([[SECRET], [" "]]),
        "a list of an empty input": predict([""]),
        "no inputs for a model": infer([]),
        "empty input for a model": infer(""),
        "white space among the inputs of a model": infer([SECRET, "\u2003"]),
        "empty correction": correct(text=""),
        "white space for a correction": correct(text=" \n"),
    },
    (413, "too_large"): {
        "too many texts": classify(texts=[SECRET] * 65),
        "too many inputs": predict([[SECRET]] * 65),
        "too many inputs for a model": infer([SECRET] * 65),
        "too long a text for a model": infer(SECRET * 12_501),
        "too long a correction": correct(text=SECRET * 12_501),
        "three megabytes for a correction": correct(text=SECRET * 375_000),
        "too long a text": classify(texts=[SECRET * 12_501]),
        "three megabytes": classify(texts=[SECRET * 375_000]),
        "three megabytes to info": ("GET", "/info", {"content": b" " * 3_000_000}),
        "too long and not to be cut": predict(f"{SECRET} " * 30, truncate=False),
    },
    (422, "invalid"): {
        "null": classify_raw("null"),
        "a list": ("POST", "/v1/classify", {"json": [SECRET]}),
        "a number": ("POST", "/v1/classify", {"json": 3}),
        "a number of 10,000 digits": classify_raw(PLAIN[:-1] + f', "top_k": {"9" * 10_000}}}'),
        "texts is a string": classify(texts=SECRET),
        "texts is null": classify(texts=None),
        "texts is missing": ("POST", "/v1/classify", {"json": {}}),
        "texts is an object": classify(texts={"0": SECRET}),
        "texts is NaN": classify_raw('{"texts": [NaN]}'),
        "a text is a number": classify(texts=[SECRET, 7]),
        "a text is null": classify(texts=[SECRET, None]),
        "a text is a list": classify(texts=[[SECRET]]),
        "many wrong texts": classify(texts=[7] * 1000),
        "inputs is a flat list": predict([SECRET, SECRET]),
        "inputs is a flat list of three": predict([SECRET] * 3),
        "inputs is a mixed list": predict([SECRET, [SECRET]]),
        "inputs is a pair": predict([[SECRET, "b"]]),
        "inputs holds nothing": predict([[]]),
        "inputs is a number": predict(3),
        "inputs is null": predict(None),
        "truncation from the left": predict(truncation_direction="left"),
        "truncation from the Left": predict(truncation_direction="Left"),
        "truncation from elsewhere": predict(truncation_direction=SECRET),
        "truncation_direction null": predict(truncation_direction=None),
        "truncation_direction a list": predict(truncation_direction=["right"]),
        "inputs for a model in lists": infer([[SECRET]]),
        "inputs for a model as an object": infer({"text": SECRET}),
        "inputs for a model null": infer(None),
        "parameters a list": infer(parameters=[SECRET]),
        "an unknown parameter": infer(parameters={"return_all_scores": True}),
        "options a string": infer(options=SECRET),
        "top_k of a model zero": infer(parameters={"top_k": 0}),
        "top_k of a model a string": infer(parameters={"top_k": "3"}),
        "top_k of a model true": infer(parameters={"top_k": True}),
        "another function": infer(parameters={"function_to_apply": SECRET}),
        "a function of another case": infer(parameters={"function_to_apply": "SOFTMAX"}),
        "a correction without a label": (
            "POST",
            "/v1/feedback",
            {"json": {"text": SECRET}},
        ),
        "a correction without a text": ("POST", "/v1/feedback", {"json": {"label": "mail"}}),
        "a correction of several texts": correct(text=[SECRET]),
        "a label that the model does not have": correct(label="Mail"),
        "an empty label": correct(label=""),
        "a label null": correct(label=None),
        "a label by its number": correct(label=0),
        "a request_id with a space": correct(request_id="a b"),
        "a request_id upwards": correct(request_id="../x"),
        "a request_id on two lines": correct(request_id="a\n"),
        "a request_id of nothing": correct(request_id=""),
        "a request_id of 65": correct(request_id="a" * 65),
        "a request_id of another script": correct(request_id="٣"),
        "a request_id a number": correct(request_id=7),
        "an unknown key of a correction": correct(team="mail"),
        "unknown key": classify(topk=3),
        "unknown key on predict": predict(raw=True),
        "top_k zero": classify(top_k=0),
        "top_k too large": classify(top_k=10_001),
        "top_k a string": classify(top_k="3"),
        "top_k true": classify(top_k=True),
        "top_k a fraction": classify(top_k=2.5),
        "top_k null": classify(top_k=None),
        "min_score NaN": classify_raw(PLAIN[:-1] + ', "min_score": NaN}'),
        "min_score Infinity": classify_raw(PLAIN[:-1] + ', "min_score": Infinity}'),
        "min_score 1e999": classify_raw(PLAIN[:-1] + ', "min_score": 1e999}'),
        "min_score below zero": classify(min_score=-0.1),
        "min_score above one": classify(min_score=1.1),
        "min_score a string": classify(min_score="0.5"),
        "min_score true": classify(min_score=True),
        "raw_scores a number": predict(raw_scores=1),
        "truncate a string": predict(truncate="yes"),
        "a form": ("POST", "/v1/classify", {"data": {"texts": SECRET}}),
        "a file": ("POST", "/v1/classify", {"files": {"texts": SECRET.encode()}}),
    },
    (405, "method_not_allowed"): {
        "GET on classify": ("GET", "/v1/classify", {}),
        "GET on predict": ("GET", "/predict", {}),
        "POST on info": ("POST", "/info", {"json": {"texts": [SECRET]}}),
        "GET on models": ("GET", "/models/tickets", {}),
        "GET on feedback": ("GET", "/v1/feedback", {}),
        "DELETE on classify": ("DELETE", "/v1/classify", {}),
    },
    (404, "not_found"): {
        "unknown route": ("GET", f"/v2/{SECRET}", {}),
        "an unknown model": infer(name=SECRET),
        "an unknown model of somebody": infer(name=f"{SECRET}/tickets"),
        "a model of another case": infer(name="Tickets"),
        "a model with a slash too many": infer(name="tickets/"),
        "a model upwards": infer(name="%2e%2e/tickets"),
        "no model": infer(name=""),
        "models without a slash": ("POST", "/models", {"json": {"inputs": SECRET}}),
        "a slash too many": ("POST", "/v1/classify/", {"json": {"texts": [SECRET]}}),
        "a path upwards": ("GET", "/v1/%2e%2e/%2e%2e/etc/passwd", {}),
    },
}


def route_of(path: str) -> str:
    return "/models/{name}" if path.startswith("/models/") else path


@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [(status, kind, name) for (status, kind), named in REFUSED.items() for name in named],
)
def test_what_is_refused_has_its_status_its_kind_and_none_of_the_text(
    status: int,
    kind: str,
    name: str,
    loaded: Loaded,
    schema: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    method, path, request = REFUSED[status, kind][name]
    log_everything(caplog)

    kept = Kept()
    assert_refused(asker(loaded, feedback=kept)(method, path, **request), status, kind)
    assert kept.corrections == []

    assert SECRET not in caplog.text
    documented = schema["paths"].get(route_of(path), {}).get(method.lower())
    assert documented is None or str(status) in documented["responses"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/", "/docs", "/openapi.json"])
def test_the_public_routes_need_no_key(path: str, ask: Ask) -> None:
    assert ask("GET", path, key=None).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_word_bearer_is_read_in_any_case(scheme: str, ask: Ask) -> None:
    sent = {"Authorization": f"{scheme} {KEY}"}
    assert ask("GET", "/info", key=None, headers=sent).status_code == 200


def test_an_endpoint_without_keys_lets_everybody_in(loaded: Loaded) -> None:
    ask = asker(loaded, open_to_all=True)
    reply = ask("POST", "/v1/classify", key=None, json={"texts": ["vpn"]})
    assert reply.status_code == 200


def test_a_wrong_method_says_which_one_is_right(ask: Ask) -> None:
    assert ask("GET", "/v1/classify").headers["allow"] == "POST"


def test_an_unknown_key_is_named_so_that_it_can_be_mended(ask: Ask) -> None:
    reply = ask("POST", "/v1/classify", json={"texts": ["vpn"], "topk": 3})
    assert reply.json()["error"] == (
        'the body: "topk" is no key of this request, which may have texts, top_k, min_score.'
    )
    inner = ask("POST", "/models/tickets", json={"inputs": "vpn", "parameters": {"topk": 3}})
    assert inner.json()["error"] == (
        'parameters: "topk" is no key of this request, which may have top_k, function_to_apply.'
    )
