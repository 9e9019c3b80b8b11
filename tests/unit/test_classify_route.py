"""`/v1/classify` over HTTP: its answers."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from jobs.classifier.predictor import Predictions
from serve.models import Loaded, load
from serve.schema import ClassifyReply
from serve.service import Service
from tests.unit.asking import KEY, TEXTS, Ask, asker, with_service


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


def test_top_k_may_be_a_whole_number_written_as_a_fraction(ask: Ask) -> None:
    reply = ask("POST", "/v1/classify", json={"texts": ["vpn"], "top_k": 2.0})
    assert len(reply.json()["predictions"][0]["alternatives"]) == 2


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


def test_min_score_abstains_where_the_label_scores_below_it(ask: Ask, right: Predictions) -> None:
    scores = sorted(right.label_scores.tolist())
    between = (scores[1] + scores[2]) / 2
    for min_score, unsure in ((0.0, 0), (scores[0], 0), (between, 2), (1.0, len(TEXTS))):
        reply = ask("POST", "/v1/classify", json={"texts": TEXTS, "min_score": min_score})
        found = reply.json()["predictions"]
        assert sum(p["abstained"] for p in found) == unsure
        assert all(p["abstained"] == (p["score"] < min_score) for p in found)


def test_min_score_does_not_make_the_model_surer_than_its_threshold(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_bundle(tmp_path / "unsure", abstention_threshold=0.999)
    unsure = load(str(folder), "unsure", precision="fp32", threads=1)
    for min_score in (0.0, 0.1, 1.0):
        reply = asker(unsure)("POST", "/v1/classify", json={"texts": TEXTS, "min_score": min_score})
        assert all(p["abstained"] for p in reply.json()["predictions"])
