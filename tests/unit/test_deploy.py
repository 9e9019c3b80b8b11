"""What `serve.deploy` takes and refuses: keys, bundles, flags, registries. No Ray is started."""

import hashlib
import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster import command
from cluster.errors import BundleError, SettingError, StorageError
from cluster.registry import Registry
from serve import deploy, origin
from serve.config import user_config
from serve.keyring import hash_key
from serve.settings import Live
from tests.conftest import last_json
from tests.unit.deploying import settings

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
