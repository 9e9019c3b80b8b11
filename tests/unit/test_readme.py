"""What README.md shows is there: every command with the options that are named, and every target
of make. The commands on own data are run by tests/end_to_end/test_readme.py."""

import importlib
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(?:bash|text)\n(.*?)```", re.DOTALL)
# `python -m module …`, up to what it sends as a command of its own.
COMMAND = re.compile(r"python -m (\S+)(.*?)(?= -- |$)", re.MULTILINE)
# In a page of help options stand two signs from the left, and what they mean two from them.
HELP = re.compile(r"^  (?:-h, )?(--.+?)(?:  |$)", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """`python -m module verb --option …`."""

    module: str
    verbs: tuple[str, ...]
    options: tuple[str, ...]


def commands(text: str) -> list[Command]:
    """Those in the blocks of a page, each once."""
    found = []
    for block in BLOCK.findall(text):
        lines = re.sub(r"\s#.*", "", block.replace("\\\n", " "))
        for module, rest in COMMAND.findall(lines):
            words = rest.split()
            verbs = itertools.takewhile(lambda word: not word.startswith("--"), words)
            options = (word for word in words if word.startswith("--"))
            found.append(Command(module, tuple(verbs), tuple(options)))
    return list(dict.fromkeys(found))


def known(command: Command, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The options that its own help lists."""
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(command.module).main([*command.verbs, "--help"])
    assert ended.value.code == 0, f"{command.module} knows {command.verbs}"
    columns = HELP.findall(capsys.readouterr().out)
    return {option for column in columns for option in re.findall(r"--[\w.-]+", column)}


def test_the_commands_of_a_page_are_found_with_what_they_send(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (
        "```text\nmake x\npython -m cluster.local logs --job ID  # or --node\n```\n"
        "```bash\npython -m cluster.submit --address A -- python -m jobs.train --data D \\\n"
        "  --not.known 1 &\n```\n"
    )
    local, submit, train = commands(page)
    assert local == Command("cluster.local", ("logs",), ("--job",))
    assert submit == Command("cluster.submit", (), ("--address",))
    assert set(train.options) - known(train, capsys) == {"--not.known"}


@pytest.mark.parametrize("command", commands(README), ids=lambda command: command.module)
def test_every_command_that_the_readme_shows_knows_the_options_that_it_gives(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(command.options) <= known(command, capsys)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)`", README))))
def test_every_make_target_that_the_readme_names_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
