"""Rounds of retraining with played stages: what is done, what is gone on with, how it ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster import lease
from cluster.registry import CHAMPION
from tests.conftest import last_json
from tests.unit.nights import LABELS, NAME, Night, write_data
from tuning import promotion, retrain

Run = Callable[..., tuple[int, dict[str, Any], str]]
ALL = {"prepare": "made", "train": "made", "judge": "made"}
KEPT = dict.fromkeys(ALL, "kept")


@pytest.fixture
def night(
    tmp_path: Path, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Night:
    made = Night(tmp_path, make_bundle)
    made.play(monkeypatch)
    monkeypatch.setattr(lease, "SETTLE_S", 0.0)
    return made


@pytest.fixture
def run(night: Night, capsys: pytest.CaptureFixture[str]) -> Run:
    """`tuning.retrain` on the registry of this test: exit code, last line, all that was said."""

    def run(*flags: str, output: str = "round") -> tuple[int, dict[str, Any], str]:
        words = ["--registry", night.registry.uri, "--output", str(night.home / output)]
        with pytest.raises(SystemExit) as left:
            retrain.main([*words, "--name", NAME, "--source", "/now/tickets", *flags])
        said = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, last_json(said.out), said.out + said.err

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_better_model_becomes_champion_and_a_second_run_changes_nothing(
    night: Night, run: Run
) -> None:
    night.first()
    code, said, told = run()
    assert (code, night.done) == (0, ["prepare", "train", "judge"])
    assert said["stages"] == ALL
    assert (said["promoted"], said["champion"], said["version"]) == (True, "0001", "0002")
    assert night.registry.resolve(NAME) == ("0002", said["uri"])
    assert said["grown"]["rows"] == [270, 360]
    assert "360 rows of 351 distinct texts, +90 and +90 since the champion's data." in told
    before = files(night.home)
    code, again, told = run()
    assert (code, again) == (0, said | {"stages": KEPT})
    assert "nothing is done again" in told
    assert files(night.home) == before
    assert night.done == ["prepare", "train", "judge"]


def test_the_metrics_of_a_round_go_by_the_name_of_its_folder(night: Night, run: Run) -> None:
    night.first()
    run(output="2026-11-25")
    assert night.runs == ["2026-11-25"]


def test_a_worse_model_exits_3_leaves_the_champion_and_is_judged_again_under_other_limits(
    night: Night, run: Run
) -> None:
    night.first()
    night.better = False
    code, said, told = run()
    assert (code, said["error_type"], said["promoted"], said["version"]) == (
        3, "GateRefused", False, None
    )  # fmt: skip
    assert "version 0001 stays the champion of router" in said["error"]
    assert "FAILED  class_recall" in told
    assert night.registry.versions(NAME) == ["0001"]
    before = files(night.home)
    code, again, _ = run()
    assert (code, again) == (3, said | {"stages": KEPT})
    assert files(night.home) == before
    code, said, _ = run("--max-class-drop", "0.5")
    assert (code, said["stages"]) == (3, KEPT | {"judge": "made"})
    assert night.done == ["prepare", "train", "judge", "judge"]
    code, said, _ = run("--max-class-drop", "0.5", "--precision", "bf16")
    assert (code, said["stages"]) == (3, KEPT | {"judge": "made"}), "other answers, another verdict"


@pytest.mark.parametrize(
    ("stage", "then"),
    [
        ("prepare", ["prepare", "train", "judge"]),
        ("train", ["resume", "judge"]),
        ("judge", ["judge"]),
    ],
)
def test_a_round_that_was_cut_off_goes_on_with_the_stage_that_had_not_ended(
    stage: str, then: list[str], night: Night, run: Run
) -> None:
    night.first()
    night.fails[stage] = RuntimeError("the power went")
    code, said, _ = run()
    assert (code, said["error"]) == (1, "the power went")
    night.done.clear()
    code, said, _ = run()
    assert (code, said["version"], night.done) == (0, "0002", then)
    if stage == "train":
        assert said["stages"] == {"prepare": "kept", "train": "resumed", "judge": "made"}


def test_a_training_that_was_killed_before_it_wrote_what_it_is_begins_anew(
    night: Night, run: Run
) -> None:
    night.first()
    night.fails["train"] = RuntimeError("the power went")
    run()
    (night.home / "round" / "run" / "run.json").rename(night.home / "round" / "run" / ".running")
    night.done.clear()
    assert run()[0] == 0
    assert night.done == ["train", "judge"]


@pytest.mark.parametrize("after", [False, True])
def test_a_promotion_that_was_cut_off_is_made_once_and_without_a_new_look_at_the_rows(
    after: bool, night: Night, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the alias changed, or after it and before the outcome was written."""
    night.first()
    register = promotion.register

    def cut_off(*arguments: Any) -> tuple[str, str]:
        if after:
            register(*arguments)
        raise RuntimeError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(promotion, "register", cut_off)
        assert run()[0] == 1
    code, said, _ = run()
    assert (code, said["version"], said["stages"]) == (0, "0002", KEPT)
    assert night.done == ["prepare", "train", "judge"]
    assert night.registry.versions(NAME) == ["0001", "0002"]
    assert len(night.registry.history(NAME)) == 2


def test_a_promotion_that_somebody_rolled_back_is_not_made_again(
    night: Night, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.first()
    written = retrain.retraining._end

    def cut_off(*arguments: Any) -> Any:
        raise RuntimeError("the power went")

    monkeypatch.setattr(retrain.retraining, "_end", cut_off)
    assert run()[0] == 1
    monkeypatch.setattr(retrain.retraining, "_end", written)
    night.registry.roll_back(NAME, CHAMPION, reason="it was bad")
    assert run()[1]["version"] == "0002"
    assert night.registry.resolve(NAME)[0] == "0001"


def test_a_champion_that_changed_meanwhile_is_judged_against(night: Night, run: Run) -> None:
    night.first()
    night.fails["judge"] = RuntimeError("the power went")
    run()
    night.promote("other", ("mail", "phone"), write_data(night.home / "other-data", rows=31))
    code, said, _ = run()
    assert (code, said["begun_with"], said["champion"], said["version"]) == (
        0, "0001", "0002", "0003"
    )  # fmt: skip


def test_the_champions_own_weights_are_a_refusal_with_a_report(
    night: Night, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(night.home / "then")
    night.promote("champion", LABELS, data)  # as every training here comes out

    def judge(registry: Any, name: str, uri: str, **_: Any) -> None:
        champion, version = promotion._champion(registry, name)
        assert champion is not None
        found = promotion.judging.open_contender(uri)
        where = {"registry": registry.uri, "name": name, "champion": version}
        promotion._refuse_same(found, champion, where)

    monkeypatch.setattr(promotion, "judge", judge)
    code, said, _ = run()
    assert (code, said["champion"], said["checks"]) == (3, "0001", [])
    assert "has the very weights of the champion" in said["error"]
    assert "Not promoted" in Path(said["report"]).read_text()
    assert run()[1] == said | {"stages": KEPT}


def test_the_report_has_what_came_the_verdict_and_both_models(night: Night, run: Run) -> None:
    night.first()
    _, said, _ = run("--train.epochs", "9", "--optim.lr", "0.0002")
    assert said["other_settings"] == {"train.epochs": 9}, "the other is the champion's"
    page = Path(said["report"]).read_text()
    for told in (
        "Retraining of router",
        '<h2 id="verdict">Promoted</h2>',
        "Version 0002 was made the champion of <bdi>router</bdi>, in place of version 0001",
        "The champion, version 0001",
        "but for train.epochs = 9",
        "<b>+90</b>Rows",
        "Mind the step.",
        "Left out of the comparison: 3 that the champion was trained on",
        "class recall",
        "<bdi>printing</bdi>",
    ):
        assert told in page, told
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--name", "a/b"), "--name 'a/b' is not allowed"),
        (("--name", "mailer"), "has no mailer (it has router)"),
        (("--max-class-drop", "2"), "max_class_drop = '2'"),
        (("--train.epochs", "0"), "train.epochs = '0'"),
        (("--split.like", "/a"), "here it is always the champion's data"),
        (("--split.validation", "0.9"), "add up to"),
        (("--source", "/now/nothing"), "--source /now/nothing does not exist"),
        (("--data", "/no/such/data"), "if it is gone, prepare, train and promote"),
        (("--optim.rate", "1"), "--optim.rate is not a setting"),
    ],
)
def test_a_mistake_ends_with_one_clear_sentence_and_nothing_is_begun(
    flags: tuple[str, ...], says: str, night: Night, run: Run
) -> None:
    night.first()
    code, said, told = run(*flags)
    assert code == 2
    assert says in said["error"]
    assert "Traceback" not in told
    assert not (night.home / "round").exists()


def test_without_a_champion_it_says_how_to_make_the_first(night: Night, run: Run) -> None:
    code, said, _ = run()
    assert code == 2
    assert "has no router (empty)" in said["error"]
    assert "python -m tuning.promote --bundle URI" in said["error"]
    assert not night.registry.names()


def test_data_that_changed_since_the_champion_was_trained_is_refused(
    night: Night, run: Run
) -> None:
    night.first()
    other = write_data(night.home / "other", rows=31)
    code, said, _ = run("--data", other)
    assert code == 2
    assert f"--data {other} is not what the champion, version 0001 of router" in said["error"]


def test_a_folder_of_something_else_and_a_round_of_other_settings_are_refused(
    night: Night, run: Run
) -> None:
    night.first()
    (night.home / "used").mkdir()
    (night.home / "used" / "notes.txt").write_text("mine")
    code, said, _ = run(output="used")
    assert code == 2
    assert "holds files, and no round of retraining" in said["error"]
    night.fails["train"] = RuntimeError("the power went")
    run()
    code, said, _ = run("--train.epochs", "9")
    assert code == 2
    assert "train.epochs is 9, and the round in --output" in said["error"]
    assert run("--scaling.workers", "2", "--checkpoint.keep", "3")[0] == 0


def test_two_at_once_in_one_folder_are_refused(night: Night, run: Run) -> None:
    night.first()
    with lease.held(str(night.home / "round"), "output"):
        code, said, _ = run()
    assert code == 2
    assert "another run is at work in it" in said["error"]
    assert run()[0] == 0


def test_a_round_that_another_began_or_ended_meanwhile_is_not_made_twice(
    night: Night, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.first()
    look, open_champion = retrain.retraining.look, retrain.inherited.open_champion

    def meanwhile(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(retrain.retraining, "look", look)
        night.fails["train"] = RuntimeError("the power went")
        run()

    monkeypatch.setattr(retrain.retraining, "look", meanwhile)
    code, said, _ = run()
    assert code == 2
    assert "another round was begun in it while this one looked" in said["error"]

    def to_its_end(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(retrain.inherited, "open_champion", open_champion)
        assert run()[0] == 0
        return open_champion(*arguments, **named)

    monkeypatch.setattr(retrain.inherited, "open_champion", to_its_end)
    code, said, told = run()
    assert (code, said["stages"], night.done.count("judge")) == (0, KEPT, 1)
    assert "nothing is done again" in told


def test_a_round_of_an_earlier_format_is_refused_in_a_sentence(night: Night, run: Run) -> None:
    night.first()
    night.fails["train"] = RuntimeError("the power went")
    run()
    place = night.home / "round" / "retrain.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"format_version": 1}))
    code, said, _ = run()
    assert code == 2
    assert "holds a round of format 1; this version reads 2" in said["error"]


def test_what_a_round_is_stands_in_its_folder(night: Night, run: Run) -> None:
    night.first()
    run("--train.epochs", "9")
    record = json.loads((night.home / "round" / "retrain.json").read_text())
    assert record["champion"] == "0001"
    assert record["settings"]["train.epochs"] == 9
    assert not any(key.startswith("scaling.") for key in record["settings"])
