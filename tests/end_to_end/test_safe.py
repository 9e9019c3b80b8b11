"""What cluster/SECURITY.md promises of a local cluster with an endpoint, tried on a real one."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from cluster import raylets
from jobs.classifier import bundle
from tests.end_to_end.endpoints import KEY, Endpoint, note, running
from tests.end_to_end.nodes import beyond_loopback, listening

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MARKER = "zanzibar"
PATH = "pemba"  # where a client has no business to put a text
# A sign that the tiny tokenizer does not have; without a word for the unknown it fails.
FATAL = f"{MARKER} 7"
GONE = ": No such file or directory"  # as grep says it
REFUSED = [
    ("GET", "/api/jobs/"),
    ("POST", "/api/jobs/"),
    ("GET", "/api/version"),
    ("GET", "/nodes?view=summary"),
    ("GET", "/api/cluster_status"),
    ("GET", "/api/v0/tasks"),
    ("GET", "/api/v0/logs"),
    ("GET", "/api/serve/applications/"),
    ("PUT", "/api/serve/applications/"),
    ("DELETE", "/api/serve/applications/"),
    ("PUT", "/api/packages/gcs/_ray_pkg_0000000000000000.zip"),
]
# By the beginning of its name a process, and what its gRPC server is asked.
CALLS = [
    ("gcs_server", "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"),
    ("raylet", "/ray.rpc.NodeManagerService/GetNodeStats"),
    ("python", "/ray.rpc.RayletDriver/Init"),  # Ray Client
    ("ray::ServeController", "/ray.rpc.CoreWorkerService/GetCoreWorkerStats"),
    ("ray::ServeReplica", "/ray.serve.ASGIService/HandleRequest"),
]


@pytest.fixture(scope="module")
def endpoint(
    tmp_path_factory: pytest.TempPathFactory,
    make_bundle: Callable[..., Path],
    free_port: Callable[[], int],
) -> Iterator[Endpoint]:
    """One replica whose tokenizer fails at a sign that it does not know, and which keeps
    corrections in a place that was taken away from it."""
    home = tmp_path_factory.mktemp("endpoint")
    made = make_bundle(home / "bundle")
    tokenizer = json.loads((made / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"].pop("[UNK]")
    tokenizer["added_tokens"] = [
        token for token in tokenizer["added_tokens"] if token["content"] != "[UNK]"
    ]
    bundle.amend(made, {"tokenizer.json": json.dumps(tokenizer)})
    with pytest.MonkeyPatch.context() as patch:
        # Serve writes a thousand lines of a replica's log at once, and here each by itself.
        patch.setenv("RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE", "1")
        with running(home, free_port(), cpus=2) as found:
            found.deploy(
                "--bundle", str(made), "--keys", str(home / "keys.txt"), "--threads", "1",
                "--feedback.uri", str(home / "feedback"),
            )  # fmt: skip
            yield found


@pytest.fixture(scope="module")
def token(endpoint: Endpoint) -> str:
    path = endpoint.written["token"]
    return os.environ["RAY_AUTH_TOKEN"] if path is None else Path(path).read_text().strip()


def status(base: str, method: str, route: str, authorization: str | None) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    body = {} if method in ("POST", "PUT") else None
    return httpx.request(method, base + route, headers=headers, json=body).status_code


@pytest.mark.parametrize(("method", "route"), REFUSED)
def test_the_dashboard_and_its_job_api_refuse_without_the_token(
    endpoint: Endpoint, method: str, route: str
) -> None:
    base = endpoint.written["dashboard"]
    assert status(base, method, route, None) == 401
    assert status(base, method, route, "Bearer wrong") == 403


def test_with_the_token_they_answer(endpoint: Endpoint, token: str) -> None:
    for method, route in REFUSED:
        if method == "GET" and route != "/api/v0/logs":  # which wants a node's id
            found = status(endpoint.written["dashboard"], method, route, f"Bearer {token}")
            assert found == 200, route


def test_a_node_s_agent_runs_no_job_without_the_token(endpoint: Endpoint) -> None:
    agents = [
        word.partition("=")[2]
        for process in raylets.processes(endpoint.written["temp"])
        for word in process.cmdline()
        if word.startswith("--dashboard-agent-listen-port=")
    ]
    assert agents
    base = f"http://127.0.0.1:{agents[0]}"
    for method, route in (("POST", "/api/job_agent/jobs/"), ("GET", "/api/serve/applications/")):
        assert status(base, method, route, None) == 401
        assert status(base, method, route, "Bearer wrong") == 403


def call(port: int, method: str, token: str | None) -> grpc.StatusCode:
    """What a gRPC server says to an empty message."""
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary(method)(b"", metadata=metadata, timeout=5)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize(("process", "method"), CALLS)
def test_what_is_called_within_the_cluster_wants_the_token_too(
    endpoint: Endpoint, token: str, process: str, method: str
) -> None:
    found = listening(endpoint.written["temp"])
    ports = [port for (_, port), name in found.items() if name.startswith(process)]
    for given in (None, "0" * 64):
        codes = {call(port, method, given) for port in ports}
        assert grpc.StatusCode.UNAUTHENTICATED in codes
        assert not codes & {grpc.StatusCode.OK, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
    if process == "gcs_server":
        assert {call(port, method, token) for port in ports} == {grpc.StatusCode.OK}


def test_nothing_of_the_cluster_listens_beyond_loopback(endpoint: Endpoint) -> None:
    found = listening(endpoint.written["temp"])
    note("listening", {f"{ip}:{port}": name for (ip, port), name in sorted(found.items())})
    assert len(found) > 10, "GCS, dashboard, raylet, agents, workers, HAProxy, replica"
    assert beyond_loopback(endpoint.written["temp"]) == {}


def test_only_this_user_reads_what_the_cluster_writes_and_its_token(endpoint: Endpoint) -> None:
    # Ray opens its own folder to everybody: the one around it is what keeps them out.
    assert Path(endpoint.written["temp"]).parent.stat().st_mode & 0o777 == 0o700
    if endpoint.written["token"] is not None:
        assert Path(endpoint.written["token"]).stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def answered(endpoint: Endpoint) -> list[int]:
    """Requests that all hold the marker: answered, refused in every way, and failed."""

    def post(route: str, **request: Any) -> int:
        headers = {"Authorization": f"Bearer {KEY}"} | request.pop("headers", {})
        reply = httpx.post(f"{endpoint.url}{route}", headers=headers, timeout=30, **request)
        return reply.status_code

    text = {"texts": [MARKER]}
    found = [
        post("/v1/classify", json=text),
        post("/predict", json={"inputs": MARKER}),
        post("/v1/feedback", json={"text": MARKER, "label": "mail"}),
        post("/v1/classify", json=text, headers={"Authorization": f"Bearer {MARKER}"}),
        post("/v1/classify", json=text | {MARKER: 1}),
        post("/v1/classify", content=f'{{"texts": ["{MARKER}'),
        post("/v1/classify", json={"texts": [MARKER * 20_000]}),
        post("/v1/classify", json={"texts": [MARKER * 500_000]}),
        post("/predict", json={"inputs": f"{MARKER} " * 30, "truncate": False}),
        post(f"/models/{PATH}", json={"inputs": MARKER}),
        post("/v1/feedback", json={"text": MARKER, "label": MARKER}),
        post("/v1/classify", json={"texts": [FATAL]}),
        post("/v1/classify", json={"texts": [f"{FATAL} " * 200]}),
    ]
    place = endpoint.home / "feedback"
    place.rename(endpoint.home / "feedback-before")
    place.write_text("")  # where a folder was
    return [*found, post("/v1/feedback", json={"text": MARKER, "label": "mail"})]


def files_with(folder: Path, word: str) -> list[str]:
    """Files below a folder that hold a word, whatever their kind."""
    done = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", word, folder],
        env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # What was removed meanwhile is passed over; else an error would look like a word not found.
    problems = [line for line in done.stderr.splitlines() if not line.endswith(GONE)]
    assert folder.is_dir()
    assert problems == []
    assert done.returncode in (0, 1) or done.stderr
    return done.stdout.splitlines()


def test_no_text_is_in_any_file_of_the_cluster(endpoint: Endpoint, answered: list[int]) -> None:
    assert answered == [200, 200, 200, 401, 422, 422, 413, 413, 413, 404, 422, 500, 500, 503]
    session = Path(endpoint.written["temp"])
    assert files_with(session, "POST / 422"), "what was refused is in the access log"
    assert files_with(session, "Traceback"), "the fault is in a log"
    assert files_with(session, MARKER) == []
    assert files_with(session, PATH) == []


def test_keys_and_the_token_are_nowhere_but_in_their_files(
    endpoint: Endpoint, token: str, answered: list[int]
) -> None:
    authorization = {"Authorization": f"Bearer {token}"}
    serve = f"{endpoint.written['dashboard']}/api/serve/applications/"
    config = httpx.get(serve, headers=authorization).text
    assert "key_hashes" in config
    assert KEY not in config
    for folder in (Path(endpoint.written["temp"]), endpoint.home / "code"):
        assert files_with(folder, KEY) == []
        assert files_with(folder, token) == []
