"""The packed code that replicas run."""

import os
import zipfile
from pathlib import Path

import pytest

from cluster.errors import StorageError
from serve import package
from serve.package import publish_code


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source tree like this one; what `publish_code` packs."""
    root = tmp_path / "project"
    for name in (
        "cluster/__init__.py",
        "jobs/classifier/text.py",
        "serve/page/index.html",
        "serve/deploy.py",
        "tuning/search.py",
        "serve/__pycache__/deploy.cpython-311.pyc",
        "jobs/classifier/__pycache__/text.cpython-311.pyc",
        "tests/unit/test_a.py",
        "keys.txt",
        ".git/config",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    monkeypatch.setattr(package, "__file__", str(root / "serve" / "deploy.py"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return root


def test_the_packed_code_holds_the_four_packages_and_nothing_else(
    project: Path, tmp_path: Path
) -> None:
    uri = publish_code(f"{tmp_path}/code")
    (packed,) = (tmp_path / "code").iterdir()
    assert uri == f"file://{packed}"
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [  # Ray takes one folder off when it unpacks
            "switchyard/cluster/__init__.py",
            "switchyard/jobs/classifier/text.py",
            "switchyard/serve/deploy.py",
            "switchyard/serve/page/index.html",
            "switchyard/tuning/search.py",
        ]
        assert archive.read("switchyard/tuning/search.py") == b"# tuning/search.py\n"
    assert sorted(os.listdir(tmp_path)) == ["code", "project"]


def test_the_name_of_the_packed_code_is_that_of_its_content(project: Path, tmp_path: Path) -> None:
    first = publish_code(f"{tmp_path}/code")
    (project / "serve" / "__pycache__" / "other.pyc").write_text("x")
    (project / "tests" / "unit" / "test_b.py").write_text("x")
    os.utime(project / "serve" / "deploy.py", (0, 0))
    assert publish_code(f"{tmp_path}/code") == first

    (project / "jobs" / "classifier" / "text.py").write_text("# changed\n")
    changed = publish_code(f"{tmp_path}/code")
    (project / "tuning" / "search.py").rename(project / "tuning" / "space.py")
    renamed = publish_code(f"{tmp_path}/code")
    assert len({first, changed, renamed}) == 3
    assert len(list((tmp_path / "code").iterdir())) == 3


def test_code_that_is_there_already_is_not_written_again(project: Path, tmp_path: Path) -> None:
    path = Path(publish_code(f"{tmp_path}/code").removeprefix("file://"))
    path.write_text("as it was")
    publish_code(f"{tmp_path}/code")
    assert path.read_text() == "as it was"


def test_this_projects_own_code_holds_what_a_replica_imports(tmp_path: Path) -> None:
    packed = publish_code(f"{tmp_path}/code").removeprefix("file://")
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
    tops = {name.split("/")[1] for name in names}
    assert tops == {"cluster", "jobs", "serve", "tuning"}
    assert {"switchyard/serve/replica.py", "switchyard/serve/page/index.html"} <= set(names)
    assert [name for name in names if "__pycache__" in name] == []


@pytest.mark.parametrize("folder", ["s3://models/serve-code", "gs://models/serve-code"])
def test_storage_that_ray_could_not_fetch_the_code_from_is_refused_at_once(
    project: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = dict.fromkeys(package.READERS, "a_package_that.is_not_there")
    monkeypatch.setattr(package, "READERS", away)
    with pytest.raises(StorageError, match=r"is not installed here.*every node, or give --code"):
        publish_code(folder)
