"""What a new model takes over from the champion, and what is given in its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import SettingError
from tests.unit.nights import NAME, SETTINGS, Night, write_data
from tuning import inherited
from tuning.growth import growth, in_words
from tuning.inherited import Champion


@pytest.fixture
def champion(tmp_path: Path, make_bundle: Callable[..., Path]) -> Champion:
    night = Night(tmp_path, make_bundle)
    night.first()
    return inherited.open_champion(night.registry, NAME, "0001", data=None)


def test_data_is_prepared_as_that_of_the_champion_was_and_cut_alike(champion: Champion) -> None:
    given = {"source": "/now/tickets", "optim.lr": 0.1, "name": NAME}
    found = inherited.prepare_settings(champion, given, output="/now/data")
    assert (found.source, found.output, found.split.like) == (
        "/now/tickets", "/now/data", champion.data.uri
    )  # fmt: skip
    assert (found.columns.text, found.columns.label) == (("title", "body"), "team")
    assert (found.split.validation, found.split.test, found.split.seed) == (0.15, 0.2, 3)
    assert (found.on_bad_file, found.feedback) == ("skip", None)
    assert (found.model.name, found.model.max_tokens) == ("tiny", 16), "those of training"


def test_what_was_left_at_its_default_is_not_asked_for_now(champion: Champion) -> None:
    """A column that gives the split is used where it is there; named, it would have to be."""
    found = inherited.prepare_settings(champion, {"source": "/now"}, output="/now/data")
    assert champion.data.manifest["settings"]["columns.split"] == "split"
    assert found.columns.split == "split"
    assert found.columns.model_fields_set == {"text", "label"}


def test_what_is_given_beats_what_the_champions_data_was_prepared_with(champion: Champion) -> None:
    given = {
        "source": "/now",
        "feedback": "/corrections",
        "columns.label": "group",
        "split.conflicts": "drop",
    }
    found = inherited.prepare_settings(champion, given, output="/now/data")
    assert (found.feedback, found.split.conflicts) == ("/corrections", "drop")
    assert (found.columns.label, found.columns.text) == ("group", ("title", "body"))


def test_the_corrections_of_the_champions_data_are_taken_again_unless_they_are_left_out(
    tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    night = Night(tmp_path, make_bundle)
    data = write_data(tmp_path / "then", settings=SETTINGS | {"feedback": "/corrections"})
    night.promote("champion", ("mail", "network"), data)
    champion = inherited.open_champion(night.registry, NAME, "0001", data=None)
    for more, expected in (({}, "/corrections"), ({"feedback": None}, None)):
        given = {"source": "/now", **more}
        found = inherited.prepare_settings(champion, given, output="/now/data")
        assert found.feedback == expected


def test_training_is_that_of_the_champion_with_what_is_given_in_its_place(
    champion: Champion,
) -> None:
    given = {"train.epochs": 9, "source": "/now", "data.uri": "/elsewhere"}
    found = inherited.train_settings(
        champion, given, data="/now/data", output="/now/run", resume=True
    )
    assert (found.data.uri, found.output, found.resume) == ("/now/data", "/now/run", True)
    assert (found.train.epochs, found.optim.head_lr) == (9, None)
    assert (found.model.name, found.balance.strategy) == ("tiny", "class-weights")


def test_settings_of_old_that_are_gone_are_said_and_a_champion_without_any_wants_them(
    champion: Champion, capsys: pytest.CaptureFixture[str]
) -> None:
    champion.about.configuration["optim.momentum"] = 0.9
    assert inherited.training(champion, {})["train.epochs"] == 4
    inherited.say_unknown(champion)
    assert "was trained with optim.momentum, which is no setting now" in capsys.readouterr().err
    champion.about.configuration.clear()
    with pytest.raises(SettingError, match=r"give its settings with --config best\.toml"):
        inherited.training(champion, {})
    assert inherited.training(champion, {"model.name": "minilm"}) == {"model.name": "minilm"}


def counts(**labels: int) -> dict[str, Any]:
    """A manifest of labels with so many training rows."""
    nothing = {"rows": 0, "texts": 0}
    return {
        "rows": sum(labels.values()),
        "labels_map": {},
        "labels": {
            name: {"train": {"rows": n, "texts": n}, "validation": nothing, "test": nothing}
            for name, n in labels.items()
        },
    }


def test_labels_that_came_went_or_got_another_name_are_told_apart() -> None:
    after = counts(network=8, post=12, phone=1) | {"labels_map": {"mail": "post"}}
    found = growth(counts(mail=10, network=8, telex=2), after)
    assert (found["rows"], found["labels"]) == ([20, 21], [3, 3])
    assert (found["new"], found["gone"]) == (["phone"], ["telex"])
    assert found["per_label"] == {
        "network": [8, 8], "phone": [0, 1], "post": [10, 12], "telex": [2, 0]
    }  # fmt: skip
    told = in_words(found)
    assert "21 rows of 21 distinct texts, +1 and +1 since the champion's data." in told
    assert "1 new label: phone." in told
    assert "1 gone label: telex." in told
    assert "Corrections were not asked for." in told


def test_corrections_are_counted_since_the_champions_data() -> None:
    told = {"objects": 1, "read": 5, "texts": 4, "changed": 3, "added": 1, "rejected": 0}
    before = counts(mail=1, network=1) | {"corrections": told | {"texts": 1}}
    after = counts(mail=1, network=1) | {"corrections": told}
    assert (
        "4 texts are corrected, +3 since: 3 of the source and 1 that it does not have."
        in in_words(growth(before, after))
    )
