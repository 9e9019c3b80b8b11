"""The whole road by submitted jobs and HTTP, with a tiny BERT: happy and unhappy paths."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from cluster.haproxy import MARK
from tests.conftest import last_json
from tests.end_to_end.conftest import ROOT, Cluster, run_module
from tests.end_to_end.endpoints import KEY


@dataclass(frozen=True)
class Road:
    """What the jobs made, and the endpoint that serves it."""

    home: Path
    url: str
    said: dict[str, dict[str, Any]]


def done(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-2000:]}"
    return dict(last_json(result.stdout))


@pytest.fixture(scope="module")
def road(
    cluster: Cluster, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
) -> Road:  # fmt: skip
    home = tmp_path_factory.mktemp("road")
    (home / "keys.txt").write_text(f"# for the test\n{KEY}\n")
    port = free_port()
    steps = {
        "synthesize": ["jobs.synthesize", "--rows", "400", "--classes", "4", "--skew", "0.8",
                       "--output", f"{home}/desk"],
        "prepare": ["jobs.prepare", "--source", f"{home}/desk", "--output", f"{home}/prepared",
                    "--columns.text", "title", "--columns.text", "body", "--columns.id", "id"],
        "train": ["jobs.train", "--data", f"{home}/prepared", "--output", f"{home}/run",
                  "--model.name", str(tiny_model), "--model.max_tokens", "48",
                  "--optim.lr", "3e-3", "--train.batch_tokens", "512"],
        "evaluate": ["jobs.evaluate", "--bundle", f"{home}/run/bundle", "--output", f"{home}/test",
                     "--source", f"{home}/prepared/test"],
        "deploy": ["serve.deploy", "--bundle", f"{home}/run/bundle", "--port", str(port),
                   "--keys", f"{home}/keys.txt", "--feedback", f"{home}/corrections",
                   # Compared below to the third digit, with what is computed in float32.
                   "--precision", "fp32"],
    }  # fmt: skip
    said = {
        name: done(
            cluster.submit("python", "-m", *words, environment={"SWITCHYARD_TRAIN__EPOCHS": "2"}
                           if name == "train" else None)
        )
        for name, words in steps.items()
    }  # fmt: skip
    return Road(home, f"http://127.0.0.1:{port}", said)


def post(road: Road, route: str, body: bytes, key: str | None = KEY) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(road.url + route, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def classify(road: Road, texts: list[str]) -> list[dict[str, Any]]:
    status, reply = post(road, "/v1/classify", json.dumps({"texts": texts}).encode())
    assert status == 200, reply
    found: list[dict[str, Any]] = reply["predictions"]
    return found


def test_every_step_says_what_it_made(road: Road) -> None:
    assert road.said["synthesize"]["rows"] == 400
    assert road.said["prepare"]["labels"] == 4
    assert road.said["train"]["bundle"] == f"{road.home}/run/bundle"
    assert road.said["evaluate"]["rows"] == road.said["prepare"]["test"]
    assert road.said["deploy"]["url"] == road.url
    trained = json.loads((road.home / "run" / "bundle" / "bundle.json").read_text())
    assert trained["configuration"]["train.epochs"] == 2, "the environment reached the job"


def test_endpoint_evaluation_and_plain_transformers_are_one_truth(road: Road) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    judged = pq.read_table(road.home / "test" / "predictions.parquet").to_pydict()
    texts = judged["text"]
    served = [
        answer
        for start in range(0, len(texts), 32)
        for answer in classify(road, texts[start : start + 32])
    ]
    folder = str(road.home / "run" / "bundle")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    with torch.inference_mode():
        inputs = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
        logits = model(**inputs).logits
    chosen = logits.argmax(dim=-1)
    plain = [model.config.id2label[int(c)] for c in chosen]
    # The offset decides the label and is no part of the score.
    offset = json.loads(Path(folder, "bundle.json").read_text())["decision_offset"]
    scores = torch.softmax(logits - torch.tensor(offset), dim=-1)
    of_labels = scores.gather(1, chosen.unsqueeze(1)).squeeze(1)
    assert [answer["label"] for answer in served] == judged["predicted"] == plain
    assert [answer["score"] for answer in served] == pytest.approx(judged["score"], abs=1e-3)
    assert of_labels.tolist() == pytest.approx(judged["score"], abs=1e-3)


@pytest.mark.parametrize(
    ("body", "key", "status", "kind"),
    [
        (b'{"texts": ["x"]}', None, 401, "unauthorized"),
        (b'{"texts": ["x"]}', "wrong", 401, "unauthorized"),
        (b'{"texts": []}', KEY, 400, "empty"),
        (b'{"texts": [" "]}', KEY, 400, "empty"),
        (json.dumps({"texts": ["x"] * 65}).encode(), KEY, 413, "too_large"),
        (b'{"texts": ["' + b"a" * 3_000_000 + b'"]}', KEY, 413, "too_large"),
        (b'{"texts": ["x"', KEY, 422, "invalid"),
        (b'{"texts": [7]}', KEY, 422, "invalid"),
        (b'{"texts": ["x"], "topk": 1}', KEY, 422, "invalid"),
    ],
)
def test_a_bad_request_gets_the_contract_s_answer(
    road: Road, body: bytes, key: str | None, status: int, kind: str
) -> None:
    found, reply = post(road, "/v1/classify", body, key)
    assert (found, reply["error_type"]) == (status, kind)


def test_nul_bytes_and_emoji_are_answered(road: Road) -> None:
    answers = classify(
        road, ["vpn\x00down", "🔥🔥🔥", "שלום", "\ud800".encode("utf-8", "replace").decode()]
    )
    assert len(answers) == 4
    assert all(0 <= answer["score"] <= 1 for answer in answers)


def test_the_page_and_health_need_no_key_and_info_does(road: Road) -> None:
    for route in ("/", "/health", "/ready", "/docs"):
        with urllib.request.urlopen(road.url + route, timeout=30) as reply:
            assert reply.status == 200
            assert len(reply.headers.get_all("X-Request-Id")) == 1
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(road.url + "/info", timeout=30)
    assert caught.value.code == 401


def test_ray_s_own_job_submit_does_the_same(cluster: Cluster, tmp_path: Path) -> None:
    """As the README says: with the two variables that `cluster.local up` prints."""
    ray = Path(sys.executable).parent / "ray"
    command = [str(ray), "job", "submit", "--working-dir", str(ROOT), "--", "python", "-m"]
    command += ["jobs.synthesize", "--rows", "50", "--output", f"{tmp_path}/desk"]
    done = subprocess.run(
        command,
        env={
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_API_SERVER_ADDRESS": cluster.address,
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "desk").num_rows == 50


def test_a_job_s_mistake_comes_back_as_exit_code_2_and_one_sentence(
    cluster: Cluster, tmp_path: Path
) -> None:
    result = cluster.submit(
        "python", "-m", "jobs.prepare", "--source", "relative/data", "--output", f"{tmp_path}/out"
    )
    assert result.returncode == 2
    assert "relative path" in str(last_json(result.stdout)["error"])
    assert "Traceback" not in result.stdout


def test_the_port_of_a_running_endpoint_cannot_be_changed_in_passing(
    road: Road, cluster: Cluster, free_port: Callable[[], int]
) -> None:
    result = cluster.submit(
        "python", "-m", "serve.deploy", "--bundle", f"{road.home}/run/bundle", "--open",
        "--port", str(free_port()),
    )  # fmt: skip
    assert result.returncode == 2
    assert "listens on" in str(last_json(result.stdout)["error"])


def test_down_ends_exactly_what_up_started(tmp_path: Path, cluster: Cluster) -> None:
    up = run_module("cluster.local", "up", "--cpus-per-node", "1", cwd=tmp_path)
    assert up.returncode == 0, up.stderr
    temp = json.loads((tmp_path / ".switchyard" / "cluster.json").read_text())["temp"]
    assert run_module("cluster.local", "down", cwd=tmp_path).returncode == 0
    left = [p.pid for p in psutil.process_iter() if _carries(p, temp)]
    assert left == []
    status = run_module("cluster.local", "status", cwd=cluster.home)
    assert last_json(status.stdout)["up"] is True, "the other cluster goes on"


def _carries(process: psutil.Process, temp: str) -> bool:
    try:
        return bool(process.environ().get(MARK, "").startswith(temp))
    except psutil.Error:
        return False
