"""What is searched: a TOML file, checked against the settings before anything runs."""

from pathlib import Path

import pytest

from cluster import command
from cluster.errors import SettingError
from jobs.training import Training
from tuning import space

LR = '[optim.lr]\nkind = "log-uniform"\nlow = 1e-5\nhigh = 1e-3\n'
STRATEGY = '[balance.strategy]\nkind = "choice"\nvalues = ["none", "focal"]\n'
GAMMA = (
    '[balance.gamma]\nkind = "uniform"\nlow = 0.5\nhigh = 4.0\n'
    'when = { "balance.strategy" = ["focal"] }\n'
)


@pytest.fixture
def read(tmp_path: Path):
    def read(text: str, base: Training | None = None, fixed: tuple[str, ...] = ()) -> space.Space:
        place = tmp_path / "space.toml"
        place.write_text(text)
        return space.read(str(place), base or Training(), fixed)

    return read


def test_the_default_space_searches_the_balance_with_its_own_parameters() -> None:
    found = space.read(None, Training())
    assert "balance.strategy" in found.parameters
    assert found.parameters["balance.gamma"].when == {"balance.strategy": ("focal",)}
    assert {"optim.lr", "optim.weight_decay", "optim.warmup_ratio", "optim.label_smoothing",
            "train.epochs", "train.batch_tokens"} <= set(found.parameters)  # fmt: skip
    first = found.points[0]
    defaults = command.dotted(Training())
    assert first == {key: defaults[key] for key in first}, "the settings as they are come first"
    assert "balance.gamma" not in first, "what is not in force has no value"


def test_a_key_holds_only_under_the_values_that_it_names(read) -> None:
    found = read(GAMMA + STRATEGY)
    assert list(found.parameters) == ["balance.strategy", "balance.gamma"], "parents come first"
    assert found.in_force("balance.gamma", {"balance.strategy": "focal"})
    assert not found.in_force("balance.gamma", {"balance.strategy": "none"})
    assert not found.in_force("balance.gamma", {})


def test_what_is_given_is_not_searched_and_takes_with_it_what_cannot_hold(read) -> None:
    text = LR + STRATEGY + GAMMA + '[[points]]\n"balance.strategy" = "focal"\n"balance.gamma" = 1\n'
    none = read(text, Training(), ("balance.strategy",))
    assert list(none.parameters) == ["optim.lr"]
    assert none.points == ({"optim.lr": 2e-4},)
    focal = Training.model_validate({"balance": {"strategy": "focal"}})
    found = read(text, focal, ("balance.strategy",))
    assert list(found.parameters) == ["optim.lr", "balance.gamma"]
    assert found.parameters["balance.gamma"].when == {}
    assert found.points == ({"optim.lr": 2e-4, "balance.gamma": 1},)
    with pytest.raises(SettingError, match="leaves nothing to search"):
        read(LR, Training(), ("optim.lr",))


def test_points_that_are_the_same_once_something_is_given_are_one(read) -> None:
    text = LR + STRATEGY + "".join(
        f'[[points]]\n"balance.strategy" = "{name}"\n' for name in ("none", "focal")
    )  # fmt: skip
    assert len(read(text).points) == 2
    assert len(read(text, Training(), ("balance.strategy",)).points) == 1


def test_a_point_may_be_nested_or_dotted_and_takes_the_rest_from_the_settings(read) -> None:
    base = Training.model_validate({"optim": {"lr": 5e-4}})
    found = read(LR + STRATEGY + '[[points]]\n[points.balance]\nstrategy = "focal"\n', base)
    assert found.points == ({"optim.lr": 5e-4, "balance.strategy": "focal"},)


def test_none_is_a_value_of_a_choice_like_others(read) -> None:
    text = '[balance.beta]\nkind = "choice"\nvalues = ["none", 0.99]\n[[points]]\n'
    found = read(text)
    assert found.points == ({"balance.beta": "none"},)
    assert space.settings_with(Training(), found.points[0]).balance.beta is None
    assert space.settings_with(Training(), {"balance.beta": 0.99}).balance.beta == 0.99


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = [", "is not valid TOML"),
        ("lr = 3", "lr is no table"),
        ('[optim.rate]\nkind = "uniform"\nlow = 0\nhigh = 1', "optim.rate is not a setting"),
        (LR.replace("optim.lr", "optim.lrr"), "Did you mean optim.lr"),
        (LR.replace("log-uniform", "log"), "optim.lr.kind"),
        (LR.replace("1e-3", "1e-6"), "needs low below high"),
        (LR.replace("1e-5", "0.0"), "log-uniform needs low above 0"),
        (LR + "values = [1]\n", "no values"),
        (LR + "lo = 1\n", "optim.lr.lo"),
        ('[train.epochs]\nkind = "integer"\nlow = 1.5\nhigh = 3', "whole numbers"),
        ('[train.epochs]\nkind = "integer"\nlow = 0\nhigh = 3', "train.epochs = 0"),
        ('[model.dropout]\nkind = "uniform"\nlow = 0\nhigh = 2', "model.dropout = 2"),
        ('[balance.strategy]\nkind = "choice"\nvalues = ["none", "smote"]', "smote"),
        ('[balance.strategy]\nkind = "choice"\nvalues = []', "at least one"),
        ('[balance.strategy]\nkind = "choice"\nvalues = ["none"]\nlow = 1', "neither low nor high"),
        (GAMMA, "holds only under balance.strategy, which is not searched"),
        (GAMMA + STRATEGY.replace("focal", "oversample"), "which is none of its values"),
        (
            GAMMA + STRATEGY + 'when = { "balance.gamma" = [1] }\n',
            "which depends on it in turn",
        ),
        ('[scaling.workers]\nkind = "integer"\nlow = 1\nhigh = 2', "cannot be searched"),
        ('[stopping.metric]\nkind = "choice"\nvalues = ["accuracy"]', "cannot be searched"),
        ('[model.max_tokens]\nkind = "choice"\nvalues = [64]', "all trials share the tokens"),
        (LR + "[points]\na = 1", "points has to be a list of tables"),
        (LR + '[[points]]\n"optim.lr" = 1.0', "is not in the space"),
        (LR + '[[points]]\n"train.epochs" = 1', "train.epochs, which is not searched"),
        (
            STRATEGY + GAMMA + '[[points]]\n"balance.gamma" = 1.0',
            "balance.gamma, which is not in force in it",
        ),
    ],
)
def test_what_no_run_could_be_made_of_is_refused_with_its_key_and_value(
    read, text: str, said: str
) -> None:
    with pytest.raises(SettingError, match=None) as refused:
        read(text)
    assert said in str(refused.value)
    assert "space.toml" in str(refused.value)


def test_a_value_that_only_a_condition_allows_is_checked_under_it(read) -> None:
    # With balanced-softmax tau has to be 1; under logit-adjustment it may be anything from 0.
    text = (
        '[balance.strategy]\nkind = "choice"\nvalues = ["{0}", "none"]\n'
        '[balance.tau]\nkind = "uniform"\nlow = 0.5\nhigh = 1.5\n'
        'when = {{ "balance.strategy" = ["{0}"] }}\n'
    )
    assert "balance.tau" in read(text.format("logit-adjustment")).parameters
    with pytest.raises(SettingError, match="balanced-softmax"):
        read(text.format("balanced-softmax"))


def test_a_file_that_is_not_there_is_said_to_be_that_of_the_space(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"--space \S+none\.toml cannot be read: .*not exist"):
        space.read(str(tmp_path / "none.toml"), Training())
