"""Training on Ray: the token store, a TorchTrainer over data-parallel workers, the bundle.

`train_worker` is where every kind of run enters the loop; it takes plain values alone, so that a
trial of a search can call it too.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster import command
from cluster.resources import Plan
from cluster.session import say
from jobs import balance, tokens
from jobs.classifier import loop, network, precision
from jobs.classifier.loop import Metrics, WriteCheckpoint
from jobs.classifier.recipe import Recipe
from jobs.feed import StoreFeed
from jobs.prepared import Prepared
from jobs.settings import Balance, Data, Model, Optim, Scaling, Train

RUN_NAME = "checkpoints"


class Training(command.Settings):
    """All settings of a run that decide what comes out of it."""

    data: Data = Data()
    model: Model = Model()
    balance: Balance = Balance()
    train: Train = Train()
    optim: Optim = Optim()
    scaling: Scaling = Scaling()


def balanced_plan(settings: Training, counts: balance.Ints) -> balance.Plan:
    """What balancing makes of the sample of classes with `counts` training rows each."""
    return balance.plan(settings.balance, balance.sampled(settings.data.fraction, counts))


def worker_config(
    settings: Training, prepared: Prepared, plan: Plan, stores: Mapping[str, str]
) -> dict[str, Any]:
    """The plain values that every worker gets."""
    return {
        "settings": settings.model_dump(),
        "labels": list(prepared.labels.names),
        "stores": dict(stores),
        "counts": prepared.counts("train").tolist(),
        "threads": plan.threads,
        "gpu": plan.gpu,
    }


def recipe_of(settings: Training, device: torch.device) -> Recipe:
    """The loop's plain values."""
    optim = settings.optim.model_dump()
    return Recipe(
        epochs=settings.train.epochs,
        dtype=precision.resolve(settings.train.precision, device),
        **optim,
    )


def train_worker(
    config: Mapping[str, Any],
    report: Callable[[Metrics, WriteCheckpoint], None],
    *,
    rank: int = 0,
    world: int = 1,
    resume: Path | None = None,
) -> None:
    """One rank of a run, in whatever process it is called."""
    settings = Training.model_validate(config["settings"])
    torch.set_num_threads(config["threads"])
    device = torch.device("cuda" if config["gpu"] else "cpu")
    seed = settings.train.seed
    folder = network.model_folder(settings.model.name)
    model = network.new_network(
        folder, config["labels"], dropout=settings.model.dropout, seed=seed
    ).to(device)
    counts = np.array(config["counts"], dtype=np.int64)
    balanced = balanced_plan(settings, counts)
    training_store = tokens.TokenStore(config["stores"]["train"])
    feed = StoreFeed(
        training_store,
        tokens.TokenStore(config["stores"]["validation"]),
        balance.sample(training_store, balance.sampled(settings.data.fraction, counts)),
        balanced,
        seed,
        settings.train.batch_tokens,
        int(model.config.pad_token_id or 0),
        rank,
        world,
    )
    loop.train(
        model,
        feed,
        recipe_of(settings, device),
        report=report,
        device=device,
        seed=seed,
        class_weights=_tensor(balanced.class_weights),
        logit_offsets=_tensor(balanced.logit_offsets),
        focal_gamma=balanced.focal_gamma,
        resume=resume,
    )


def _tensor(values: balance.Floats | None) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values).float()


def _ray_worker(config: dict[str, Any]) -> None:
    """`train_worker` under Ray Train: reports go to Ray, checkpoints too."""
    import ray.train

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()

    def report(metrics: Metrics, write: WriteCheckpoint) -> None:
        if rank == 0:
            # Ray Train replaces print by a logger of its own, which would say it twice.
            sys.stdout.write(progress_line(metrics) + "\n")
            sys.stdout.flush()
        with tempfile.TemporaryDirectory() as folder:
            made = None
            if rank == 0:
                write(Path(folder))
                made = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=made)

    latest = ray.train.get_checkpoint()
    if latest is None:
        train_worker(config, report, rank=rank, world=world)
        return
    with latest.as_directory() as folder:
        train_worker(config, report, rank=rank, world=world, resume=Path(folder))


def progress_line(metrics: Metrics) -> str:
    """One line an epoch, for a person."""
    return (
        f"epoch {metrics['epoch']:.0f}: loss {metrics['train_loss']:.4f}, validation macro-F1 "
        f"{metrics['macro_f1']:.4f}, accuracy {metrics['accuracy']:.4f}, "
        f"{metrics['tokens_per_second']:,.0f} tokens/s, {metrics['epoch_seconds']:.1f} s"
    )


def token_stores(prepared: Prepared, settings: Training) -> dict[str, str]:
    """The stores of training and validation rows, made now if they are not there yet."""
    folder = network.model_folder(settings.model.name)
    return {
        split: tokens.ensure(prepared, split, folder, settings.model.max_tokens)
        for split in ("train", "validation")
    }


def fit(
    settings: Training, prepared: Prepared, plan: Plan, output: str, stores: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Trains; the figures of the best epoch (by macro-F1) and of the last, the best's checkpoint.

    A run of the same name in the same place goes on from its last checkpoint: whether that is
    wanted was settled before.
    """
    from ray.train import (
        CheckpointConfig,
        FailureConfig,
        LoggingConfig,
        RunConfig,
        ScalingConfig,
    )
    from ray.train.torch import TorchTrainer

    config = worker_config(settings, prepared, plan, stores)
    trainer = TorchTrainer(
        _ray_worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=plan.workers, use_gpu=plan.gpu, resources_per_worker=plan.resources()
        ),
        run_config=RunConfig(
            name=RUN_NAME,
            storage_path=output,
            failure_config=FailureConfig(max_failures=3),
            logging_config=LoggingConfig(log_level="WARNING"),
            checkpoint_config=CheckpointConfig(
                num_to_keep=2,
                checkpoint_score_attribute="macro_f1",
                checkpoint_score_order="max",
            ),
        ),
    )
    say(f"Training with {plan.workers} {'GPU' if plan.gpu else 'CPU'} worker(s) …")
    result = trainer.fit()
    if result.error is not None:
        raise result.error
    checkpoint, metrics = max(result.best_checkpoints, key=lambda pair: pair[1]["macro_f1"])
    return dict(metrics), dict(result.metrics), checkpoint
