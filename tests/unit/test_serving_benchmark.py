"""The benchmark of serving: what it reads out of wrk, its load at a given rate, and its tables."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.benchmarks import (
    load,
    open_loop,
    serving,
    serving_inputs,
    serving_replica,
    serving_sides,
    serving_tables,
)
from tests.benchmarks.lines import Line
from tests.benchmarks.load import Target

# wrk 4.1.0 with load.lua, half of the requests invalid ones.
REFUSED = """\
Running 2s test @ http://127.0.0.1:8123/classify
  1 threads and 2 connections
sent 500
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     8.46ms    7.68ms  43.97ms   54.99%
    Req/Sec   274.65    127.84   610.00     80.00%
  Latency Distribution
     50%    7.98ms
     75%   12.91ms
     90%   19.25ms
     99%   31.42ms
  558 requests in 2.04s, 154.69KB read
  Non-2xx or 3xx responses: 280
Requests/sec:    273.71
Transfer/sec:     75.88KB
{"requests": 558, "microseconds": 2038688, "refused": 280, "broken": 0, "late": 0, \
"p50_us": 7976, "p90_us": 19249, "p99_us": 31421, "most_us": 43969}
"""


def test_what_was_refused_is_no_request_answered() -> None:
    assert load.read(REFUSED) == {
        "requests": 558,
        "requests_per_second": pytest.approx(278 / 2.038688, abs=0.01),
        "errors": 280,
        "p50_ms": 7.976,
        "p90_ms": 19.249,
        "p99_ms": 31.421,
        "most_ms": 43.969,
    }


def test_requests_that_broke_or_were_late_are_errors() -> None:
    said = REFUSED.replace(
        '"refused": 280, "broken": 0, "late": 0', '"refused": 1, "broken": 2, "late": 4'
    )
    assert load.read(said)["errors"] == 7


def test_wrk_that_could_not_connect_is_said_to_have_failed() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        load.read("unable to connect to 127.0.0.1:8123 Connection refused\n")


def test_wrk_is_told_everything_that_its_script_needs() -> None:
    words = load.command(
        Target("http://127.0.0.1:1/x", "key"), Path("bodies"), connections=64, seconds=15, every=9
    )
    assert words[-5:] == ["http://127.0.0.1:1/x", "--", "bodies", "key", "9"]
    assert {"-t1", "-c64", "-d15s", str(load.SCRIPT)} <= set(words)
    assert load.SCRIPT.is_file()


def test_requests_are_due_by_chance_at_the_rate_asked_for() -> None:
    moments = open_loop.due(200, 50, seed=1)
    assert moments == sorted(moments)
    assert moments == open_loop.due(200, 50, seed=1)
    assert moments != open_loop.due(200, 50, seed=2)
    assert moments[-1] < 50
    # 10,000 ± four standard deviations of a Poisson count.
    assert 9_600 < len(moments) < 10_400


class _Answers(BaseHTTPRequestHandler):
    """200 to what has the key and asks about "good"."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        allowed = self.headers["Authorization"] == "Bearer key" and self.path == "/v1/classify"
        self.send_response(200 if allowed and body == b"good" else 422)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/classify"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_request_that_is_due_is_sent_and_only_good_answers_are_timed(answering: str) -> None:
    found = open_loop.run(Target(answering, "key"), ["good", "bad"], rate=400, seconds=0.2, seed=3)
    due = len(open_loop.due(400, 0.2, seed=3))
    assert found["requests"] == due
    assert found["errors"] == due // 2
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["most_ms"]


def test_where_nobody_answers_every_request_is_an_error() -> None:
    found = open_loop.run(
        Target("http://127.0.0.1:9/x", "key"), ["x"], rate=100, seconds=0.1, seed=0
    )
    assert found["errors"] == found["requests"] > 0
    assert "p99_ms" not in found


def test_an_answer_without_a_length_is_not_guessed() -> None:
    assert open_loop.length_of(b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n") == 31
    with pytest.raises(ValueError, match="without a length"):
        open_loop.length_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_bodies_are_one_a_line_and_hold_every_text(tmp_path: Path) -> None:
    texts = [f'text "{number}"\nof two lines' for number in range(70)]
    given = serving_inputs.Inputs(texts, tmp_path)
    assert len(given.one.read_text().splitlines()) == 70
    assert (
        len(given.many.read_text().splitlines()) == 2
    )  # a last group of six would be another load


def test_sides_run_with_rays_own_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    found = serving_sides.environment("MARK=1")
    assert "RAY_ADDRESS" not in found
    assert "RAY_SERVE_ENABLE_HA_PROXY" not in found
    assert found["RAY_worker_niceness"] == "0"
    assert found["MARK"] == "1"


def test_a_line_that_is_there_is_not_run_again_but_one_that_failed_is(tmp_path: Path) -> None:
    place = tmp_path / "lines.jsonl"

    def fails() -> Line:
        raise RuntimeError("no answer")

    assert serving.once(place, {"side": "ours"}, fails)["failed"] == "RuntimeError: no answer"
    assert serving.once(place, {"side": "ours"}, lambda: {"value": 1}) == {
        "side": "ours",
        "value": 1,
    }
    assert serving.once(place, {"side": "ours"}, fails) == {"side": "ours", "value": 1}


def turn(side: str, rate: float, many: float = 10.0, one: float = 9.0, **more: object) -> Line:
    found: Line = {
        "what": "speed",
        "side": side,
        "start_s": 12.0,
        "single": {
            "requests_per_second": rate,
            "p50_ms": 200.0,
            "p99_ms": 400.0,
            "errors": 0,
            "generator_cores": 0.1,
        },
        "many": {"requests_per_second": many, "errors": 0},
        "one": {"p50_ms": one, "errors": 0},
    }
    return found | more


def ceiling(rows: float) -> Line:
    return {
        "what": "speed",
        "side": "ceiling",
        "rows_per_second": rows,
        "best": "bf16-64",
        "forward_p50_ms": 4.0,
        "answer_p50_ms": 4.5,
    }


HALF = {
    "rate": 200.0,
    "p50_ms": 12.0,
    "p99_ms": 61.0,
    "generator_late_p99_ms": 1.0,
    "errors": 2,
}


def test_sides_are_compared_by_the_medians_of_their_turns() -> None:
    found = [
        turn("ours", 400, many=30, one=6.5, half=HALF),
        turn("ours", 900, many=31, one=6.6, half=HALF),
        turn("ours", 410, many=29, one=9.9, half=HALF),
        turn("serve", 100),
        turn("serve", 102),
        turn("pipeline", 83),
        ceiling(1100),
        ceiling(1200),
    ]
    said = "\n".join([*serving_tables.speed(found), *serving_tables.targets(found)])
    assert (
        "| **ours** | 3 | 410 | 400 to 900 | 200 ms, 400 ms | 960 | 6.60 ms | 12.0 s | 6 |" in said
    )
    assert "(best: bf16-64) | 2 | | | | 1,150 | 4.00 ms |" in said
    assert (
        "over Serve's defaults, FastAPI ingress, 1 text, 64 connections | 4.06 | at least 4: met"
        in said
    )
    assert "with a pipeline, 1 text, 64 connections | 4.94 | at least 5: **missed** |" in said
    assert "| 0.83 | at least 0.85: **missed** |" in said
    assert "| p99 at half of the peak | 61.0 ms | under 60 ms: **missed** |" in said
    assert "beyond the bare forward pass | 2.60 ms | within 3 ms: met |" in said


def test_sides_that_have_not_run_are_not_judged() -> None:
    assert serving_tables.targets([turn("serve", 100)]) == serving_tables.targets([])
    assert "ours" not in "\n".join(serving_tables.speed([turn("serve", 100)]))


def memory_line(values: list[int], same: bool = True) -> Line:
    curve = [[5_000 * k, value, value // 2] for k, value in enumerate(values)]
    return {"what": "memory", "curve": curve, "errors": 0, "same_process": same}


def test_what_memory_grows_while_it_warms_up_is_left_out() -> None:
    flat = memory_line([100 << 20] * 5 + [700 << 20] * 36)
    slope, rise = serving_replica.growth(flat["curve"])
    assert slope == pytest.approx(0, abs=1e-3)
    assert rise == pytest.approx(0, abs=1e-9)
    assert "| +0.00% | at most 1%: met |" in serving_tables.targets([flat])[-1]
    drawn = "\n".join(serving_tables.memory(flat))
    assert "    ▁▁▁▁▁" + "█" * 36 in drawn
    assert "| 0 | 100.0 | 50.0 |" in drawn


def test_a_leak_is_found_and_so_is_a_replica_that_was_replaced() -> None:
    leak = memory_line([(700 << 20) + 500_000 * k for k in range(41)])
    slope, _ = serving_replica.growth(leak["curve"])
    assert slope == pytest.approx(100_000)
    assert "**missed**" in serving_tables.targets([leak])[-1]
    assert "**missed**" in serving_tables.targets([memory_line([700 << 20] * 41, same=False)])[-1]


def test_a_replica_is_judged_by_its_slowest_start() -> None:
    line = {"what": "ready", "ready": [5.0, 8.1, 5.2], "outage": [7.0, 9.0, 7.1], "start_s": 14.0}
    assert "5.2 s (5.0 to 8.1)" in serving_tables.ready(line)[0]
    assert serving_tables.targets([line])[-1].endswith("| 8.1 s | within 8 s: **missed** |")
