"""The endpoint over HTTP: what its routes have in common, and how it behaves under load."""

import asyncio
import json
import re
import threading
from dataclasses import replace
from typing import Any

import httpx
import pytest

from jobs.classifier.encoding import Encoded
from jobs.classifier.predictor import Predictions, Predictor
from serve.guard import PAGE_POLICY
from serve.keyring import hash_key
from serve.models import Loaded
from serve.service import Service
from serve.settings import Limits
from tests.unit.asking import KEY, SECRET, Ask, assert_refused, raw, with_service

ROUTES = ("/v1/classify", "/predict", "/models/{name}", "/v1/feedback")


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
            assert "200" in documented, path
            if path not in ("/health", "/ready"):
                assert {"401", "408", "413", "429"} <= documented, path
            if path in ROUTES:
                assert {"400", "422", "504"} <= documented, path
                assert operation["security"] == [{"key": []}], path
            for status, reply in operation["responses"].items():
                reference = reply["content"]["application/json"]["schema"].get("$ref", "")
                assert status == "200" or reference.endswith("/ErrorReply"), (path, status)


@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
def test_a_page_of_another_origin_is_told_nothing_that_would_let_it_read(
    method: str, ask: Ask
) -> None:
    headers = {"Origin": "https://elsewhere", "Access-Control-Request-Method": "POST"}
    reply = ask(method, "/v1/classify", headers=headers, json={"texts": ["vpn"]})
    assert reply.status_code == (405 if method == "OPTIONS" else 200)
    assert [name for name in reply.headers if name.startswith("access-control")] == []


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
