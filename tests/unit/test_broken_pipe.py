"""A command whose reader leaves, as with `| head -1`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from cluster import command

sys.stdin.read()  # until the reader has left

def action(settings):
    for number in range({lines}):
        print(f"line {{number}} " + "x" * 1000)
    return {{"done": True}}

command.run(command.Settings, action, program="test", summary="test", argv=[])
"""


SUBMITTED = """
import sys
from cluster import submit

class Client:
    def submit_job(self, **_):
        return "raysubmit_1"

    async def tail_job_logs(self, _):
        sys.stdin.read()
        for number in range({lines}):
            yield f"line {{number}} " + "x" * 1000 + "\\n"

submit._client = lambda _: Client()
submit.main(["--address", "http://head:8265", "--working-dir", "cluster/monitoring", "--", "true"])
"""


def ends_without_a_reader(program: str) -> tuple[int, str]:
    """(exit code, standard error) of a program whose reader has left when standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("lines", [1, 5000], ids=["at the last line", "in the middle"])
def test_a_reader_that_leaves_ends_the_command_without_a_traceback(lines: int) -> None:
    assert ends_without_a_reader(PROGRAM.format(lines=lines)) == (141, "")


@pytest.mark.parametrize("lines", [1, 5000], ids=["at the last line", "in the middle"])
def test_a_reader_that_leaves_a_jobs_log_is_told_that_the_job_goes_on(lines: int) -> None:
    code, said = ends_without_a_reader(SUBMITTED.format(lines=lines))
    assert code == 141
    assert said.splitlines()[1:] == [
        "The job goes on. To stop it: ray job stop raysubmit_1 --address http://head:8265"
    ]
