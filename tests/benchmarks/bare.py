"""The sides of `tests.benchmarks.accelerator`: networks with random weights, rows of random tokens,
and one measurement of each way to train. torch, transformers, numpy and jobs.classifier alone.
"""

import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from jobs.classifier.precision import resolve
from jobs.classifier.recipe import Recipe
from jobs.classifier.step import Step
from tests.benchmarks import hugging
from tests.benchmarks.lines import Line
from tests.benchmarks.measure import Meter, cost_of
from tests.benchmarks.ours import step_speed
from tests.benchmarks.rows import Rows, random_rows

CLASSES = 77
# Shapes of BertConfig; vocabulary and positions are BERT's own where nothing is said.
MODELS: dict[str, dict[str, int]] = {
    "minilm": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "bert-base": {},
    "tiny": {
        "vocab_size": 200,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
}
# Tokens of BANKING77's training texts and how many of a thousand have them; mean 16.2.
SHORT = {
    6: 10, 7: 10, 8: 30, 9: 70, 10: 90, 11: 90, 12: 110, 13: 100, 14: 80, 15: 70, 16: 50, 17: 50,
    18: 30, 19: 20, 20: 20, 21: 20, 22: 10, 23: 10, 24: 10, 26: 10, 27: 10, 28: 10, 29: 10, 32: 10,
    34: 10, 35: 10, 38: 10, 40: 10, 44: 10, 48: 10, 59: 7, 78: 2, 98: 1,
}  # fmt: skip
LENGTHS: dict[str, dict[int, int]] = {
    "short": SHORT,
    "128": dict.fromkeys(range(32, 129), 1),
    "512": {512: 1},
}
OUT_OF_MEMORY = "out of memory"
SIDES = ("trainer", "padded", "packed", "padded-compiled", "packed-compiled")


@dataclass(frozen=True)
class Case:
    """What is measured: a side on a model and texts. `size`: rows of a batch for `trainer`, else
    tokens. `tokens`: about how many are timed."""

    side: str
    model: str
    lengths: str
    size: int
    tokens: int
    warm: int

    @property
    def key(self) -> Line:
        names = ("side", "model", "lengths", "size")
        return {name: getattr(self, name) for name in names}


def mean_length(lengths: str) -> float:
    counts = LENGTHS[lengths]
    return sum(n * times for n, times in counts.items()) / sum(counts.values())


def rows_for(case: Case, most_tokens: int) -> Rows:
    """Rows for a dozen of the largest batches, of lengths drawn as the case's texts have them."""
    counts = LENGTHS[case.lengths]
    rng = np.random.default_rng(0)
    share = np.array(list(counts.values()), dtype=np.float64)
    count = max(64, round(12 * most_tokens / mean_length(case.lengths)))
    drawn = rng.choice(list(counts), size=count, p=share / share.sum())
    vocabulary = MODELS[case.model].get("vocab_size", 30522)
    return random_rows(drawn.tolist(), classes=CLASSES, vocabulary=vocabulary)


def new_network(model: str, **config: Any) -> Any:
    """A BERT classifier with random weights, on the CPU."""
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    shape = transformers.BertConfig(num_labels=CLASSES, **MODELS[model], **config)
    return transformers.BertForSequenceClassification(shape)


def run(case: Case, rows: Rows, device: torch.device) -> Line:
    """The line of a case; `failed` says what came instead of figures."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    measure = _trainer if case.side == "trainer" else _ours
    try:
        found = measure(case, rows, device)
    except torch.OutOfMemoryError:
        found = {"failed": OUT_OF_MEMORY}
    except Exception as error:  # the machine is borrowed: the other sides shall have their turn
        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    if device.type == "cuda":
        found["gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return case.key | found


def _steps(case: Case, tokens_a_step: float) -> int:
    """So many that about `case.tokens` are timed, in bounds."""
    return int(np.clip(case.tokens / tokens_a_step, 5, 200))


def _trainer(case: Case, rows: Rows, device: torch.device) -> Line:
    """transformers with its best flags: bf16, group by length, fused AdamW, clipping.

    By its Trainer where accelerate is there, else by a loop that does the same. The model has the
    dropout of BERT's configuration, that of attention included.
    """
    network = new_network(case.model).to(device)
    bf16 = resolve("auto", device) is torch.bfloat16
    cycle = hugging.cycle(len(rows.tokens), case.size)
    steps = max(cycle, _steps(case, case.size * mean_length(case.lengths)))
    meter = Meter(steps - steps % cycle, case.warm, device)
    cost = cost_of(network)
    if hugging.has_trainer():
        hugging.trainer_speed(network, rows, meter, batch=case.size, bf16=bf16, grouped=True)
    else:
        hugging.loop_speed(
            network, rows, meter, batch=case.size, bf16=bf16, grouped=True, fused=True, clip=1.0
        )
    by = "Trainer" if hugging.has_trainer() else "a loop like Trainer's"
    return {"by": by} | meter.line(cost)


def _ours(case: Case, rows: Rows, device: torch.device) -> Line:
    """Our step with the dropout, rates and smoothing of `jobs.train`'s defaults."""
    network = new_network(case.model, attention_probs_dropout_prob=0.0, classifier_dropout=0.1).to(
        device
    )
    cost = cost_of(network)
    recipe = Recipe(
        epochs=1,
        lr=2e-4,
        head_lr=2e-3,
        layer_decay=0.9,
        label_smoothing=0.1,
        dtype=resolve("auto", device),
        packed=case.side.startswith("packed"),
        compiled=case.side.endswith("-compiled"),
    )
    step = Step(network, recipe, device=device, seed=0)
    meter = Meter(_steps(case, case.size), case.warm, device)
    step_speed(step, network, rows, meter, batch_tokens=case.size, packed=recipe.packed)
    return meter.line(cost)


def pick_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
