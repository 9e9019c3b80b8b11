"""The cluster of virtual machines: Ray's own launcher takes it, and nothing of it is public."""

import copy
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.aws import config as aws
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from cluster import haproxy, node_limits, session

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "cluster" / "cloud" / "aws.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def environment() -> dict[str, str]:
    text = (ROOT / "cluster" / "cloud" / "nodes.env").read_text()
    return dict(word.split("=", 1) for word in shlex.split(text, comments=True))


def starts(config: dict[str, Any]) -> list[str]:
    """The commands that start Ray, of the head and of a worker."""
    return [config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]


def test_the_first_line_says_what_was_checked_and_that_it_was_never_launched() -> None:
    first = FILE.read_text().splitlines()[0]
    assert re.match(r"# Checked .* by tests/unit/test_cloud\.py; never launched\.", first)


def test_ray_s_launcher_takes_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert prepared["available_node_types"]["gpus"]["max_workers"] == 4
    # Ray's own defaults would start its newest image, with the dashboard on every interface.
    assert prepared["docker"] == {}
    assert "0.0.0.0" not in yaml.safe_dump(prepared)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda config: config.update(idle_timeout="10"),
        lambda config: config.update(idle_timeout_minutes="10"),
        lambda config: config["available_node_types"]["gpus"].pop("node_config"),
        lambda config: config["available_node_types"]["gpus"]["resources"].update(GPU="one"),
        lambda config: config["provider"]["security_group"].update(Open=True),
        lambda config: config.update(head_node_type="nobody"),
    ],
)
def test_what_the_launcher_does_not_know_it_refuses(
    config: dict[str, Any], spoil: Callable[[Any], Any]
) -> None:
    spoil(config)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config(prepare_config(config))


def test_workers_come_from_zero_on_the_spot_market_and_go_when_they_are_idle(
    config: dict[str, Any],
) -> None:
    workers = {k: v for k, v in config["available_node_types"].items() if k != "head"}
    for name, each in workers.items():
        assert each["min_workers"] == 0, name
        assert each["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}, name
    assert sum(each["max_workers"] for each in workers.values()) == config["max_workers"]
    assert 0 < config["idle_timeout_minutes"] <= 30
    head = config["available_node_types"]["head"]
    assert head["resources"] == {"CPU": 0}, "the head computes nothing"
    assert "InstanceMarketOptions" not in head["node_config"], "with the head all would go"
    nodes = [
        (float(each["resources"]["CPU"]), float(each["resources"].get("GPU", 0)))
        for each in workers.values()
        for _ in range(each["max_workers"])
    ]
    assert sorted(node_limits.nodes_at_most(environment())) == sorted(nodes)


def test_only_ssh_is_open_to_others(config: dict[str, Any]) -> None:
    extended = config["provider"]["security_group"].get("IpPermissions", [])
    rules = aws._create_default_inbound_rules({"sg-own"}, extended)
    public = [rule for rule in rules if rule.get("IpRanges")]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in public] == [(22, 22)]
    for command in starts(config):
        assert "0.0.0.0" not in command
    head, _ = starts(config)
    assert "--dashboard-host=127.0.0.1" in head


def test_every_machine_asks_for_the_token_and_has_the_environment_of_the_code(
    config: dict[str, Any],
) -> None:
    wanted = session.COMMON_ENVIRONMENT | session.SERVE_ENVIRONMENT | haproxy.RETRIES
    has = environment()
    assert {key: has.get(key) for key in wanted} == wanted
    assert has["RAY_AUTH_MODE"] == "token"
    for command in starts(config):
        read = command.index("set -a && . ~/switchyard/nodes.env && set +a")
        assert read < command.index("ray start"), "Ray reads it when it starts"
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"][0]


def test_ray_knows_every_flag_that_it_is_started_with(config: dict[str, Any]) -> None:
    flags = {flag for each in start.params for flag in each.opts}
    for command in starts(config):
        used = {word.split("=")[0] for word in shlex.split(command) if word.startswith("--")}
        assert used - flags == set()


def test_what_is_sent_is_there_and_installs_from_the_constraints(config: dict[str, Any]) -> None:
    for place in config["file_mounts"].values():
        assert place.startswith("~") or (ROOT / place).is_file(), place
    (install,) = (each for each in config["setup_commands"] if "pip install" in each)
    assert "--constraint constraints.txt" in install
    assert "boto3" in install, "the head's autoscaler starts machines with it"


def test_a_machine_s_credentials_are_not_a_url_away_and_its_disk_is_encrypted(
    config: dict[str, Any],
) -> None:
    for name, each in config["available_node_types"].items():
        node = each["node_config"]
        assert node["MetadataOptions"]["HttpTokens"] == "required", name
        assert node["MetadataOptions"]["HttpPutResponseHopLimit"] == 1, name
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"]), name
    profiles = {
        name: each["node_config"]["IamInstanceProfile"]["Arn"]
        for name, each in config["available_node_types"].items()
    }
    assert profiles["head"] not in (profiles["gpus"], profiles["cpus"]), "only it starts machines"
    assert not re.search(r"AKIA|aws_secret|ami-[0-9a-f]{8}", FILE.read_text())
