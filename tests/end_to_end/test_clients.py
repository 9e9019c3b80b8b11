"""Clients that others wrote, against the endpoint behind a real server."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.end_to_end.served import KEY, NAME, served

TEXTS = ["vpn is down", "printer error", "my mail account access denied", "打印机 \U0001f525"]


@pytest.fixture(scope="module")
def url(tiny_bundle: Path) -> Iterator[str]:
    with served(tiny_bundle) as base:
        yield base


def client_of(url: str, name: str = NAME, key: str = KEY) -> InferenceClient:
    return InferenceClient(model=f"{url}/models/{name}", token=key)


def labelled(client: InferenceClient, text: str, **how: Any) -> list[dict[str, Any]]:
    """What the client made of the answer."""
    found = client.text_classification(text, **how)
    return [{"label": item.label, "score": item.score} for item in found]


def classified(url: str, **body: Any) -> Any:
    reply = httpx.post(
        f"{url}/v1/classify", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=30
    )
    assert reply.status_code == 200, reply.text
    return reply.json()["predictions"]


@pytest.mark.parametrize("text", TEXTS)
def test_hugging_faces_client_reads_the_answers_that_classify_gives(text: str, url: str) -> None:
    (right,) = classified(url, texts=[text], top_k=3)
    found = labelled(client_of(url), text)
    assert found == right["alternatives"]
    assert found[0] == {"label": right["label"], "score": right["score"]}


@pytest.mark.parametrize("top_k", [1, 2, 3, 10])
def test_hugging_faces_client_gets_as_many_labels_as_it_asks_for(top_k: int, url: str) -> None:
    (right,) = classified(url, texts=TEXTS[:1], top_k=top_k)
    assert labelled(client_of(url), TEXTS[0], top_k=top_k) == right["alternatives"]


def test_hugging_faces_client_gets_the_function_that_it_asks_for(url: str) -> None:
    client = client_of(url)
    soft, plain, logits, sigmoids = (
        labelled(client, TEXTS[0], function_to_apply=function)
        for function in ("softmax", None, "none", "sigmoid")
    )
    assert soft == plain
    assert [item["label"] for item in logits] == [item["label"] for item in sigmoids]
    whole = sum(math.exp(item["score"]) for item in logits)
    for soft_one, logit, sigmoid in zip(soft, logits, sigmoids, strict=True):
        assert sigmoid["score"] == pytest.approx(1 / (1 + math.exp(-logit["score"])), abs=1e-6)
        assert soft_one["score"] == pytest.approx(math.exp(logit["score"]) / whole, abs=1e-5)


def test_hugging_faces_client_takes_a_name_with_a_slash(tiny_bundle: Path) -> None:
    with served(tiny_bundle, "org/tickets") as url:
        found = labelled(client_of(url, "org/tickets"), TEXTS[0], top_k=1)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("how", "text", "status"),
    [
        ({"key": "sy_other"}, "vpn", 401),
        ({"name": "org/tickets"}, "vpn", 404),
        ({}, " ", 400),
        ({}, "a" * 100_001, 413),
    ],
)
def test_hugging_faces_client_says_what_was_wrong(
    how: dict[str, str], text: str, status: int, url: str
) -> None:
    with pytest.raises(HfHubHTTPError) as refused:
        client_of(url, **how).text_classification(text)
    assert refused.value.response.status_code == status


def test_hugging_faces_client_shows_our_sentence_of_a_wrong_parameter(url: str) -> None:
    with pytest.raises(HfHubHTTPError, match="greater than or equal to 1") as refused:
        client_of(url).text_classification("vpn", top_k=0)
    assert refused.value.response.status_code == 422


def test_several_texts_in_one_request_have_a_list_each(url: str) -> None:
    reply = httpx.post(
        f"{url}/models/{NAME}",
        json={"inputs": TEXTS},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=30,
    )
    assert reply.json() == [p["alternatives"] for p in classified(url, texts=TEXTS, top_k=3)]
