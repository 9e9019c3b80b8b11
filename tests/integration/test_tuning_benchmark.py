"""The benchmark of searches runs on little data, and its budgets of epochs are kept to."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmarks import lines
from tests.conftest import WORDS
from tests.integration.faults import ROOT


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_tiny_benchmark_of_searches_writes_a_line_for_each_side_once(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [
        {"text": f"{team} {WORDS[k % 20]} {WORDS[k // 2]}", "label": team}
        for team in ("mail", "vpn", "printer")
        for k in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    words = [
        sys.executable, "-m", "tests.benchmarks.tuning", "--tiny", f"--banking={tmp_path}",
        f"--folder={tmp_path}/lines", f"--model={tiny_model}", "--classes=3", "--budget=3",
        "--seeds=1", "--sides", "random", "random-3x", "killed",
    ]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    written = lines.read(tmp_path / "lines" / "lines.jsonl")
    found = {line["side"]: line for line in written}
    assert len(written) == 3
    # Two epochs a trial: the second is cut off, and goes on.
    assert (found["random"]["epochs"], found["random"]["trials"]) == (
        3, {"finished": 1, "unfinished": 1},
    )  # fmt: skip
    assert (found["random-3x"]["epochs"], found["random-3x"]["trials"]) == (
        9, {"finished": 4, "unfinished": 1},
    )  # fmt: skip
    assert (found["killed"]["lost"], found["killed"]["repeated"]) == (0, 0)
    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.stdout == done.stdout
    assert lines.read(tmp_path / "lines" / "lines.jsonl") == written
