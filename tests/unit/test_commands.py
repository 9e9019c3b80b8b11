"""Every command keeps the contract of commands: help, exit codes, JSON as the last line."""

import importlib
import json

import pytest

COMMANDS = {
    "jobs.synthesize": "--output",
    "jobs.prepare": "--source",
    "jobs.train": "--data",
    "jobs.evaluate": "--bundle",
    "jobs.predict": "--bundle",
    "serve.deploy": "--bundle",
    "tuning.promote": "--registry",
    "tuning.retrain": "--source",
}


def end_of(module: str, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main(list(arguments))
    return int(ended.value.code or 0)


@pytest.mark.parametrize("module", [*COMMANDS, "cluster.submit", "cluster.local"])
def test_help_is_there_and_succeeds(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of(module, "--help") == 0
    said = capsys.readouterr().out
    assert f"python -m {module}" in said
    if module != "cluster.local":
        assert "default" in said


@pytest.mark.parametrize(("module", "flag"), COMMANDS.items())
def test_what_is_missing_is_named(
    module: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(module) == 2
    said = capsys.readouterr()
    assert f"{flag} is needed" in json.loads(said.out.splitlines()[-1])["error"]
    assert said.err.count("\n") == 1, "one sentence, no traceback"


@pytest.mark.parametrize(("module", "flag"), COMMANDS.items())
def test_a_relative_path_in_a_submitted_job_is_refused(
    module: str,
    flag: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert end_of(module, flag, "some/where") == 2
    assert "relative path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("jobs.prepare", ["--source", "/no/such/source", "--output", "/no/such/output"]),
        ("jobs.train", ["--data", "/no/such/data", "--output", "/no/such/output"]),
        (
            "jobs.evaluate",
            ["--bundle", "/no/such/bundle", "--source", "/no/such/s", "--output", "/no/such/o"],
        ),
        (
            "jobs.predict",
            ["--bundle", "/no/such/bundle", "--source", "/no/such/s", "--output", "/no/such/o"],
        ),
        ("serve.deploy", ["--bundle", "/no/such/bundle"]),
        ("serve.deploy", ["--registry", "/no/such/registry", "--name", "router"]),
        (
            "tuning.promote",
            ["--bundle", "/no/such/bundle", "--registry", "/no/such/registry", "--name", "router"],
        ),
        (
            "tuning.retrain",
            [
                *("--source", "/no/such/source", "--output", "/no/such/output"),
                *("--registry", "/no/such/registry", "--name", "router"),
            ],
        ),
    ],
)
def test_what_does_not_exist_is_named_before_a_cluster_is_asked(
    module: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(module, *arguments) == 2
    said = capsys.readouterr().err
    assert "/no/such/" in said
    assert "Traceback" not in said
