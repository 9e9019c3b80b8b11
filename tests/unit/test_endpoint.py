"""The endpoint over HTTP: the contract's answers, and its refusal of everything else."""

import asyncio
import json
import logging
import re
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from jobs.classifier.encoding import Encoded
from jobs.classifier.predictor import Predictions, Predictor
from serve.app import make_app
from serve.guard import PAGE_POLICY
from serve.keyring import Keyring, hash_key
from serve.models import Loaded, load
from serve.schema import ClassifyReply
from serve.service import Service
from serve.settings import Endpoint, Limits

KEY = "sy_a-key-of-the-tests"
SECRET = "zanzibar"  # in every refused body: it must be in no reply and in no log
TEXTS = [
    "vpn is down",
    "printer error",
    "my mail account access denied",
    "please help " * 20,
    "disk",
]
ROUTES = ("/v1/classify", "/predict")

Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def loaded(tiny_bundle: Path) -> Loaded:
    return load(str(tiny_bundle), "tickets", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def right(tiny_bundle: Path) -> Predictions:
    return Predictor(tiny_bundle).predict(TEXTS)


@pytest.fixture
def ask(loaded: Loaded) -> Ask:
    return asker(loaded)


@pytest.fixture(scope="module")
def schema(loaded: Loaded) -> dict[str, Any]:
    found: dict[str, Any] = asker(loaded)("GET", "/openapi.json").json()
    return found


def with_service(
    loaded: Loaded,
    work: Callable[[Service, httpx.AsyncClient], Coroutine[Any, Any, Any]],
    *,
    raises: bool = True,
    open_to_all: bool = False,
    **limits: Any,
) -> Any:
    """Runs `work(service, client)` against a fresh application in a loop of its own.

    With `raises`, an exception that escapes the application fails the test by itself.
    """
    keys = Keyring(None if open_to_all else [hash_key(KEY)])
    endpoint = Endpoint(limits=Limits(**limits))

    async def session() -> Any:
        service = Service(loaded, endpoint, keys=keys)
        transport = httpx.ASGITransport(make_app(service), raise_app_exceptions=raises)
        try:
            async with (
                asyncio.timeout(60),
                httpx.AsyncClient(transport=transport, base_url="http://here") as client,
            ):
                return await work(service, client)
        finally:
            service.close()

    return asyncio.run(session())


def asker(loaded: Loaded, *, raises: bool = True, open_to_all: bool = False, **limits: Any) -> Ask:
    """A function that sends one request, with the right key unless told otherwise."""

    def ask(
        method: str,
        path: str,
        *,
        key: str | None = KEY,
        headers: dict[str, str] | None = None,
        **request: Any,
    ) -> httpx.Response:
        sent = ({} if key is None else {"Authorization": f"Bearer {key}"}) | (headers or {})

        async def work(_: Service, client: httpx.AsyncClient) -> httpx.Response:
            return await client.request(method, path, headers=sent, **request)

        found: httpx.Response = with_service(
            loaded, work, raises=raises, open_to_all=open_to_all, **limits
        )
        return found

    return ask


def raw(body: bytes | str) -> dict[str, Any]:
    return {"content": body, "headers": {"Content-Type": "application/json"}}


def assert_refused(reply: httpx.Response, status: int, kind: str) -> None:
    assert reply.status_code == status, reply.text[:300]
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    said = reply.json()
    assert set(said) == {"error", "error_type"}
    assert said["error_type"] == kind
    assert said["error"].strip()
    assert len(said["error"]) < 600
    assert SECRET not in reply.text
    assert "Traceback" not in reply.text
    assert 'File "' not in said["error"]


Request = tuple[str, str, dict[str, Any]]


def classify(**body: Any) -> Request:
    return "POST", "/v1/classify", {"json": {"texts": [SECRET]} | body}


def classify_raw(body: bytes | str) -> Request:
    return "POST", "/v1/classify", raw(body)


def predict(inputs: Any = SECRET, **body: Any) -> Request:
    return "POST", "/predict", {"json": {"inputs": inputs} | body}


def with_key(request: Request, key: str | None) -> Request:
    return (*request[:2], {**request[2], "key": key})


def authorized(value: str) -> Request:
    return "GET", "/info", {"key": None, "headers": {"Authorization": value}}


PLAIN = f'{{"texts": ["{SECRET}"]}}'
REFUSED: dict[tuple[int, str], dict[str, Request]] = {
    (401, "unauthorized"): {
        "no key": with_key(classify(), None),
        "no key on predict": with_key(predict(), None),
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
    },
    (413, "too_large"): {
        "too many texts": classify(texts=[SECRET] * 65),
        "too many inputs": predict([[SECRET]] * 65),
        "too long a text": classify(texts=[SECRET * 12_501]),
        "three megabytes": classify(texts=[SECRET * 375_000]),
        "three megabytes to info": ("GET", "/info", {"content": b" " * 3_000_000}),
        "three megabytes to health": ("GET", "/health", {"content": b" " * 3_000_000}),
        "too long and not to be cut": predict(f"{SECRET} " * 30, truncate=False),
    },
    (422, "invalid"): {
        "nothing": classify_raw(b""),
        "malformed JSON": classify_raw(f'{{"texts": ["{SECRET}"'),
        "a word": classify_raw(SECRET),
        "null": classify_raw("null"),
        "a list": ("POST", "/v1/classify", {"json": [SECRET]}),
        "a number": ("POST", "/v1/classify", {"json": 3}),
        "deep nesting": classify_raw('{"texts": ' + "[" * 100_000 + "]" * 100_000 + "}"),
        "deep nesting of objects": classify_raw('{"a":' * 100_000 + "1" + "}" * 100_000),
        "deep nesting unclosed": classify_raw("[" * 100_000),
        "a number of 10,000 digits": classify_raw(PLAIN[:-1] + f', "top_k": {"9" * 10_000}}}'),
        "a NUL instead of JSON": classify_raw(b"\x00" * 64),
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
        "inputs is a pair": predict([[SECRET, "b"]]),
        "inputs holds nothing": predict([[]]),
        "inputs is a number": predict(3),
        "inputs is null": predict(None),
        "unknown key": classify(topk=3),
        "unknown key on predict": predict(raw=True),
        "lone surrogate in a key": classify_raw(PLAIN[:-1] + ', "\\ud800": 1}'),
        "a key of a megabyte": classify(**{"k" * 1_000_000: 1}),
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
        "invalid UTF-8": classify_raw(PLAIN.encode().replace(b"zan", b"zan\xff\xfe")),
        "Latin-1": classify_raw('{"texts": ["caf\u00e9"]}'.encode("latin-1")),
        "text/plain": (
            "POST",
            "/v1/classify",
            {"content": PLAIN, "headers": {"Content-Type": "text/plain"}},
        ),
        "no content type": ("POST", "/v1/classify", {"content": PLAIN}),
        "a form": ("POST", "/v1/classify", {"data": {"texts": SECRET}}),
        "a file": ("POST", "/v1/classify", {"files": {"texts": SECRET.encode()}}),
    },
    (405, "method_not_allowed"): {
        "GET on classify": ("GET", "/v1/classify", {}),
        "GET on predict": ("GET", "/predict", {}),
        "POST on info": ("POST", "/info", {"json": {"texts": [SECRET]}}),
        "DELETE on classify": ("DELETE", "/v1/classify", {}),
    },
    (404, "not_found"): {
        "unknown route": ("GET", f"/v2/{SECRET}", {}),
        "a slash too many": ("POST", "/v1/classify/", {"json": {"texts": [SECRET]}}),
        "a path upwards": ("GET", "/v1/%2e%2e/%2e%2e/etc/passwd", {}),
    },
}


@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [(status, kind, name) for (status, kind), named in REFUSED.items() for name in named],
)
def test_what_is_refused_has_its_status_its_kind_and_none_of_the_text(
    status: int,
    kind: str,
    name: str,
    ask: Ask,
    schema: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    method, path, request = REFUSED[status, kind][name]
    caplog.set_level(logging.DEBUG)
    # httpx itself logs the URL that this test asks for: not the endpoint's doing.
    for library in ("httpx", "httpcore", "asyncio"):
        caplog.set_level(logging.ERROR, logger=library)

    assert_refused(ask(method, path, **request), status, kind)

    assert SECRET not in caplog.text
    documented = schema["paths"].get(path, {}).get(method.lower())
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


def test_a_lone_surrogate_is_read_as_a_question_mark(ask: Ask) -> None:
    broken = ask("POST", "/v1/classify", **raw('{"texts": ["vpn \\ud800 down"]}'))
    plain = ask("POST", "/v1/classify", json={"texts": ["vpn ? down"]})
    assert broken.json()["predictions"] == plain.json()["predictions"]


def test_an_unknown_key_is_named_so_that_it_can_be_mended(ask: Ask) -> None:
    reply = ask("POST", "/v1/classify", json={"texts": ["vpn"], "topk": 3})
    assert "topk" in reply.json()["error"]


def test_answers_are_those_of_the_predictor_in_the_order_of_the_texts(
    ask: Ask, loaded: Loaded, right: Predictions
) -> None:
    reply = ask("POST", "/v1/classify", json={"texts": TEXTS, "top_k": 3})
    assert reply.status_code == 200
    answer = ClassifyReply.model_validate(reply.json())
    assert answer.model.model_dump() == {"name": "tickets", "version": loaded.version}
    labels = loaded.predictor.about.labels
    assert [p.label for p in answer.predictions] == [labels[c] for c in right.labels]
    assert [p.truncated for p in answer.predictions] == [False, False, False, True, False]
    for row, found in enumerate(answer.predictions):
        assert found.score == pytest.approx(float(right.label_scores[row]), abs=1e-5)
        said = {a.label: a.score for a in found.alternatives}
        assert said == pytest.approx(dict(zip(labels, right.scores[row].tolist(), strict=True)))
        assert found.alternatives[0].label == found.label
        falling = [a.score for a in found.alternatives]
        assert falling == sorted(falling, reverse=True)


def test_requests_at_the_same_time_each_get_their_own_answer(
    loaded: Loaded, right: Predictions
) -> None:
    async def work(_: Service, client: httpx.AsyncClient) -> list[httpx.Response]:
        sent = [
            client.post(
                "/v1/classify",
                json={"texts": [TEXTS[n % len(TEXTS)]]},
                headers={"Authorization": f"Bearer {KEY}", "X-Request-Id": f"call-{n}"},
            )
            for n in range(30)
        ]
        return await asyncio.gather(*sent)

    labels = loaded.predictor.about.labels
    for number, reply in enumerate(with_service(loaded, work)):
        row = number % len(TEXTS)
        assert reply.json()["request_id"] == f"call-{number}"
        found = reply.json()["predictions"][0]
        assert found["label"] == labels[right.labels[row]]
        assert found["score"] == pytest.approx(float(right.label_scores[row]), abs=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        '{"texts": ["vpn \\u0000 down"]}',
        '{"texts": ["\U0001f525\U0001f9d1\u200d\U0001f692 \U0001f525"]}',
        '{"texts": ["\u202eלא עובד\u202c הטלפון"]}',
        '{"texts": ["打印机坏了"]}',
        '{"texts": ["e\u0301\u0301\u0301"]}',
        '{"texts": ["\u200b"]}',
        '{"texts": ["<script>alert(1)</script>"]}',
        '{"texts": ["a", "a"], "min_score": 1}',
        '\ufeff{"texts": ["a"]}',
        '{"texts": ["vpn \\ud800 down"]}',
        '{"texts": ["\\udfff"]}',
    ],
    ids=[
        "NUL",
        "emoji",
        "right-to-left",
        "Han",
        "marks",
        "no-width",
        "HTML",
        "twice",
        "BOM",
        "lone surrogate",
        "nothing but a surrogate",
    ],
)
def test_unusual_text_is_answered_and_the_same_every_time(body: str, ask: Ask) -> None:
    first = ask("POST", "/v1/classify", **raw(body.encode()))
    assert first.status_code == 200
    second = ask("POST", "/v1/classify", **raw(body.encode()))
    assert first.json()["predictions"] == second.json()["predictions"]


def test_the_longest_text_allowed_is_answered_and_said_to_be_truncated(ask: Ask) -> None:
    reply = ask("POST", "/v1/classify", json={"texts": ["a" * 50_000 + " a" * 25_000]})
    assert reply.status_code == 200
    assert reply.json()["predictions"][0]["truncated"] is True


def test_the_label_heads_the_list_even_where_another_score_is_higher(
    right: Predictions, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    label = int(right.labels[0])
    offset = [5.0 if c == label else 0.0 for c in range(3)]
    moved = load(
        str(make_bundle(tmp_path / "moved", decision_offset=offset)),
        "moved",
        precision="fp32",
        threads=1,
    )
    name = moved.predictor.about.labels[label]
    for top_k in (1, 3):
        reply = asker(moved)(
            "POST", "/v1/classify", json={"texts": TEXTS[:1], "top_k": top_k, "min_score": 0.2}
        )
        found = reply.json()["predictions"][0]
        assert found["label"] == found["alternatives"][0]["label"] == name
        assert found["score"] == found["alternatives"][0]["score"] < 0.2
    scores = [a["score"] for a in found["alternatives"]]
    assert len(scores) == 3
    assert scores[1] > scores[0]
    tei = asker(moved)("POST", "/predict", json={"inputs": TEXTS[0]}).json()
    assert [t["label"] for t in tei] == [a["label"] for a in found["alternatives"]]


def test_below_the_threshold_the_model_abstains_and_still_says_its_label(
    make_bundle: Callable[..., Path], tmp_path: Path, right: Predictions
) -> None:
    unsure = load(
        str(make_bundle(tmp_path / "unsure", abstention_threshold=0.999)),
        "unsure",
        precision="fp32",
        threads=1,
    )
    found = asker(unsure)("POST", "/v1/classify", json={"texts": ["vpn"]}).json()["predictions"][0]
    assert found["abstained"] is True
    assert found["label"] in unsure.predictor.about.labels
    assert not right.abstained.any()  # the same network with no threshold


def test_more_alternatives_than_classes_give_all_classes(ask: Ask) -> None:
    reply = ask("POST", "/v1/classify", json={"texts": ["vpn"], "top_k": 10_000})
    alternatives = reply.json()["predictions"][0]["alternatives"]
    assert sorted(a["label"] for a in alternatives) == ["mail", "network", "printing"]
    assert sum(a["score"] for a in alternatives) == pytest.approx(1, abs=1e-5)


def test_three_alternatives_are_given_unless_asked_otherwise(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    five = load(
        str(make_bundle(tmp_path / "five", labels=("a", "b", "c", "d", "e"))),
        "five",
        precision="fp32",
        threads=1,
    )
    reply = asker(five)("POST", "/v1/classify", json={"texts": ["vpn"]})
    assert len(reply.json()["predictions"][0]["alternatives"]) == 3


def test_min_score_leaves_out_all_below_it_but_never_the_label(
    ask: Ask, right: Predictions
) -> None:
    ranked = np.sort(right.scores[0])[::-1]
    between = float(ranked[1] + ranked[2]) / 2
    for min_score, left in ((0.0, 3), (between, 2), (1.0, 1)):
        reply = ask("POST", "/v1/classify", json={"texts": TEXTS[:1], "min_score": min_score})
        found = reply.json()["predictions"][0]
        assert len(found["alternatives"]) == left
        assert found["alternatives"][0]["label"] == found["label"]


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


@pytest.mark.parametrize("given", ["call-7", "a" * 64, "A.b_c-9"])
def test_a_sane_request_id_is_echoed_in_header_and_body(given: str, ask: Ask) -> None:
    reply = ask("POST", "/v1/classify", json={"texts": ["vpn"]}, headers={"X-Request-Id": given})
    assert reply.headers["x-request-id"] == reply.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", "a\tb", "<b>", "a;b", "../x", "%0d%0a"])
def test_an_insane_request_id_is_replaced_by_a_new_one(given: str, ask: Ask) -> None:
    reply = ask("POST", "/v1/classify", json={"texts": ["vpn"]}, headers={"X-Request-Id": given})
    assert reply.headers["x-request-id"] == reply.json()["request_id"]
    assert re.fullmatch("[0-9a-f]{32}", reply.json()["request_id"])


@pytest.mark.parametrize(
    ("method", "path", "request_"),
    [
        ("GET", "/health", {}),
        ("GET", "/", {}),
        ("GET", "/nowhere", {}),
        ("GET", "/info", {"key": None}),
        ("POST", "/v1/classify", {"json": {"texts": []}}),
        ("POST", "/v1/classify", raw("{")),
    ],
)
def test_every_reply_carries_a_request_id_of_its_own_and_the_security_headers(
    method: str, path: str, request_: dict[str, Any], ask: Ask
) -> None:
    first, second = (ask(method, path, **request_) for _ in range(2))
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert len(first.headers.get_list("x-request-id")) == 1
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["x-frame-options"] == "DENY"
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_have_a_policy_and_load_nothing_from_another_host(path: str, ask: Ask) -> None:
    reply = ask("GET", path, key=None)
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.headers["content-security-policy"] == PAGE_POLICY
    assert "default-src 'none'" in PAGE_POLICY
    assert not re.search(r"(https?:|\*)", PAGE_POLICY)
    asked = re.findall(
        r"""(?:src|href|action|poster|srcset)\s*=\s*["']?\s*([^"'\s>]+)"""
        r"""|url\(\s*["']?([^"')]+)|@import\s+["']?([^"';]+)"""
        r"""|(?:fetch|call|import)\(\s*["'`]([^"'`]+)""",
        reply.text,
    )
    targets = [next(part for part in found if part) for found in asked]
    assert targets
    assert [t for t in targets if re.match(r"(?!data:)([a-z]+:|//)", t)] == []


def test_the_docs_name_every_route_and_status_that_the_schema_has(
    ask: Ask, schema: dict[str, Any]
) -> None:
    page = ask("GET", "/docs", key=None).text
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert f"<h2><code>{method.upper()} {path}</code></h2>" in page
            assert operation["description"] in page
            for status in operation["responses"]:
                assert f"<code>{status}</code>" in page


def test_info_says_what_is_served_and_within_which_limits(ask: Ask, loaded: Loaded) -> None:
    found = ask("GET", "/info").json()
    assert found["model"] == {"name": "tickets", "version": loaded.version}
    assert re.fullmatch("[0-9a-f]{12}", loaded.version)
    assert found["bundle"] == loaded.uri
    assert found["labels"] == ["mail", "network", "printing"]
    assert (found["classes"], found["max_tokens"], found["precision"]) == (3, 16, "float32")
    assert found["metrics"] == {"rows": 3, "accuracy": 0.5, "macro_f1": 0.4}
    assert found["configuration"] == {"model.name": "tiny"}
    assert found["limits"] == Limits().model_dump()
    assert {"python", "torch", "ray"} <= set(found["versions"])
    assert KEY not in json.dumps(found)
    assert hash_key(KEY) not in json.dumps(found)


def test_health_and_ready_say_so(ask: Ask) -> None:
    assert ask("GET", "/health").json() == {"status": "ok"}
    assert ask("GET", "/ready").json() == {"status": "ready"}


def test_every_route_documents_what_its_door_can_answer(schema: dict[str, Any]) -> None:
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            documented = set(operation["responses"])
            assert {"200", "408", "413"} <= documented, path
            if path not in ("/health", "/ready"):
                assert {"401", "429"} <= documented, path
            if path in ROUTES:
                assert {"400", "422", "504"} <= documented, path
            for status, reply in operation["responses"].items():
                reference = reply["content"]["application/json"]["schema"].get("$ref", "")
                assert status == "200" or reference.endswith("/ErrorReply"), (path, status)


class Gated:
    """A predictor whose answers wait until the test lets them go, or fail as the test says."""

    def __init__(self, real: Predictor) -> None:
        self.about, self.encoder, self.dtype = real.about, real.encoder, real.dtype
        self.gate, self.started = threading.Event(), threading.Event()
        self.fault: Exception | None = None
        self._real = real

    def answer(self, encoded: Encoded) -> Predictions:
        self.started.set()
        assert self.gate.wait(30)
        if self.fault is not None:
            raise self.fault
        return self._real.answer(encoded)


@pytest.fixture
def gated(loaded: Loaded) -> Loaded:
    return replace(loaded, predictor=Gated(loaded.predictor))  # type: ignore[arg-type]


def test_an_answer_that_is_too_late_is_given_up_with_504(gated: Loaded) -> None:
    async def work(_: Service, client: httpx.AsyncClient) -> httpx.Response:
        try:
            return await client.post("/v1/classify", json={"texts": [SECRET]})
        finally:
            gated.predictor.gate.set()  # type: ignore[attr-defined]

    reply = with_service(gated, work, open_to_all=True, answer_s=0.05)
    assert_refused(reply, 504, "too_late")
    assert "0.05 s" in reply.json()["error"]


def test_too_much_waiting_is_refused_with_429_and_the_rest_is_answered(gated: Loaded) -> None:
    model: Any = gated.predictor

    async def work(service: Service, client: httpx.AsyncClient) -> list[httpx.Response]:
        async def post() -> httpx.Response:
            return await client.post("/v1/classify", json={"texts": [SECRET]})

        first = asyncio.create_task(post())
        assert await asyncio.to_thread(model.started.wait, 30)
        two = [asyncio.create_task(post()) for _ in range(2)]
        # One of the two waits for the model and leaves no room for the other.
        done, _ = await asyncio.wait(two, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        model.gate.set()
        answered = await asyncio.gather(first, *two)
        return [refused, *answered]

    refused, *all_replies = with_service(gated, work, open_to_all=True, waiting_tokens=1)
    assert_refused(refused, 429, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert sorted(r.status_code for r in all_replies) == [200, 200, 429]


def test_a_fault_of_ours_says_nothing_of_itself_and_the_next_request_is_answered(
    gated: Loaded,
) -> None:
    model: Any = gated.predictor
    model.gate.set()

    async def work(_: Service, client: httpx.AsyncClient) -> list[httpx.Response]:
        model.fault = RuntimeError(f"shapes do not match: {SECRET}")
        failed = await client.post("/v1/classify", json={"texts": ["vpn"]})
        model.fault = None
        return [failed, await client.post("/v1/classify", json={"texts": ["vpn"]})]

    failed, good = with_service(gated, work, raises=False, open_to_all=True)
    assert_refused(failed, 500, "internal")
    assert "shapes" not in failed.text
    assert good.status_code == 200
