"""What `cluster.local status` makes of the dashboard's replies; the replies are a real cluster's,
cut down to what is read."""

from typing import Any

import pytest

from cluster import overview, state

HEAD, WORKER, LOST = "a" * 56, "b" * 56, "c" * 56
HAS = {"CPU": 2.0, "memory": 4 * 2**30, "node:127.0.0.1": 1.0}
REPLIES: dict[str, Any] = {
    "/nodes?view=summary": {
        "data": {
            "summary": [
                {"raylet": {"nodeId": WORKER, "state": "ALIVE", "resourcesTotal": HAS}},
                {"raylet": {"nodeId": LOST, "state": "DEAD", "resourcesTotal": HAS}},
                {
                    "raylet": {
                        "nodeId": HEAD,
                        "state": "ALIVE",
                        "isHeadNode": True,
                        "resourcesTotal": HAS | {"GPU": 1.0},
                    }
                },
                {},
            ],
            "nodeLogicalResources": {
                HEAD: "0.0/2.0 CPU\n1.0/1.0 GPU\n0B/4.00GiB memory",
                WORKER: "1.5/2.0 CPU\n0B/4.00GiB memory",
            },
        }
    },
    "/api/jobs/": [
        {"submission_id": "raysubmit_1", "status": "SUCCEEDED", "start_time": 1,
         "driver_exit_code": 0, "entrypoint": "python -m jobs.train"},
        {"submission_id": None, "status": "RUNNING", "start_time": 3, "entrypoint": "a driver"},
        {"submission_id": "raysubmit_2", "status": "RUNNING", "start_time": 2,
         "driver_exit_code": None, "entrypoint": "python -c '\n" + "x" * 200},
    ],
    "/api/serve/applications/": {
        "http_options": {"host": "0.0.0.0", "port": 8000},
        "applications": {
            "switchyard": {
                "status": "RUNNING",
                "route_prefix": "/",
                "deployments": {
                    "Replica": {
                        "replicas": [
                            {"state": "RUNNING", "node_id": HEAD},
                            {"state": "RUNNING", "node_id": WORKER},
                            {"state": "STARTING", "node_id": None},
                        ]
                    }
                },
            },
            "inner": {"status": "DEPLOYING", "route_prefix": None, "deployments": {}},
        },
    },
}  # fmt: skip


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(state, "get", lambda _, route: REPLIES[route])
    return overview.overview({})


def test_nodes_that_are_up_are_told_with_what_they_have_and_what_is_claimed_the_head_first(
    found: dict[str, Any],
) -> None:
    about = [(n["id"], n["head"], n["cpus"], n["cpus_claimed"], n["gpus"]) for n in found["alive"]]
    assert about == [(HEAD, True, 2.0, 0.0, 1.0), (WORKER, False, 2.0, 1.5, 0.0)]
    assert found["alive"][0]["gpus_claimed"] == 1.0
    assert found["alive"][1]["memory_gib"] == 4.0


def test_jobs_are_those_that_were_sent_the_newest_first_on_one_short_line(
    found: dict[str, Any],
) -> None:
    assert [(job["id"], job["exit_code"]) for job in found["jobs"]] == [
        ("raysubmit_2", None),
        ("raysubmit_1", 0),
    ]
    assert len(found["jobs"][0]["entrypoint"]) == overview.WIDTH
    assert "\n" not in found["jobs"][0]["entrypoint"]


def test_an_endpoint_is_told_with_its_url_its_replicas_and_their_nodes(
    found: dict[str, Any],
) -> None:
    one, inner = found["endpoints"]
    assert one == {
        "name": "switchyard",
        "status": "RUNNING",
        "url": "http://127.0.0.1:8000/",
        "replicas": {"RUNNING": 2, "STARTING": 1},
        "nodes": 2,
    }
    assert (inner["url"], inner["replicas"], inner["nodes"]) == (None, {}, 0)


def test_the_text_has_all_of_it(found: dict[str, Any]) -> None:
    text = overview.as_text(found, 3)
    for line in (
        "Nodes      2 of 3 are up",
        "aaaaaaaaaaaa  head    0 of 2 CPUs, 1 of 1 GPUs claimed, 4 GiB",
        "bbbbbbbbbbbb  worker  1.5 of 2 CPUs claimed, 4 GiB",
        "raysubmit_1  SUCCEEDED  python -m jobs.train",
        "http://127.0.0.1:8000/  replicas: 2 RUNNING, 1 STARTING, on 2 nodes",
        "inner  DEPLOYING  no URL  replicas: none",
    ):
        assert line in text


def test_what_does_not_answer_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "get", lambda *_: None)
    found = overview.overview({})
    assert found == {"alive": [], "jobs": [], "endpoints": []}
    text = overview.as_text(found, 1)
    assert "0 of 1 are up" in text
    assert "none was sent" in text
    assert "none is deployed" in text


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("fd00::5", "http://[fd00::5]:8000"),
        ("desk.example", "http://desk.example:8000"),
    ],
)
def test_an_address_is_shown_as_a_program_here_reaches_it(host: str, url: str) -> None:
    assert overview.url(host, 8000) == url
