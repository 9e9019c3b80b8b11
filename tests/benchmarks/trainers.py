"""The sides of `tests.benchmarks.training`: transformers' Trainer, a plain loop, our step and
`jobs.train`. Each runs in a process of its own and gives back its line.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from jobs.classifier import network
from jobs.classifier.ranks import sum_over_ranks
from jobs.classifier.step import Step
from jobs.settings import Model
from tests.benchmarks import hugging, intents, ours
from tests.benchmarks.measure import Meter, Work, cost_of, peak
from tests.benchmarks.rows import Rows

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
PEAKS = {"fp32": "peak-fp32", "bf16": "peak-bf16"}
RAY_EPOCHS = 2  # the first warms up
EPOCH = re.compile(r"epoch (\d+): .*?([\d,.]+) tokens/s, ([\d,.]+) s")

Line = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """What a side is given. `number`: that of the round, its seed."""

    banking: Path
    folder: Path
    steps: int
    warm: int
    number: int
    threads: int

    @property
    def meter(self) -> Meter:
        return Meter(self.steps, self.warm, CPU)


def rows_of(setup: Setup) -> tuple[Rows, list[str]]:
    """All training rows, and the names of the labels."""
    texts, labels = intents.load(setup.banking, "train")
    names = sorted(set(labels))
    return intents.tokens_of(texts, labels, names), names


def plain_network(names: Sequence[str], **config: Any) -> Any:
    """The pretrained model as transformers gives it to anyone, its own dropout included."""
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        str(network.model_folder(intents.MODEL)), num_labels=len(names), **config
    )


def collator() -> hugging.Collate:
    import transformers

    folder = str(network.model_folder(intents.MODEL))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    collate: hugging.Collate = transformers.DataCollatorWithPadding(tokenizer)
    return collate


def trainer(
    setup: Setup, *, batch: int, bf16: bool = False, grouped: bool = False, **config: Any
) -> Line:
    """transformers' Trainer; `config` changes the network."""
    rows, names = rows_of(setup)
    model, meter = plain_network(names, **config), setup.meter
    if grouped:
        meter.steps = hugging.whole_cycles(meter.steps, len(rows.tokens), batch)
    cost = cost_of(model)
    hugging.trainer_speed(
        model,
        rows,
        meter,
        batch=batch,
        bf16=bf16,
        grouped=grouped,
        collate=collator(),
        seed=setup.number,
    )
    return {"dtype": "bf16" if bf16 else "fp32"} | meter.line(cost)


def loop(setup: Setup, *, bf16: bool) -> Line:
    """A plain PyTorch loop."""
    rows, names = rows_of(setup)
    model, meter = plain_network(names), setup.meter
    cost = cost_of(model)
    hugging.loop_speed(model, rows, meter, batch=32, bf16=bf16, seed=setup.number)
    return {"dtype": "bf16" if bf16 else "fp32"} | meter.line(cost)


def step(setup: Setup, *, batch_tokens: int, rank: int = 0, world: int = 1) -> Line:
    """Our step with the default settings; with several ranks the line is that of all of them."""
    rows, names = rows_of(setup)
    model = network.new_network(
        network.model_folder(intents.MODEL), names, dropout=Model().dropout, seed=setup.number
    )
    cost, meter = cost_of(model), setup.meter
    ours.step_speed(
        Step(model, intents.default_recipe(), device=CPU, seed=setup.number),
        model,
        rows,
        meter,
        batch_tokens=batch_tokens,
        seed=setup.number,
        rank=rank,
        world=world,
    )
    done = meter.work
    sums = torch.tensor([done.rows, done.tokens, done.positions, done.squares])
    meter.work = Work(*sum_over_ranks(sums, CPU).tolist())
    return {"dtype": our_dtype()} | meter.line(cost)


def our_dtype() -> str:
    """What precision `auto` comes to on this machine."""
    return "fp32" if intents.default_recipe().dtype is torch.float32 else "bf16"


def workers(setup: Setup, *, batch_tokens: int, world: int = 2) -> Line:
    """Our step in several bare processes that share the threads."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_rank, (world, Path(folder), setup, batch_tokens), world)  # type: ignore[no-untyped-call]  # torch has no types here
        line: Line = json.loads((Path(folder) / "line.json").read_text())
    return line


def _rank(rank: int, world: int, folder: Path, setup: Setup, batch_tokens: int) -> None:
    torch.set_num_threads(max(1, setup.threads // world))
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=world,
        timeout=timedelta(minutes=5),
    )
    line = step(setup, batch_tokens=batch_tokens, rank=rank, world=world)
    if rank == 0:
        (folder / "line.json").write_text(json.dumps(line))
    dist.destroy_process_group()
    os._exit(0)  # torch's threads for gloo now and then abort as the interpreter ends


def under_ray(setup: Setup, *, batch_tokens: int, workers: int) -> Line:
    """`jobs.train` on prepared data; the figures of its last epoch, and when it first stepped.

    The time to the first step is what lies between the command and the end of the first epoch,
    without that epoch: the validation of a few rows is in it.
    """
    output = setup.folder / "runs" / f"{workers}-{batch_tokens}"
    shutil.rmtree(output, ignore_errors=True)
    words = ["jobs.train", "--data", str(prepared(setup)), "--output", str(output)]
    words += ["--train.epochs", str(RAY_EPOCHS), "--train.batch_tokens", str(batch_tokens)]
    words += ["--scaling.workers", str(workers), "--scaling.gpu", "no"]
    words += ["--train.seed", str(setup.number)]
    began, first, last = time.monotonic(), 0.0, 0.0
    program = start(words)
    for line in program.stdout or ():
        sys.stderr.write(line)
        found = EPOCH.search(line)
        if found:
            last, seconds = (float(part.replace(",", "")) for part in found.groups()[1:])
            first = first or time.monotonic() - began - seconds
    if program.wait() or not last:
        raise RuntimeError(f"{' '.join(words)} ended with {program.returncode}")
    rows, names = rows_of(setup)
    whole = Work()
    whole.add(torch.from_numpy(rows.lengths).long(), int(rows.lengths.sum()))
    per_token = cost_of(plain_network(names)).of(whole) / whole.tokens
    shutil.rmtree(output)
    return {
        "dtype": our_dtype(),
        "tokens_per_second": last,
        "flops_per_second": last * per_token,
        "first_step_seconds": round(first, 1),
        "command_seconds": round(time.monotonic() - began, 1),
    }


def prepared(setup: Setup) -> Path:
    """The training file prepared once: next to all of it trains, a few rows are for validation."""
    place = setup.folder / "prepared"
    if not (place / "manifest.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        words = ["jobs.prepare", "--source", str(setup.banking / "train.parquet")]
        words += ["--split.validation", "0.02", "--split.test", "0", "--output", str(place)]
        program = start(words)
        print(program.communicate()[0], file=sys.stderr)
        if program.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {program.returncode}")
    return place


def start(words: Sequence[str]) -> "subprocess.Popen[str]":
    """A command of ours that starts a Ray of its own; its output is one stream."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def hardware(_: Setup, *, dtype: torch.dtype) -> Line:
    """The peak that utilisation is a share of."""
    return {"flops_per_second": peak(dtype, CPU)}


SIDES: dict[str, Callable[[Setup], Line]] = {
    PEAKS["fp32"]: partial(hardware, dtype=torch.float32),
    PEAKS["bf16"]: partial(hardware, dtype=torch.bfloat16),
    "trainer-8": partial(trainer, batch=8),
    "trainer-32": partial(trainer, batch=32),
    "trainer-bf16-32": partial(trainer, batch=32, bf16=True),
    "trainer-bf16-grouped-32": partial(trainer, batch=32, bf16=True, grouped=True),
    "trainer-bf16-grouped-64": partial(trainer, batch=64, bf16=True, grouped=True),
    # Not a flag of Trainer's but a change of the model, and ours makes it too.
    "trainer-bf16-grouped-64-no-attention-dropout": partial(
        trainer, batch=64, bf16=True, grouped=True, attention_probs_dropout_prob=0.0
    ),
    "loop-32": partial(loop, bf16=False),
    "loop-bf16-32": partial(loop, bf16=True),
    "ours-1024": partial(step, batch_tokens=1024),
    "ours-4096": partial(step, batch_tokens=4096),
    "ours-2-workers-1024": partial(workers, batch_tokens=1024),
    "ours-2-workers-4096": partial(workers, batch_tokens=4096),
    "ray-1-worker-1024": partial(under_ray, batch_tokens=1024, workers=1),
    "ray-1-worker-4096": partial(under_ray, batch_tokens=4096, workers=1),
    "ray-2-workers-1024": partial(under_ray, batch_tokens=1024, workers=2),
    "ray-2-workers-4096": partial(under_ray, batch_tokens=4096, workers=2),
}


def run(side: str, setup: Setup) -> Line:
    """The line of one side, in this process."""
    torch.set_num_threads(setup.threads)
    torch.manual_seed(setup.number)
    return SIDES[side](setup)
