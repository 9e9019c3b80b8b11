"""`tuning.promote` with tiny bundles on one local Ray: into the registry, or not and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster import publishing, storage
from cluster.registry import CHAMPION, Registry
from jobs import answers
from jobs.classifier import bundle
from jobs.classifier.predictor import Predictor
from jobs.data_settings import Columns
from jobs.prepared import open_prepared
from jobs.sources import Source
from tests.conftest import last_json
from tests.integration import contenders, s3
from tests.integration.conftest import S3_PORT
from tuning import promote as command
from tuning import unseen, winner

# The bundles of this test are as sure where they are wrong as where they are right.
UNCALIBRATED = ("--max-calibration-error", "0.9")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    """A good bundle, two that never give one of the labels, and the data of all three."""
    folder = tmp_path_factory.mktemp("contenders")
    good = contenders.good_bundle(folder / "good", tiny_model)
    rows = contenders.tickets(good, contenders.TEXTS[:400])
    data = contenders.prepare_for(folder / "data", rows, test=0.3)
    contenders.trained_on(data, good)
    found = {
        f"no-{label}": contenders.deaf_to(label, good, folder / f"no-{label}")
        for label in ("mail", "printing")
    }
    return found | {"good": good, "data": Path(data)}


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """`tuning.promote` on a registry of this test: exit code, last line, all that was said."""
    monkeypatch.setattr(command.command, "_close_ray", lambda: None)  # others go on using it

    def run(*flags: object) -> tuple[int, dict[str, Any], str]:
        words = ["--registry", str(tmp_path / "registry"), "--name", "router"]
        with pytest.raises(SystemExit) as left:
            command.main([*words, *map(str, flags)])
        said = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, last_json(said.out), said.out + said.err

    return run


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers without actors, which take seconds to start, in this process."""

    def answered(
        source: Source, uri: str, columns: Columns, precision: Any, other: Any = None
    ) -> SimpleNamespace:
        found = answers._Answer(uri, columns, precision, 2, other)(pq.read_table(source.uri))
        return SimpleNamespace(iter_batches=lambda **_: [found])

    monkeypatch.setattr(answers, "answered", answered)


quickly = pytest.mark.usefixtures("in_process")
Run = Callable[..., tuple[int, dict[str, Any], str]]


def failed(said: dict[str, Any]) -> set[str]:
    return {check["name"] for check in said["checks"] if not check["passed"]}


def test_from_the_first_version_over_a_refusal_to_a_better_one_and_back(
    made: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    registry = Registry(str(tmp_path / "registry"))
    test_rows = int(open_prepared(str(made["data"])).counts("test").sum())

    code, said, _ = run("--bundle", made["no-printing"], *UNCALIBRATED)
    assert code == 0
    assert (said["version"], said["champion"], said["passed"]) == ("0001", None, True)
    assert said["uri"] == registry.resolve("router")[1]
    assert (said["test"]["rows"], said["test_uses"]) == (test_rows, 1)

    code, said, told = run("--bundle", made["no-mail"], *UNCALIBRATED)
    assert (code, said["error_type"], said["passed"]) == (3, "GateRefused", False)
    assert "class_recall" in failed(said)
    assert "mail (1.000 to 0.000 of" in said["error"]
    assert (said["version"], said["champion"], said["test_uses"]) == (None, "0001", 2)
    assert "FAILED  class_recall" in told
    assert "Traceback" not in told
    assert registry.versions("router") == ["0001"]

    code, said, _ = run("--bundle", made["good"])
    assert (code, said["version"], said["champion"]) == (0, "0002", "0001")
    assert (said["rows_compared"], said["rows_left_out"]) == (test_rows, 0)
    assert said["test_uses"] == 3
    assert registry.resolve("router")[0] == "0002"

    code, said, _ = run("--rollback")
    assert (code, said["version"], said["rolled_back"]) == (0, "0001", "0002")
    assert registry.resolve("router") == ("0001", said["uri"])
    code, said, _ = run("--rollback")
    assert code == 2
    assert "there is none before it to go back to" in said["error"]
    assert registry.resolve("router")[0] == "0001"


@quickly
def test_a_registered_version_is_sound_says_why_it_is_there_and_answers_as_before(
    made: dict[str, Path], run: Run
) -> None:
    run("--bundle", made["no-printing"], *UNCALIBRATED)
    _, said, _ = run("--bundle", made["good"])
    version = Path(said["uri"])
    about = bundle.check(version)
    assert about == bundle.read_about(made["good"])
    hashes = json.loads((version / bundle.COMMIT).read_text())["sha256"]
    assert {"README.md", "promotion.json", unseen.KEPT} <= set(hashes)
    card = (version / "README.md").read_text()
    assert "## Promotion to router" in card
    assert "passed the gate against version 0001" in card
    assert "| this model | version 0001 | difference (95% interval) |" in card
    assert "These test rows have been used 2 times to judge." in card
    record = json.loads((version / "promotion.json").read_text())
    assert record["checks"] == said["checks"]
    assert record["data"]["manifest_digest"] == about.manifest_digest
    few = contenders.TEXTS[:20]
    assert (
        Predictor(version).predict(few).logits.tolist()
        == Predictor(made["good"]).predict(few).logits.tolist()
    )
    assert "## Promotion" not in (made["good"] / "README.md").read_text()


@quickly
def test_a_dry_run_says_the_verdict_and_is_a_use_of_the_test_rows(
    made: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    code, said, told = run("--bundle", made["good"], "--dry-run")
    assert (code, said["passed"], said["version"], said["test_uses"]) == (0, True, None, 1)
    assert "Nothing was registered" in told
    assert Registry(str(tmp_path / "registry")).names() == []
    code, said, _ = run("--bundle", made["no-mail"], "--dry-run")
    assert (code, said["passed"], said["test_uses"]) == (3, False, 2)
    assert failed(said) == {"calibration"}


@quickly
def test_the_champions_own_weights_are_refused_without_a_look_at_the_test_rows(
    made: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    run("--bundle", made["good"])
    code, said, _ = run("--bundle", made["good"])
    assert code == 3
    assert "has the very weights of the champion, version 0001" in said["error"]
    digest = open_prepared(str(made["data"])).digest
    assert Registry(str(tmp_path / "registry")).uses(digest) == 1


@quickly
def test_the_eleventh_use_of_the_same_test_rows_warns_in_words_and_in_the_card(
    made: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    digest = open_prepared(str(made["data"])).digest
    for _ in range(10):
        Registry(str(tmp_path / "registry")).count_use(digest, {"name": "other"})
    code, said, told = run("--bundle", made["good"])
    assert (code, said["test_uses"]) == (0, 11)
    assert "warning: These test rows have been used 11 times" in told
    assert (
        "**Be careful.** These test rows have been used 11 times"
        in (Path(said["uri"]) / "README.md").read_text()
    )


@quickly
@pytest.mark.parametrize("gone", [False, True])
def test_rows_that_the_champion_was_trained_on_do_not_count(
    gone: bool, made: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    """The champion comes of other data, cut by another seed, which may be gone since."""
    old = shutil.copytree(made["no-printing"], tmp_path / "old")
    rows = contenders.tickets(made["good"], contenders.TEXTS[100:])
    first = contenders.prepare_for(tmp_path / "first", rows, seed=5, test=0.4)
    run("--bundle", contenders.trained_on(first, old), *UNCALIBRATED)
    parts = (pq.read_table(f"{first}/{split}") for split in ("train", "validation"))
    seen = {text for part in parts for text in part["text"].to_pylist()}
    if gone:
        shutil.rmtree(first)
    tested = pq.read_table(made["data"] / "test")["text"].to_pylist()
    code, said, told = run("--bundle", made["good"])
    assert code == 0
    known = [text for text in tested if text in seen]
    assert 0 < len(known) < len(tested)
    assert said["rows_left_out"] == len(tested) - said["rows_compared"]
    if gone:  # texts that it never had may be on the side of training all the same
        assert len(known) <= said["rows_left_out"] < len(tested)
        assert "that the champion was trained on (by the cuts of its split)" in told
    else:
        assert said["rows_left_out"] == len(known)
        assert f"{len(known)} that the champion was trained on (by the text ids of its" in told


@quickly
def test_data_that_was_moved_is_found_where_data_says_and_another_is_refused(
    made: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    bundle_ = shutil.copytree(made["good"], tmp_path / "bundle")
    contenders.rewrite(bundle_, data={"uri": str(tmp_path / "away")})
    code, said, _ = run("--bundle", bundle_)
    assert code == 2
    assert "if that was moved, say where it is with --data URI" in said["error"]
    other = contenders.prepare_for(
        tmp_path / "other", contenders.tickets(bundle_, contenders.TEXTS[:50])
    )
    code, said, _ = run("--bundle", bundle_, "--data", other)
    assert code == 2
    assert "is not what" in said["error"]
    code, said, _ = run("--bundle", bundle_, "--data", made["data"])
    assert (code, said["version"]) == (0, "0001")


@quickly
def test_the_winner_of_an_experiment_is_judged_in_place_of_a_bundle(
    made: dict[str, Path], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def winning(uri: str) -> str:
        asked.append(uri)
        return str(made["good"])

    monkeypatch.setattr(winner, "winning_bundle", winning)
    code, said, _ = run("--experiment", "/searches/one")
    assert (code, said["bundle"], asked) == (0, str(made["good"]), ["/searches/one"])


@quickly
def test_a_champion_that_changed_while_the_candidate_was_judged_stays(
    made: dict[str, Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(str(tmp_path / "registry"))
    run("--bundle", made["no-printing"], *UNCALIBRATED)
    publish = Registry.publish

    def meanwhile(self: Registry, name: str, folder: Path, commit: str) -> str:
        version = publish(self, name, made["no-mail"], commit)
        self.point(name, CHAMPION, version, expected="0001", reason="someone else")
        return publish(self, name, folder, commit)

    monkeypatch.setattr(Registry, "publish", meanwhile)
    code, said, _ = run("--bundle", made["good"])
    assert (code, said["error_type"], said["version"]) == (2, "ChangedError", "0003")
    assert "is version 0002 now and no longer version 0001" in said["error"]
    assert "is registered as version 0003, and was not compared with" in said["error"]
    assert registry.resolve("router")[0] == "0002"
    assert registry.versions("router") == ["0001", "0002", "0003"]


@quickly
def test_bundle_data_and_registry_may_all_lie_in_object_storage(
    made: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    with s3.store(S3_PORT) as bucket:
        data = f"{bucket}/data"
        publishing.upload(made["data"], data, "manifest.json")
        where = ("--registry", f"{bucket}/models", "--data", data)
        for name in ("no-printing", "no-mail", "good"):
            publishing.upload(made[name], f"{bucket}/{name}", bundle.COMMIT)
        code, said, _ = run("--bundle", f"{bucket}/no-printing", *where, *UNCALIBRATED)
        assert (code, said["version"]) == (0, "0001")
        code, said, _ = run("--bundle", f"{bucket}/no-mail", *where, *UNCALIBRATED)
        assert (code, said["test_uses"]) == (3, 2)
        code, said, _ = run("--bundle", f"{bucket}/good", *where)
        assert (code, said["version"], said["uri"]) == (
            0, "0002", f"{bucket}/models/router/versions/0002"
        )  # fmt: skip
        storage.download(said["uri"], tmp_path / "version")
        assert bundle.check(tmp_path / "version") == bundle.read_about(made["good"])
        code, said, _ = run("--rollback", *where[:2])
        assert (code, said["version"]) == (0, "0001")
