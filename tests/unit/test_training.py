"""What settings come to where they are carried out, and what is said of those without effect."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.training import Training, ignored, recipe_of

CUDA = torch.device("cuda")
CPU = torch.device("cpu")


@pytest.fixture
def settings(tiny_model: Path) -> Any:
    """Builds settings of the tiny model that ask for packed rows and compiled layers."""

    def make(**more: dict[str, Any]) -> Training:
        values: dict[str, dict[str, Any]] = {
            "model": {"name": str(tiny_model)},
            "train": {"packed": True, "compile": True, "precision": "bf16"},
        }
        for group, chosen in more.items():
            values[group] = values.get(group, {}) | chosen
        return Training.model_validate(values)

    return make


def test_on_one_gpu_rows_are_packed_and_layers_compiled_as_asked_for(settings: Any) -> None:
    recipe = recipe_of(settings(), CUDA)
    assert (recipe.packed, recipe.compiled) == (True, True)
    assert ignored(settings(), gpu=True, workers=1) == []
    plain = recipe_of(settings(train={"packed": False, "compile": False}), CUDA)
    assert (plain.packed, plain.compiled) == (False, False)


def test_on_cpus_neither_has_an_effect_and_both_are_told(settings: Any) -> None:
    recipe = recipe_of(settings(), CPU)
    assert (recipe.packed, recipe.compiled) == (False, False)
    assert ignored(settings(), gpu=False, workers=1) == [
        "train.compile is given, and is for GPUs: nothing is compiled.",
        "train.packed is given, and is for GPUs: rows are padded.",
    ]
    nothing = settings(train={"packed": False, "compile": False})
    assert ignored(nothing, gpu=False, workers=1) == []


@pytest.mark.parametrize(
    ("more", "workers", "needed"),
    [
        ({}, 2, "a run of one worker, and this one has 2"),
        ({"optim": {"r_drop": 1.0}}, 1, "optim.r_drop 0"),
        ({"train": {"micro_tokens": 64}}, 1, "a batch that is not cut by train.micro_tokens"),
        ({"train": {"precision": "fp32"}}, 1, "a BERT in bf16"),
    ],
)
def test_what_keeps_rows_from_being_packed_is_told_and_they_are_padded(
    settings: Any, more: dict[str, Any], workers: int, needed: str
) -> None:
    made = settings(**more)
    assert not recipe_of(made, CUDA, workers=workers).packed
    told = f"train.packed is given, and needs {needed}: rows are padded."
    assert ignored(made, gpu=True, workers=workers) == [told]


def test_a_network_that_is_no_bert_is_padded(
    settings: Any, tiny_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    other = json.loads((folder / "config.json").read_text()) | {"model_type": "roberta"}
    (folder / "config.json").write_text(json.dumps(other))
    made = settings(model={"name": str(folder)})
    assert not recipe_of(made, CUDA).packed
    assert len(ignored(made, gpu=True, workers=1)) == 1
