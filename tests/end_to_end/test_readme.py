"""The commands that README.md shows are run as they stand, on little data and a tiny BERT.

That every other one is there, with its options: tests/unit/test_readme.py.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.conftest import ROOT, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)


def commands() -> list[str]:
    """The blocks of README that speak of own data; the ones with make are targets of their own."""
    return [block for block in BLOCK.findall((ROOT / "README.md").read_text()) if "$DATA" in block]


def test_the_commands_of_the_readme_work_as_they_stand(
    cluster: Cluster, tiny_model: Path, tmp_path: Path
) -> None:
    assert commands(), "README shows how to use own data"
    words = ["mail", "vpn", "printer"]
    table = pa.table(
        {
            "title": [f"{words[k % 3]} trouble {k}" for k in range(90)],
            "body": [f"my {words[k % 3]} is down" for k in range(90)],
            "team": [words[k % 3] for k in range(90)],
        }
    )
    (tmp_path / "tickets").mkdir()
    pq.write_table(table, tmp_path / "tickets" / "a.parquet")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DATA": str(tmp_path),
        "RAY_API_SERVER_ADDRESS": cluster.address,
        "RAY_AUTH_MODE": "token",
    }
    for block in commands():
        # The job's environment is the cluster's: what makes the run small goes on the command.
        small = block
        for name, more in (("jobs.train", ""), ("tuning.search", "SWITCHYARD_TRIALS=2 ")):
            small = small.replace(
                f"python -m {name} ",
                f"env SWITCHYARD_MODEL__NAME={tiny_model} SWITCHYARD_MODEL__MAX_TOKENS=16 "
                f"SWITCHYARD_TRAIN__EPOCHS=1 {more}python -m {name} ",
            )
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", small],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{small}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    cluster.stop_serving()
    assert (tmp_path / "run" / "test" / "report.html").exists()
    assert (tmp_path / "search" / "analysis" / "report.html").exists()
