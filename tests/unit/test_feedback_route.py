"""`/v1/feedback` over HTTP: a correction is stored before it is answered, or the reply says why
not.
"""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from serve.feedback import Correction, NotStored
from serve.models import Loaded
from serve.service import Service
from tests.unit.asking import (
    KEY,
    SECRET,
    Ask,
    Kept,
    asker,
    assert_refused,
    log_everything,
    raw,
    with_service,
)

BODY = {"text": "vpn is down", "label": "network"}


class Held:
    """A place that holds on to a correction until the test lets it go."""

    def __init__(self) -> None:
        self.begun, self.gate = asyncio.Event(), asyncio.Event()

    async def put(self, correction: Correction) -> None:
        self.begun.set()
        await self.gate.wait()

    async def close(self) -> None:
        pass


class Broken:
    """A place that stores nothing."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def put(self, correction: Correction) -> None:
        raise self.error

    async def close(self) -> None:
        pass


def test_a_correction_is_stored_under_the_request_that_it_corrects(loaded: Loaded) -> None:
    kept = Kept()
    reply = asker(loaded, feedback=kept)("POST", "/v1/feedback", json=BODY | {"request_id": "r.1"})
    assert reply.status_code == 200
    assert reply.json() == {"request_id": "r.1", "status": "stored"}
    assert kept.corrections == [
        Correction(
            text="vpn is down",
            label="network",
            request_id="r.1",
            model_name="tickets",
            model_version=loaded.version,
        )
    ]


@pytest.mark.parametrize("also", [{}, {"request_id": None}])
def test_a_correction_of_no_request_has_the_id_of_its_own(
    also: dict[str, Any], loaded: Loaded
) -> None:
    kept = Kept()
    ask = asker(loaded, feedback=kept)
    named = ask("POST", "/v1/feedback", json=BODY | also, headers={"X-Request-Id": "call-7"})
    assert named.json() == {"request_id": "call-7", "status": "stored"}
    unnamed = ask("POST", "/v1/feedback", json=BODY | also)
    assert unnamed.json()["request_id"] == unnamed.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", unnamed.json()["request_id"])
    assert [c.request_id for c in kept.corrections] == ["call-7", unnamed.json()["request_id"]]


@pytest.mark.parametrize("request_id", ["a", "A.b_c-9", "a" * 64, "0", ".."])
def test_any_id_that_the_endpoint_gives_or_takes_can_be_corrected(
    request_id: str, loaded: Loaded
) -> None:
    kept = Kept()
    body = BODY | {"request_id": request_id}
    assert asker(loaded, feedback=kept)("POST", "/v1/feedback", json=body).status_code == 200
    assert kept.corrections[0].request_id == request_id


def test_the_text_is_stored_as_it_came(loaded: Loaded) -> None:
    text = "  VPN\r\n\tdown\0 \u202eé\u0301 \U0001f525 "
    kept = Kept()
    asker(loaded, feedback=kept)("POST", "/v1/feedback", json=BODY | {"text": text})
    assert [c.text for c in kept.corrections] == [text]


def test_the_answer_comes_once_the_correction_is_durable(loaded: Loaded) -> None:
    async def work(service: Service, client: httpx.AsyncClient) -> httpx.Response:
        held = Held()
        service.feedback = held
        asked = asyncio.create_task(
            client.post("/v1/feedback", json=BODY, headers={"Authorization": f"Bearer {KEY}"})
        )
        await held.begun.wait()
        assert not asked.done()
        held.gate.set()
        return await asked

    assert with_service(loaded, work).status_code == 200


def test_an_endpoint_without_a_place_for_corrections_says_so(ask: Ask) -> None:
    reply = ask("POST", "/v1/feedback", json=BODY)
    assert_refused(reply, 404, "no_feedback")
    assert "feedback.uri" in reply.json()["error"]


def test_what_could_not_be_stored_is_to_be_sent_again(
    loaded: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    log_everything(caplog)
    ask = asker(loaded, feedback=Broken(NotStored("The correction could not be written.")))
    reply = ask("POST", "/v1/feedback", json=BODY | {"text": SECRET})
    assert_refused(reply, 503, "not_stored")
    assert reply.headers["retry-after"] == "1"
    assert SECRET not in caplog.text


def test_a_fault_of_the_store_says_nothing_of_itself(loaded: Loaded) -> None:
    ask = asker(loaded, raises=False, feedback=Broken(OSError(f"disk: {SECRET}")))
    reply = ask("POST", "/v1/feedback", json=BODY)
    assert_refused(reply, 500, "internal")
    assert "disk" not in reply.text


def test_a_store_that_does_not_come_back_is_given_up_with_504(loaded: Loaded) -> None:
    ask = asker(loaded, feedback=Held(), answer_s=0.05)
    reply = ask("POST", "/v1/feedback", json=BODY)
    assert_refused(reply, 504, "too_late")
    assert "0.05 s" in reply.json()["error"]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("Network", '"Network"'),
        ("", '""'),
        ("x" * 100, f'"{"x" * 100}"'),
        ("x" * 50_000, f'"{"x" * 100}…"'),
        ("a\nb\0\u202e\ud800", '"a\ufffdb\ufffd\ufffd\ufffd"'),
    ],
)
def test_a_label_that_the_model_does_not_have_is_named_and_the_place_of_the_others(
    label: str, said: str, loaded: Loaded
) -> None:
    kept = Kept()
    body = json.dumps(BODY | {"label": label})
    reply = asker(loaded, feedback=kept)("POST", "/v1/feedback", **raw(body))
    assert_refused(reply, 422, "invalid")
    assert reply.json()["error"] == (
        f"{said} is none of the 3 labels of this model; GET /info lists them."
    )
    assert kept.corrections == []
