"""The benchmark of searches: what it reads out of an experiment, and what it makes of its lines."""

from pathlib import Path

import pytest

from tests.benchmarks import trial_costs, tuning
from tests.benchmarks.lines import Line
from tests.unit import experiments
from tuning.experiment import Folder


def test_the_overhead_of_a_trial_is_what_neither_trains_nor_judges(tmp_path: Path) -> None:
    # Epochs of 10 seconds and 2 between them, and an end 1 second later.
    folder = experiments.write(str(tmp_path), trials=6)
    found = trial_costs.of(folder.trials())
    assert found["between_s"] == pytest.approx(2.0)
    assert found["overhead_s"] == pytest.approx(1.0)
    assert found["most_overhead_s"] == pytest.approx(1.0)


def test_the_first_trial_waits_for_its_process_and_a_resumed_one_is_left_out(
    tmp_path: Path,
) -> None:
    folder = Folder(str(tmp_path))
    point = {"optim.lr": 1e-4}
    for number, waits in enumerate((7.0, 0.0, 0.0), 1):
        history = [experiments.epoch(k, 3, 0.5, seconds=12.0 * k + waits) for k in (1, 2, 3)]
        experiments.write_trial(folder, number, point, history)
    # The last epoch in another process, and long after.
    resumed = [experiments.epoch(k, 3, 0.5, starts=float(1 + k // 3)) for k in (1, 2, 3)]
    resumed[-1]["seconds"] += 900.0
    experiments.write_trial(folder, 4, point, resumed)
    experiments.write_trial(folder, 5, point, [experiments.epoch(1, 3, 0.5)], None)
    found = trial_costs.of(folder.trials())
    assert found["most_overhead_s"] == pytest.approx(8.0)
    assert found["overhead_s"] == pytest.approx(1.0)


def test_of_single_epochs_nothing_is_known(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    experiments.write_trial(folder, 1, {"optim.lr": 1e-4}, [experiments.epoch(1, 1, 0.5)])
    assert trial_costs.of(folder.trials()) == {}


def line(side: str, seed: int, held_out: float, **more: object) -> Line:
    found: Line = {
        "side": side, "seed": seed, "validation": held_out + 0.1, "held_out": held_out,
        "epochs": 50, "trials": {"finished": 4, "stopped": 5}, "seconds": 120.0,
        "overhead_s": 0.5, "most_overhead_s": 4.0,
    }  # fmt: skip
    return found | more


def test_searches_are_compared_seed_by_seed_and_judged_by_their_slowest() -> None:
    found = [
        line("tpe-asha", 0, 0.80),
        line("random", 0, 0.75, overhead_s=3.5),
        line("tpe-asha", 1, 0.70),
        line("random", 1, 0.71),
        line("random", 2, 0.71),
        {
            "side": "killed",
            "seed": 0,
            "seconds": 20.0,
            "lost": 0,
            "repeated": 1,
            "trained_again": 0,
        },
    ]
    said = "\n".join(tuning.tables(found))
    assert "| tpe-asha | 2 | 50 | 9.0, 4.0 | 0.8500 ± 0.0707 | 0.7500 ± 0.0707 | 2.0 |" in said
    assert "| random | held out | +0.0500, -0.0100 |" in said
    assert "| 3.5 | at most 3: **missed** |" in said
    assert "| trials lost, trials repeated | 0, 1 | 0, 0: **missed** |" in said
    assert "random-3x |" not in said.split("TPE with ASHA less")[0]
