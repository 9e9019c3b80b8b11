"""What a run is, in settings, and the plain values that follow from them for the loop.

Whoever trains starts here: `jobs.train`, a trial of a search, an estimate, a benchmark. Knows
nothing of Ray.
"""

from typing import Any

import torch

from cluster import command
from cluster.errors import DataError, SettingError
from jobs import balance
from jobs.classifier import network, precision
from jobs.classifier.recipe import Recipe
from jobs.data_settings import Data
from jobs.prepared import Prepared
from jobs.settings import (
    Abstain,
    Balance,
    Checkpoint,
    Decide,
    Model,
    Optim,
    Scaling,
    Stopping,
    Train,
)


class Training(command.Settings):
    """All settings of a run that decide what comes out of it."""

    data: Data = Data()
    model: Model = Model()
    balance: Balance = Balance()
    train: Train = Train()
    optim: Optim = Optim()
    stopping: Stopping = Stopping()
    checkpoint: Checkpoint = Checkpoint()
    decide: Decide = Decide()
    abstain: Abstain = Abstain()
    scaling: Scaling = Scaling()


def balanced_plan(settings: Training, counts: balance.Ints) -> balance.Plan:
    """What balancing makes of the sample of classes with `counts` training rows each."""
    return balance.plan(settings.balance, balance.sampled(settings.data.fraction, counts))


def recipe_of(settings: Training, device: torch.device, *, workers: int = 1) -> Recipe:
    """The loop's plain values, for one of so many workers."""
    optim = settings.optim.model_dump()
    dtype = precision.resolve(settings.train.precision, device)
    return Recipe(
        epochs=settings.train.epochs,
        dtype=dtype,
        micro_tokens=settings.train.micro_tokens,
        packed=dtype is torch.bfloat16
        and device.type == "cuda"
        and settings.train.packed
        and not _why_padded(settings, workers),
        compiled=settings.train.compile and device.type == "cuda",
        **optim,
    )


def _why_padded(settings: Training, workers: int) -> str:
    """What keeps rows from being packed on GPUs; nothing where nothing does.

    A step that is no graph is slower packed than padded: the host launches it kernel by kernel.
    """
    if workers > 1:
        return f"a run of one worker, and this one has {workers}"
    if settings.optim.r_drop > 0:
        return "optim.r_drop 0"
    if settings.train.micro_tokens is not None:
        return "a batch that is not cut by train.micro_tokens"
    folder = network.model_folder(settings.model.name)
    if not network.is_bert(folder) or settings.train.precision == "fp32":
        return "a BERT in bf16"
    return ""


def ignored(settings: Training, *, gpu: bool, workers: int) -> list[str]:
    """A sentence for each setting that has no effect on such workers."""
    found = []
    if settings.train.compile and not gpu:
        found.append("train.compile is given, and is for GPUs: nothing is compiled.")
    if settings.train.packed and not gpu:
        found.append("train.packed is given, and is for GPUs: rows are padded.")
    elif settings.train.packed and (needed := _why_padded(settings, workers)):
        found.append(f"train.packed is given, and needs {needed}: rows are padded.")
    return found


def loss_of(plan: balance.Plan) -> dict[str, Any]:
    """What of a balance the loss is shaped by, as jobs.classifier.loop.train takes it."""

    def tensor(values: balance.Floats | None) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(values).float()

    return {
        "class_weights": tensor(plan.class_weights),
        "logit_offsets": tensor(plan.logit_offsets),
        "focal_gamma": plan.focal_gamma,
    }


def check(settings: Training, prepared: Prepared) -> None:
    """SettingError or DataError for everything that can be known to be wrong beforehand."""
    folder = network.model_folder(settings.model.name)
    most = network.position_limit(folder)
    if settings.model.max_tokens > most:
        raise SettingError(
            f"model.max_tokens = {settings.model.max_tokens}: {settings.model.name} reads at most "
            f"{most} tokens. Set --model.max_tokens to {most} or less."
        )
    network.refuse_to_freeze(settings.model.freeze_layers, network.depth(folder))
    if prepared.counts("validation").sum() == 0:
        raise DataError(
            f"--data {prepared.uri} has no validation rows, and the best epoch is chosen on them. "
            "Prepare it with --split.validation above 0."
        )
