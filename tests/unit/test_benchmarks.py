"""The benchmarks of training: what they count, and that they run where they should."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.classifier.batches import batches, plan_epoch
from tests.benchmarks import accelerator, bare, hugging, intents, lines, training
from tests.benchmarks.measure import Cost, Meter, Work, cost_of
from tests.benchmarks.rows import random_rows

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def test_the_cost_of_a_bert_is_its_matrices_and_its_attention() -> None:
    network = bare.new_network("tiny")
    layer = 4 * 32 * 32 + 2 * 32 * 64
    assert cost_of(network) == Cost(2 * layer, 32 * 32 + 32 * bare.CLASSES, 2 * 32)


def test_operations_are_those_of_the_formula() -> None:
    work = Work()
    work.add(torch.tensor([3, 5]), 10)
    assert Cost(100, 10, 7).of(work) == 6 * (100 * 8 + 10 * 2) + 12 * 7 * (9 + 25)
    assert work.padding == pytest.approx(0.2)


def test_the_meter_leaves_out_the_steps_that_warm_up() -> None:
    meter = Meter(steps=2, warm=3, device=CPU)
    ended = []
    for length in range(1, 6):
        meter.add(torch.tensor([length]), length)
        ended.append(meter.step_done())
    assert ended == [False] * 4 + [True]
    assert meter.work.tokens == 4 + 5
    assert meter.seconds > 0


def test_a_part_of_a_cycle_of_grouped_batches_is_not_timed() -> None:
    assert hugging.cycle(10_003, 32) == 50
    assert hugging.whole_cycles(100, 10_003, 64) == 78
    assert hugging.whole_cycles(6, 10_003, 64) == 6


def test_rows_in_memory_make_batches() -> None:
    rows = random_rows([3, 5, 8, 2], classes=3, vocabulary=50)
    made = list(batches(rows, plan_epoch(rows, seed=0, epoch=0, batch_tokens=16), pad_id=0))
    assert sum(batch.real_tokens for batch in made) == 18
    assert rows.take(np.array([2, 0])).lengths.tolist() == [8, 3]


def test_every_label_has_its_share_of_the_validation_rows() -> None:
    labels = ["a"] * 20 + ["b"] * 2 + ["c"]
    rng = np.random.default_rng(0)
    shuffled = [labels[k] for k in rng.permutation(len(labels))]
    training_rows, validation = intents.stratified(shuffled, 0.1, seed=1)
    assert sorted([*training_rows, *validation]) == list(range(23))
    assert sorted(shuffled[row] for row in validation) == ["a", "a", "b"]
    again = intents.stratified(shuffled, 0.1, seed=1)
    assert np.array_equal(again[1], validation)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    place = tmp_path / "lines.jsonl"
    lines.append(place, {"side": "ours"})
    with place.open("a") as file:
        file.write('{"side": "the')
    assert lines.read(place) == [{"side": "ours"}]


def turn(rate: float, dtype: str = "bf16") -> list[dict[str, Any]]:
    return [{"tokens_per_second": rate, "flops_per_second": rate, "dtype": dtype, "padding": 0.1}]


def test_training_is_judged_by_the_fastest_rival() -> None:
    found = {
        "trainer-8": turn(90, "fp32"),
        "trainer-32": turn(100, "fp32"),
        "trainer-bf16-32": turn(300),
        "ours-1024": turn(450),
        "ours-2-workers-1024": turn(380),
    }
    values = {what: value >= least for what, value, least in training.judged(found)}
    assert values == {
        "ours at 1,024 tokens over Trainer's defaults, at least 5": False,
        "ours at 1,024 tokens over Trainer's best flags, at least 1.3": True,
        "two workers of one thread over one of two at 1,024 tokens, bare, at least 0.8": True,
    }
    row = training.speed_row(found, "ours-1024")
    assert row == "| ours-1024 | 450 | 450 to 450 | 10.0% |  | 4.50 | 1.50 |  |"


def test_an_accelerator_is_judged_where_its_sides_have_run() -> None:
    def line(side: str, lengths: str, size: int, rate: float) -> dict[str, Any]:
        key = {"side": side, "model": "bert-base", "lengths": lengths, "size": size}
        return key | {"tokens_per_second": rate, "flops_per_second": rate * 10}

    made = [
        line("trainer", "short", 32, 10),
        line("trainer", "short", 256, 30),
        line("packed", "short", 4096, 50),
        line("padded", "512", 4096, 60),
        {"side": "packed", "model": "bert-base", "lengths": "512", "size": 4096, "failed": "no"},
    ]
    found = {accelerator.place_of(line): line for line in made}
    values = [round(value, 2) for _, value, _ in accelerator.judged(found, 1000.0)]
    assert values == [0.6, 5.0, 1.67]


BLOCKED = ("ray", "pyarrow", "pandas", "pydantic", "sklearn", "scipy")


@pytest.mark.parametrize("blocked", [BLOCKED, (*BLOCKED, "accelerate")], ids=["all", "no-trainer"])
def test_the_accelerator_benchmark_runs_with_torch_and_transformers_alone(
    blocked: tuple[str, ...], tmp_path: Path
) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "runpy.run_module('tests.benchmarks.accelerator', run_name='__main__')\n"
    )
    output = tmp_path / "lines.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", program, "--tiny", "--output", str(output), "--device", "cpu"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in output.read_text().splitlines()][1:]
    assert {line["side"] for line in found} == {"trainer", "padded", "packed"}
    assert {line.get("by") for line in found if line["side"] == "trainer"} == {
        "a loop like Trainer's" if "accelerate" in blocked else "Trainer"
    }
    assert "| tiny | short | packed |" in done.stdout
