"""The table of the simulation of clusters, from lines as it writes them."""

from tests.benchmarks.scaling import table

ONE = {
    "nodes": 1,
    "slots": 2,
    "tasks": {"seconds": 10.0, "waits": 8.0},
    "transfer_ms": None,
    "replicas": [
        {"requests_per_second": 95.0, "aim": 100, "busy": 0.25},
        {"requests_per_second": 390.0, "aim": 400, "busy": 0.5},
    ],
}
TWO = {**ONE, "nodes": 2, "transfer_ms": 41.5}


def test_a_line_of_the_table_for_each_rate_and_shares_of_what_was_aimed_at() -> None:
    lines = table([ONE, TWO]).splitlines()[2:]
    assert lines[0] == "| 1 | 10.0, 8.0 | 80% |  | 95, 100 | 95% | 25% |"
    assert lines[1] == "|  |  |  |  | 390, 400 | 98% | 50% |"
    assert lines[2].startswith("| 2 | 10.0, 8.0 | 80% | 41.5 | 95, 100")


def test_a_cluster_that_failed_stays_in_the_table() -> None:
    assert table([{"nodes": 4, "failed": "see 4.log"}]).splitlines()[2] == (
        "| 4 | failed: see 4.log | | | | | |"
    )
