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


@pytest.mark.parametrize("lines", [1, 5000], ids=["at the last line", "in the middle"])
def test_a_reader_that_leaves_ends_the_command_without_a_traceback(lines: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(lines=lines)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 141
    assert said == ""
