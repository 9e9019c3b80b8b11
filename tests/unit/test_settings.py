"""The settings of jobs and endpoint: every limit is in force, and told by its key."""

from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from cluster import command
from cluster.errors import SettingError
from cluster.flags import flags_of
from jobs import data_settings
from jobs import settings as jobs
from serve import settings as serve

MODELS: dict[str, type[command.Settings]] = {
    model.__name__.lower(): model
    for module in (data_settings, jobs, serve)
    for model in vars(module).values()
    if isinstance(model, type)
    and issubclass(model, command.Settings)
    and model is not command.Settings
}
NEEDED = {"endpoint": {"bundle": "/b"}, "prepareddata": {"uri": "/p"}}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    # model, values, what the sentence says
    ("columns", {"text": []}, "text = [] "),
    ("columns", {"text": "text"}, "text = 'text' "),
    ("columns", {"text": ["a", 3]}, "text = 3 "),
    ("columns", {"label": 3}, "label = 3 "),
    ("columns", {"label": None}, "label = None "),
    ("columns", {"id": 3}, "id = 3 "),
    ("split", {"validation": -0.1}, "validation = -0.1 "),
    ("split", {"validation": 1}, "validation = 1 "),
    ("split", {"test": -0.1}, "test = -0.1 "),
    ("split", {"test": "1.0"}, "test = '1.0' "),
    ("split", {"test": float("nan")}, "test = nan "),
    ("split", {"validation": 0.5, "test": 0.5}, "which leaves nothing to train on"),
    ("split", {"seed": -1}, "seed = -1 "),
    ("split", {"seed": 1.5}, "seed = 1.5 "),
    ("split", {"min_rows": 0}, "min_rows = 0 "),
    ("split", {"rare": "keep"}, "rare = 'keep'"),
    ("split", {"conflicts": "first"}, "conflicts = 'first'"),
    ("model", {"name": 3}, "name = 3 "),
    ("model", {"max_tokens": 3}, "max_tokens = 3 "),
    ("model", {"max_tokens": 8193}, "max_tokens = 8193 "),
    ("model", {"dropout": -0.1}, "dropout = -0.1 "),
    ("model", {"dropout": 1}, "dropout = 1 "),
    ("data", {"fraction": 0}, "fraction = 0 "),
    ("data", {"fraction": 1.01}, "fraction = 1.01 "),
    ("prepareddata", {"fraction": 0}, "fraction = 0 "),
    ("prepareddata", {"uri": "ftp://a/b"}, "the scheme ftp:// is not supported"),
    ("balance", {"strategy": "smote"}, "'logit-adjustment' or 'balanced-softmax'"),
    ("balance", {"strategy": None}, "strategy = None "),
    ("balance", {"max_ratio": 0.99}, "max_ratio = 0.99 "),
    ("balance", {"max_ratio": "inf"}, "max_ratio = 'inf' "),
    ("balance", {"min_rows": 0}, "min_rows = 0 "),
    ("balance", {"redraw": "perhaps"}, "redraw = 'perhaps' "),
    ("balance", {"beta": 0}, "beta = 0 "),
    ("balance", {"beta": 1}, "beta = 1 "),
    ("balance", {"gamma": -0.1}, "gamma = -0.1 "),
    ("balance", {"tau": -0.1}, "tau = -0.1 "),
    ("balance", {"strategy": "balanced-softmax", "tau": 0.5}, "leave tau out"),
    ("train", {"epochs": 0}, "epochs = 0 "),
    ("train", {"batch_tokens": 15}, "batch_tokens = 15 "),
    ("train", {"precision": "fp16"}, "'auto', 'bf16' or 'fp32'"),
    ("train", {"seed": -1}, "seed = -1 "),
    ("optim", {"lr": 0}, "lr = 0 "),
    ("optim", {"lr": "nan"}, "lr = 'nan' "),
    ("optim", {"lr": "inf"}, "lr = 'inf' "),
    ("optim", {"head_lr": 0}, "head_lr = 0 "),
    ("optim", {"layer_decay": 0}, "layer_decay = 0 "),
    ("optim", {"layer_decay": 1.01}, "layer_decay = 1.01 "),
    ("optim", {"weight_decay": -0.01}, "weight_decay = -0.01 "),
    ("optim", {"weight_decay": float("inf")}, "weight_decay = inf "),
    ("optim", {"warmup_ratio": -0.1}, "warmup_ratio = -0.1 "),
    ("optim", {"warmup_ratio": 1}, "warmup_ratio = 1 "),
    ("optim", {"schedule": "step"}, "'linear', 'cosine' or 'constant'"),
    ("optim", {"clip_norm": 0}, "clip_norm = 0 "),
    ("optim", {"label_smoothing": -0.1}, "label_smoothing = -0.1 "),
    ("optim", {"label_smoothing": 1}, "label_smoothing = 1 "),
    ("optim", {"r_drop": -0.1}, "r_drop = -0.1 "),
    ("model", {"freeze_layers": -1}, "freeze_layers = -1 "),
    ("train", {"micro_tokens": 15}, "micro_tokens = 15 "),
    ("stopping", {"metric": "loss"}, "'macro_f1', 'accuracy' or 'validation_loss'"),
    ("stopping", {"patience": 0}, "patience = 0 "),
    ("checkpoint", {"every_steps": 0}, "every_steps = 0 "),
    ("checkpoint", {"keep": 0}, "keep = 0 "),
    ("scaling", {"max_failures": -1}, "max_failures = -1 "),
    ("scaling", {"start_timeout": 0}, "start_timeout = 0 "),
    ("decide", {"metric": "weighted_f1"}, "'macro_f1', 'accuracy' or 'balanced_accuracy'"),
    ("abstain", {"precision": 0}, "precision = 0 "),
    ("abstain", {"precision": 1}, "precision = 1 "),
    ("abstain", {"coverage": 0}, "coverage = 0 "),
    ("abstain", {"coverage": 1.01}, "coverage = 1.01 "),
    ("abstain", {"precision": 0.9, "coverage": 0.8}, "one threshold cannot promise both"),
    ("scaling", {"workers": 0}, "workers = 0 "),
    ("scaling", {"gpu": "maybe"}, "'auto', 'yes' or 'no'"),
    ("scaling", {"gpu": 1}, "gpu = 1 "),
    ("limits", {"texts": 0}, "texts = 0 "),
    ("limits", {"characters": 0}, "characters = 0 "),
    ("limits", {"body_bytes": 999}, "body_bytes = 999 "),
    ("limits", {"body_s": 0}, "body_s = 0 "),
    ("limits", {"body_s": "inf"}, "body_s = 'inf' "),
    ("limits", {"waiting_tokens": 0}, "waiting_tokens = 0 "),
    ("limits", {"waiting_requests": 0}, "waiting_requests = 0 "),
    ("limits", {"answer_s": 0}, "answer_s = 0 "),
    ("limits", {"answer_s": "inf"}, "answer_s = 'inf' "),
    ("autoscaling", {"min_replicas": -1}, "min_replicas = -1 "),
    ("autoscaling", {"max_replicas": 0}, "max_replicas = 0 "),
    ("autoscaling", {"min_replicas": 3, "max_replicas": 2}, "raise the one or lower the other"),
    ("autoscaling", {"target_ongoing_requests": 0}, "target_ongoing_requests = 0 "),
    ("autoscaling", {"upscale_delay_s": -1}, "upscale_delay_s = -1 "),
    ("autoscaling", {"downscale_delay_s": -1}, "downscale_delay_s = -1 "),
    ("endpoint", {"bundle": 3}, "bundle = 3 "),
    ("endpoint", {"name": 3}, "name = 3 "),
    ("endpoint", {"key_hashes": "abc"}, "key_hashes = 'abc' "),
    ("endpoint", {"precision": "fp16"}, "'auto', 'bf16' or 'fp32'"),
    ("endpoint", {"threads": 0}, "threads = 0 "),
    ("endpoint", {"limits": {"texts": 0}}, "limits.texts = 0 "),
    ("endpoint", {"feedback": {"nosuch": 1}}, "feedback.nosuch is not a setting"),
    ("registered", {"poll_s": 0}, "poll_s = 0 "),
    ("keys", {"file": "a", "watch": "/b"}, "give one of them"),
]


def identity(case: tuple[str, dict[str, Any], str]) -> str:
    return f"{case[0]}-" + "-".join(f"{k}={v}" for k, v in case[1].items())


@pytest.mark.parametrize("case", REFUSED, ids=identity)
def test_a_value_that_is_not_allowed_is_refused_by_its_key(
    case: tuple[str, dict[str, Any], str],
) -> None:
    model, values, says = case
    with pytest.raises(SettingError) as refused:
        command.build(MODELS[model], NEEDED.get(model, {}) | values)
    assert says in str(refused.value)


def limited(field: FieldInfo) -> bool:
    return bool(field.metadata) or any(
        get_origin(kind) is Literal for kind in (field.annotation, *get_args(field.annotation))
    )


def test_every_setting_with_a_limit_is_among_the_refused() -> None:
    tested = {(model, key) for model, values, _ in REFUSED for key in values}
    known = {
        (name, key)
        for name, model in MODELS.items()
        for key, field in model.model_fields.items()
        if limited(field)
    }
    assert len(known) > 30
    assert known - tested == set()


@pytest.mark.parametrize("name", list(MODELS))
def test_an_unknown_setting_is_refused_in_every_group(name: str) -> None:
    with pytest.raises(SettingError, match=r"^nosuch is not a setting of this command"):
        command.build(MODELS[name], NEEDED.get(name, {}) | {"nosuch": 1})


@pytest.mark.parametrize("name", list(MODELS))
def test_every_setting_says_what_it_is(name: str) -> None:
    for flag in flags_of(MODELS[name]):
        assert flag.field.description, flag.key


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("split", {"validation": 0, "test": 0.999}),
        ("model", {"max_tokens": 4, "dropout": 0}),
        ("model", {"max_tokens": 8192}),
        ("train", {"epochs": 1, "batch_tokens": 16}),
        ("optim", {"layer_decay": 1, "warmup_ratio": 0, "weight_decay": 0, "label_smoothing": 0}),
        ("data", {"fraction": 1}),
        ("balance", {"max_ratio": 1, "min_rows": 1, "gamma": 0, "tau": 0}),
        ("balance", {"strategy": "balanced-softmax", "tau": 1}),
        ("abstain", {"coverage": 1}),
        ("scaling", {"workers": 1, "max_failures": 0}),
        ("limits", {"texts": 1, "characters": 1, "body_bytes": 1000, "waiting_requests": 1}),
        ("autoscaling", {"min_replicas": 0, "max_replicas": 1, "upscale_delay_s": 0}),
        ("autoscaling", {"min_replicas": 2, "max_replicas": 2}),
        ("endpoint", {"bundle": "/b", "threads": 1}),
    ],
)
def test_the_limits_themselves_are_allowed(name: str, values: dict[str, Any]) -> None:
    found = command.build(MODELS[name], values)
    assert {key: getattr(found, key) for key in values} == values


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("columns", "id"),
        ("balance", "beta"),
        ("optim", "head_lr"),
        ("train", "micro_tokens"),
        ("stopping", "patience"),
        ("checkpoint", "every_steps"),
        ("abstain", "precision"),
        ("abstain", "coverage"),
        ("scaling", "workers"),
        ("scaling", "start_timeout"),
        ("autoscaling", "max_replicas"),
        ("endpoint", "threads"),
    ],
)
def test_the_word_none_switches_an_optional_setting_off(name: str, key: str) -> None:
    found = command.build(MODELS[name], NEEDED.get(name, {}) | {key: "none"})
    assert getattr(found, key) is None


def test_a_balance_survives_the_way_to_the_workers() -> None:
    for strategy in get_args(jobs.Balance.model_fields["strategy"].annotation):
        made = command.build(jobs.Balance, {"strategy": strategy, "min_rows": 5})
        assert command.build(jobs.Balance, made.model_dump()) == made


def test_the_strategy_none_stays_a_word() -> None:
    assert command.build(jobs.Balance, {"strategy": "none"}).strategy == "none"


@pytest.mark.parametrize(("value", "word"), [(True, "yes"), (False, "no"), ("auto", "auto")])
def test_gpu_may_be_a_boolean_of_toml(value: object, word: str) -> None:
    assert command.build(jobs.Scaling, {"gpu": value}).gpu == word


def test_the_endpoint_survives_the_way_through_its_config() -> None:
    made = serve.Endpoint(
        bundle="s3://b/c",
        key_hashes=("aa", "bb"),
        fallbacks=("s3://b/b",),
        threads=2,
        limits=serve.Limits(texts=3, body_s=0.5),
    )
    assert command.build(serve.Endpoint, made.model_dump(mode="json")) == made
