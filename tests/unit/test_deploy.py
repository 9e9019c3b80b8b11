"""The Serve config, the keys and the packed code of `serve.deploy`. No Ray is started."""

import hashlib
import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from cluster import command, session
from cluster.errors import BundleError, ResourceError, SettingError, StorageError
from cluster.registry import Registry
from cluster.resources import Capacity
from serve import deploy, origin
from serve.config import user_config
from serve.deploy import Deploy, config_of
from serve.keyring import hash_key
from serve.settings import Endpoint, Limits, Live
from tests.conftest import last_json

CODE = "file:///runs/serve-code/switchyard-0123.zip"
TWO_CPUS = Capacity(2, 0, 1)


def settings(**values: Any) -> Deploy:
    return command.build(Deploy, {"bundle": "/runs/one/bundle"} | values)


def deployment(config: dict[str, Any]) -> dict[str, Any]:
    (application,) = config["applications"]
    (found,) = application["deployments"]
    return dict(found)


@pytest.mark.parametrize(
    ("values", "have"),
    [
        ({}, TWO_CPUS),
        ({}, Capacity(64, 4, 4)),
        ({"autoscaling": {"min_replicas": 0, "upscale_delay_s": 0}}, TWO_CPUS),
        ({"autoscaling": {"min_replicas": 2, "max_replicas": 8}}, Capacity(16, 0, 2)),
        ({"bundle": "s3://models/bundle", "threads": 3, "precision": "auto"}, TWO_CPUS),
        ({"host": "0.0.0.0", "port": 65535, "limits": {"waiting_requests": 1}}, TWO_CPUS),
    ],
)
def test_serve_takes_the_config_also_after_a_way_through_yaml(
    values: dict[str, Any], have: Capacity
) -> None:
    made = config_of(settings(**values), Live(key_hashes=(hash_key("sy_a"),)), have, CODE)
    taken = ServeDeploySchema.model_validate(made)
    assert taken.applications[0].import_path == "serve.replica:build"
    assert taken.applications[0].runtime_env == {"working_dir": CODE}
    again = yaml.safe_load(yaml.safe_dump(made, sort_keys=False))
    assert again == made
    assert ServeDeploySchema.model_validate(again) == taken


@pytest.mark.parametrize(
    ("addresses", "one_front"),
    [(["127.0.0.1"], False), (["127.0.0.1"] * 3, True), (["10.0.0.1", "10.0.0.2"], False)],
)
def test_nodes_that_share_an_address_have_one_front_and_others_one_each(
    addresses: list[str], one_front: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = [{"NodeManagerAddress": address} for address in addresses]
    monkeypatch.setattr(session, "nodes", lambda: alive)
    assert session.share_an_address() is one_front
    made = config_of(settings(), Live(), TWO_CPUS, CODE, one_front=session.share_an_address())
    taken = ServeDeploySchema.model_validate(made)
    assert taken.proxy_location == ("HeadOnly" if one_front else "EveryNode")


def test_the_replica_reads_from_the_config_what_the_command_was_told() -> None:
    told = settings(
        name="tickets",
        threads=2,
        precision="bf16",
        limits={"texts": 5, "answer_s": 1.5},
        feedback="/corrections",
        autoscaling={"max_replicas": 3},
    )
    live = Live(bundle="/runs/one/bundle", name="tickets", key_hashes=("aa", "bb"))
    made = config_of(told, live, Capacity(8, 0, 1), CODE)
    args, hot = json.loads(json.dumps([made["applications"][0]["args"], user_config(made)]))
    assert command.build(Endpoint, args) == Endpoint(
        precision="bf16",
        threads=2,
        limits=Limits(texts=5, answer_s=1.5),
        feedback={"uri": "/corrections"},
    )
    assert command.build(Live, hot) == live


def test_another_bundle_or_other_keys_change_nothing_that_restarts_replicas() -> None:
    """Serve replaces every replica where `args` or the code differ, and else tells them."""
    live = Live(bundle="/runs/one/bundle", key_hashes=("aa",))
    other = Live(bundle="/runs/two/bundle", key_hashes=("bb",), fallbacks=("/runs/one/bundle",))
    one, two = (config_of(settings(), hot, TWO_CPUS, CODE) for hot in (live, other))
    assert user_config(one) != user_config(two)
    for config in (one, two):
        del config["applications"][0]["deployments"][0]["user_config"]
    assert one == two


def test_serves_own_limit_is_never_met_before_that_of_the_door() -> None:
    found = deployment(config_of(settings(), Live(), TWO_CPUS, CODE))
    assert found["max_ongoing_requests"] > Limits().waiting_requests
    assert found["max_queued_requests"] == -1


@pytest.mark.parametrize(
    ("have", "scaling", "expected"),
    [
        # (smallest, largest), and what a replica claims
        (TWO_CPUS, {}, (1, 1)),
        (Capacity(1, 0, 1), {}, (1, 1)),
        (Capacity(9, 0, 1), {}, (1, 8)),
        (Capacity(9, 0, 1), {"min_replicas": 3}, (3, 8)),
        (Capacity(9, 0, 1), {"min_replicas": 0}, (0, 8)),
        (Capacity(9, 0, 1), {"max_replicas": 4}, (1, 4)),
        (Capacity(9, 0, 1), {"max_replicas": 400}, (1, 8)),
        (Capacity(9, 0, 1), {"min_replicas": 8, "max_replicas": 8}, (8, 8)),
        (Capacity(64, 4, 1), {}, (1, 4)),
        (Capacity(2, 4, 1), {"max_replicas": 3}, (1, 3)),
        (Capacity(4, 0.5, 1), {}, (1, 3)),
    ],
)
def test_replicas_stay_within_what_was_asked_and_what_there_is(
    have: Capacity, scaling: dict[str, int], expected: tuple[int, int]
) -> None:
    found = deployment(config_of(settings(autoscaling=scaling), Live(), have, CODE))
    numbers = found["autoscaling_config"]
    assert "initial_replicas" not in numbers, "Serve would go back to it at every change"
    keys = ("min_replicas", "max_replicas")
    assert tuple(numbers[key] for key in keys) == expected
    claim = {"num_gpus": 1, "num_cpus": 0} if have.gpus >= 1 else {"num_cpus": 1}
    assert found["ray_actor_options"] == claim


@pytest.mark.parametrize(
    ("have", "scaling", "new_ones_first"),
    [
        (TWO_CPUS, {}, True),  # beside it is the CPU that is kept for jobs
        (Capacity(1, 0, 1), {}, False),
        (Capacity(9, 0, 1), {}, True),
        (Capacity(64, 4, 1), {}, False),
        (Capacity(64, 4, 1), {"max_replicas": 3}, True),
        # A training holds the rest, and the update would wait for its end.
        (Capacity(4, 0, 2, free=((0.5, 0), (0.5, 0))), {"max_replicas": 1}, False),
        (Capacity(4, 0, 2, free=((0.5, 0), (1, 0))), {"max_replicas": 1}, True),
        (Capacity(64, 4, 1, free=((30, 0),)), {"max_replicas": 3}, False),
        (Capacity(64, 4, 1, free=((0.5, 1),)), {"max_replicas": 3}, True),
    ],
)
def test_new_replicas_start_before_old_ones_end_where_there_is_room(
    have: Capacity, scaling: dict[str, int], new_ones_first: bool
) -> None:
    found = deployment(config_of(settings(autoscaling=scaling), Live(), have, CODE))
    assert (found["max_surge_percent"] > 0) is new_ones_first


def test_more_replicas_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(ResourceError) as refused:
        config_of(settings(autoscaling={"min_replicas": 4}), Live(), Capacity(4, 0, 1), CODE)
    assert str(refused.value) == (
        "autoscaling.min_replicas is 4, and the cluster has 4 CPUs and 0 GPUs: room for 3."
    )


# Keys.


def key_file(folder: Path, text: str | bytes) -> str:
    path = folder / "keys.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.fixture
def printed(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """`serve.deploy --print` with more flags: exit code, last line, all else that was said."""

    def run(*flags: str) -> tuple[int, dict[str, Any], str]:
        with pytest.raises(SystemExit) as left:
            deploy.main(["--bundle", str(tiny_bundle), "--print", *flags])
        said = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, last_json(said.out), said.out + said.err

    return run


def keys_in(result: dict[str, Any]) -> list[str]:
    found: list[str] = user_config(result["config"])["key_hashes"]
    return found


def test_of_the_keys_in_a_file_only_the_hashes_are_in_the_config(
    tmp_path: Path, printed: Callable[..., tuple[int, dict[str, Any], str]]
) -> None:
    text = "\ufeff# of the help desk\nsy_first\n\n  sy_second \r\n   # of nobody\nsy_dritte-ä\n"
    code, result, said = printed("--keys", key_file(tmp_path, text))
    assert code == 0
    expected = ("sy_first", "sy_second", "sy_dritte-ä")
    assert keys_in(result) == [hashlib.sha256(key.encode()).hexdigest() for key in expected]
    assert "sy_" not in said
    assert "key" not in result


def test_a_key_that_is_made_is_told_once_and_is_the_one_in_the_config(
    printed: Callable[..., tuple[int, dict[str, Any], str]],
) -> None:
    results = [printed()[1] for _ in range(2)]
    for result in results:
        assert re.fullmatch(r"sy_[\w-]{32}", result["key"])
        assert keys_in(result) == [hash_key(result["key"])]
        assert result["key"] not in json.dumps(result["config"])
    assert results[0]["key"] != results[1]["key"]


def test_an_open_endpoint_has_no_keys(
    printed: Callable[..., tuple[int, dict[str, Any], str]],
) -> None:
    code, result, _ = printed("--open")
    assert (code, keys_in(result)) == (0, [])
    assert "key" not in result


def test_open_and_keys_together_are_refused(
    tmp_path: Path, printed: Callable[..., tuple[int, dict[str, Any], str]]
) -> None:
    code, result, _ = printed("--open", "--keys", key_file(tmp_path, "sy_first"))
    assert code == 2
    assert "give one of the two" in result["error"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no key; write one a line"),
        ("\n \n# nothing yet\n  # still nothing\n", "holds no key; write one a line"),
        (b"sy_\xff\xfe\n", "is not text in UTF-8"),
    ],
)
def test_a_file_without_a_key_in_it_is_refused(
    text: str | bytes,
    says: str,
    tmp_path: Path,
    printed: Callable[..., tuple[int, dict[str, Any], str]],
) -> None:
    code, result, said = printed("--keys", key_file(tmp_path, text))
    assert (code, result["error_type"]) == (2, "SettingError")
    assert says in result["error"]
    assert "Traceback" not in said


def test_a_file_of_keys_that_is_not_there_is_refused(
    tmp_path: Path, printed: Callable[..., tuple[int, dict[str, Any], str]]
) -> None:
    code, result, _ = printed("--keys", f"{tmp_path}/away.txt")
    assert code == 2
    assert "away.txt cannot be read: No such file or directory" in result["error"]


# What is refused before anything is started.


def test_a_folder_that_is_no_bundle_or_a_changed_one_is_refused(
    tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        deploy.deploy(settings(bundle=str(tmp_path), print=True))
    changed = make_bundle(tmp_path / "changed")
    with (changed / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"model\.safetensors was changed"):
        deploy.deploy(settings(bundle=str(changed), print=True))


def test_a_bundle_in_object_storage_is_looked_at_as_a_local_one_is(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(uri: str, folder: Path) -> None:
        shutil.copytree(tiny_bundle, folder, dirs_exist_ok=True)
        if "damaged" in uri:
            (folder / "model.safetensors").write_bytes(b"not weights")

    monkeypatch.setattr(origin.storage, "exists", lambda uri: "empty" not in uri)
    monkeypatch.setattr(origin.storage, "download", download)
    origin.check("s3://models/sound")
    with pytest.raises(BundleError, match=r"model\.safetensors was changed"):
        origin.check("s3://models/damaged")
    with pytest.raises(StorageError, match=r"--bundle s3://models/empty is no bundle"):
        origin.check("s3://models/empty")


def test_a_port_in_use_is_refused_by_its_number() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=rf"--port {port} on 127\.0\.0\.1 cannot be used"):
            deploy._require_free("127.0.0.1", port)
    deploy._require_free("127.0.0.1", port)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--port", "0"), "port = '0' is not allowed"),
        (("--port", "65536"), "port = '65536' is not allowed"),
        (("--precision", "fp16"), "precision = 'fp16' is not allowed"),
        (("--threads", "0"), "threads = '0' is not allowed"),
        (("--bundle", "http://models/a"), "http:// is not supported"),
    ],
)
def test_a_flag_with_a_value_that_is_not_allowed_is_refused(
    flags: tuple[str, ...], says: str, printed: Callable[..., tuple[int, dict[str, Any], str]]
) -> None:
    code, result, _ = printed(*flags)
    assert code == 2
    assert says in result["error"]


# The champion of a registry.


def test_the_config_says_where_the_champion_is_looked_up_and_how_often(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--registry", registry.uri, "--name", "tickets", "--registry.poll_s", "5"]
    with pytest.raises(SystemExit):
        deploy.main([*flags, "--print", "--open"])
    hot = user_config(last_json(capsys.readouterr().out)["config"])
    assert hot["bundle"] is None
    assert (hot["registry"], hot["name"]) == ({"uri": registry.uri, "poll_s": 5.0}, "tickets")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "--bundle is needed: the bundle that answers. Or give --registry"),
        (("--bundle", "/a", "--registry", "/b", "--name", "tickets"), "both say what answers"),
        (("--registry", "/b"), "--name is needed with --registry"),
        (("--registry", "/b", "--name", "a/b"), "--name 'a/b' is not allowed"),
        (("--registry", "/nowhere", "--name", "tickets"), r"has no tickets (empty)"),
    ],
)
def test_what_answers_is_one_bundle_or_a_name_in_a_registry(
    flags: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        deploy.main(["--print", "--open", *flags])
    assert left.value.code == 2
    assert says in str(last_json(capsys.readouterr().out)["error"])


def test_a_name_that_the_registry_does_not_have_is_told_with_those_it_has(
    registry: Registry,
) -> None:
    with pytest.raises(StorageError, match=r"has no router \(it has tickets\)"):
        deploy.deploy(settings(bundle=None, registry=registry.uri, name="router", print=True))


def test_a_replica_is_not_told_both_of_bundle_and_registry() -> None:
    with pytest.raises(SettingError, match="needs a bundle or a registry, one of the two"):
        command.build(Live, {"bundle": "/a", "registry": "/b"})


def test_the_packed_code_lies_beside_the_bundle_or_the_versions() -> None:
    assert origin.code_folder("/runs/one/bundle", None, "x") == "/runs/one/serve-code"
    assert origin.code_folder(None, "s3://models", "x") == "s3://models/x/serve-code"
