"""A preparation that is killed half-way leaves no half folder, and the next gives the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cluster import storage
from tests.integration.conftest import read_rows, write_tickets
from tests.integration.test_preparation_depth import SIDES, zipf


def command(source: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "jobs.prepare", "--source", str(source), "--output", str(out)]


def kill_when(said: str, process: "subprocess.Popen[str]") -> None:
    """SIGKILL for the process and all that it started, as soon as it has said something."""
    assert process.stderr is not None
    for line in process.stderr:
        if said in line:
            break
    else:
        raise AssertionError(f"it ended without saying {said!r}")
    # The process first: it would tidy up if it saw others die.
    everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in everyone:
        try:
            os.kill(one.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it died with its parent
    process.wait()
    psutil.wait_procs(everyone, timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("said", ["Reading the keys", "Writing every row"])
def test_killed_and_run_again_it_gives_the_same(tmp_path: Path, said: str) -> None:
    source = write_tickets(tmp_path / "source", zipf(20_000, 30), files=8)
    subprocess.run(command(source, tmp_path / "expected"), check=True, capture_output=True)
    killed = subprocess.Popen(
        command(source, tmp_path / "out"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    kill_when(said, killed)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out.*.partial"))
    subprocess.run(command(source, tmp_path / "out"), check=True, capture_output=True)
    assert not list(tmp_path.glob(".*"))
    for side in SIDES:
        expected, found = (
            sorted((str(r["text"]), str(r["label"])) for r in read_rows(tmp_path / name / side))
            for name in ("expected", "out")
        )
        assert found == expected
    manifests = [
        storage.read_json(f"{tmp_path}/{name}/manifest.json") for name in ("expected", "out")
    ]
    for manifest in manifests:
        manifest["settings"].pop("output")
    assert manifests[0] == manifests[1]
