"""Invented experiments: what a search would have written, from a formula that the tests know.

`optim.lr` and `balance.strategy` decide how good a trial gets; `optim.weight_decay` and
`optim.warmup_ratio` do nothing. Trials are cut by the rule of successive halving, over the share
of their own schedule, as the search cuts them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluster import command
from jobs.training import Training
from tuning.experiment import FORMAT_VERSION, Folder

LABELS = ("cards", "mail <b>&", "network", "payments", "支付")
GAINS = {"none": 0.0, "oversample": 0.06, "focal": 0.03, "logit-adjustment": 0.16}
RUNGS = (20.0, 60.0)
SPACE: dict[str, dict[str, Any]] = {
    "optim.lr": {"kind": "log-uniform", "low": 1e-5, "high": 1e-3},
    "balance.strategy": {"kind": "choice", "values": list(GAINS)},
    "balance.gamma": {
        "kind": "uniform",
        "low": 0.5,
        "high": 4.0,
        "when": {"balance.strategy": ["focal"]},
    },
    "balance.tau": {
        "kind": "uniform",
        "low": 0.25,
        "high": 1.5,
        "when": {"balance.strategy": ["logit-adjustment"]},
    },
    "train.epochs": {"kind": "integer", "low": 5, "high": 10},
    "train.batch_tokens": {"kind": "choice", "values": [512, 1024, 2048]},
    "optim.weight_decay": {"kind": "uniform", "low": 0.0, "high": 0.1},
    "optim.warmup_ratio": {"kind": "uniform", "low": 0.0, "high": 0.3},
}
BASE = command.dotted(Training())


def record(**changes: Any) -> dict[str, Any]:
    """experiment.json."""
    return {
        "format_version": FORMAT_VERSION,
        "created": "2026-03-01T08:00:00.000+00:00",
        "data": {"uri": "/data/prepared", "digest": "d1"},
        "labels": list(LABELS),
        "rows": {"train": 900, "validation": 100},
        "settings": BASE,
        "space": SPACE,
        "points": [{"optim.lr": 2e-4, "balance.strategy": "none"}],
        "objective": {"metric": "macro_f1", "mode": "max"},
        "algorithm": "random",
        "scheduler": {"kind": "asha", "grace_percent": 20, "reduction_factor": 3},
        "plan": {"workers": 2, "gpu": False, "threads": 1, "cpus_per_worker": 1.0, "at_once": 1},
        "seed": 0,
        "trials": None,
        "time_budget_s": 3600.0,
        **changes,
    }


def in_force(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Of drawn parameters those whose condition holds."""
    return {
        key: value
        for key, value in parameters.items()
        if all(parameters[k] in v for k, v in SPACE[key].get("when", {}).items())
    }


def draw(rng: np.random.Generator) -> dict[str, Any]:
    return in_force(
        {
            "optim.lr": float(10 ** rng.uniform(-5, -3)),
            "balance.strategy": str(rng.choice(list(GAINS))),
            "balance.gamma": float(rng.uniform(0.5, 4)),
            "balance.tau": float(rng.uniform(0.25, 1.5)),
            "train.epochs": int(rng.integers(5, 11)),
            "train.batch_tokens": int(rng.choice([512, 1024, 2048])),
            "optim.weight_decay": float(rng.uniform(0, 0.1)),
            "optim.warmup_ratio": float(rng.uniform(0, 0.3)),
        }
    )


def peak(parameters: Mapping[str, Any]) -> float:
    """The macro-F1 that a trial comes near at its end: best at a rate of 2e-4, by its strategy."""
    off = math.log10(parameters["optim.lr"] / 2e-4)
    return 0.55 - 0.22 * off**2 + GAINS[parameters["balance.strategy"]]


def epoch(number: int, epochs: int, macro_f1: float, **changes: Any) -> dict[str, Any]:
    """One line of history.json; a pass of training takes 10 seconds, and validation 2."""
    return {
        "epoch": float(number),
        "train_loss": 2.0 / number,
        "validation_loss": 1.5 - macro_f1,
        "accuracy": macro_f1 + 0.1,
        "balanced_accuracy": macro_f1,
        "macro_precision": macro_f1,
        "macro_recall": macro_f1,
        "macro_f1": macro_f1,
        "weighted_precision": macro_f1,
        "weighted_recall": macro_f1,
        "weighted_f1": macro_f1,
        "rarest_third_recall": macro_f1 - 0.1,
        "calibration_error": 0.05,
        "tokens": 9000.0,
        "steps": 12.0,
        "tokens_per_second": 900.0,
        "epoch_seconds": 10.0,
        "seconds": 12.0 * number,
        "starts": 1.0,
        "percent": 100.0 * number / epochs,
        **changes,
    }


def curve(parameters: Mapping[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    epochs, top = int(parameters["train.epochs"]), peak(parameters)
    noise = rng.normal(0, 0.01, epochs)
    return [
        epoch(k, epochs, float(max(0.01, top * (1 - 0.6 ** (10 * k / epochs)) + noise[k - 1])))
        for k in range(1, epochs + 1)
    ]


def write_trial(
    folder: Folder,
    number: int,
    parameters: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    state: Any = "finished",
    reason: str = "",
    began_s: float = 0.0,
) -> None:
    """A trial as the search leaves it; `state` None: it has not ended."""
    folder.begin(number, parameters, "known" if number == 1 else "searched")
    begun = {"number": number, "parameters": dict(parameters), "origin": "searched"}
    if number == 1:
        begun["origin"] = "known"
    folder._write(number, "trial.json", begun | {"started": moment(began_s)})
    if history:
        folder.write_history(number, [dict(line) for line in history])
        cells = [[c, c, 12 + c] for c in range(len(LABELS))] + [[1, 0, 5], [0, 3, 2]]
        folder.write_confusion(number, cells)
    if state is not None:
        lasted = history[-1]["seconds"] + 1.0 if history else 3.0
        folder.finish(number, state, reason, ended=moment(began_s + lasted))


def moment(seconds: float) -> str:
    """ISO 8601, that many seconds after the experiments begin."""
    found = np.datetime64("2026-03-01T08:00:00.000") + np.timedelta64(round(seconds * 1000), "ms")
    return f"{found}+00:00"


def write(uri: str, trials: int = 40, seed: int = 0, **changes: Any) -> Folder:
    """An experiment of `trials` trials one after another, drawn at random and cut by halving."""
    folder, rng = Folder(uri), np.random.default_rng(seed)
    folder.write_record(record(seed=seed, trials=trials, **changes))
    at_rung: dict[float, list[float]] = {rung: [] for rung in RUNGS}
    began = 0.0
    for number in range(1, trials + 1):
        parameters = draw(rng)
        history = curve(parameters, rng)
        kept = cut(history, at_rung)
        state = "finished" if len(kept) == len(history) else "stopped"
        reason = (
            "" if state == "finished" else f"below the best third at {kept[-1]['percent']:.0f}%"
        )
        write_trial(folder, number, parameters, kept, state, reason, began)
        began += kept[-1]["seconds"] + 2.0
    return folder


def cut(
    history: Sequence[dict[str, Any]], at_rung: dict[float, list[float]]
) -> list[dict[str, Any]]:
    """What is left of a trial that has to be in the best third of those that came to a rung."""
    for rung, seen in at_rung.items():
        place = next(k for k, line in enumerate(history) if line["percent"] >= rung)
        best = max(line["macro_f1"] for line in history[: place + 1])
        seen.append(best)
        if len(seen) >= 3 and best < np.quantile(seen, 2 / 3):
            return list(history[: place + 1])
    return list(history)
