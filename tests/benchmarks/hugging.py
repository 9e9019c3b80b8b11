"""Training as one would write it with transformers: its Trainer, and a plain PyTorch loop.

torch and transformers alone, so that it also runs on a bare machine with an accelerator.
"""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib.util import find_spec
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.measure import Meter
from tests.benchmarks.rows import Rows

Inputs = dict[str, torch.Tensor]
Collate = Callable[[list[dict[str, Any]]], Inputs]


class Examples(Dataset[dict[str, Any]]):
    """Tokenized rows as Trainer and its collators want them."""

    def __init__(self, rows: Rows) -> None:
        self._items = [
            {"input_ids": ids.tolist(), "attention_mask": [1] * len(ids), "labels": int(label)}
            for ids, label in zip(rows.tokens, rows.labels, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return dict(self._items[row])


def padded(items: list[dict[str, Any]]) -> Inputs:
    """A batch padded to its longest row, for those who have no tokenizer to do it; pad id 0."""
    lengths = np.array([len(item["input_ids"]) for item in items])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.fromiter(chain.from_iterable(item["input_ids"] for item in items), np.int64)
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        "labels": torch.tensor([item["labels"] for item in items]),
    }


def has_trainer() -> bool:
    """Whether transformers' Trainer can be used: it wants accelerate."""
    return find_spec("accelerate") is not None


def cycle(rows: int, batch: int) -> int:
    """After how many steps grouping by length has gone from long rows to short ones.

    transformers.trainer_pt_utils.get_length_grouped_indices sorts pieces of so many batches.
    """
    return max(1, min(rows // (batch * 4), 50))


def whole_cycles(steps: int, rows: int, batch: int) -> int:
    """`steps`, cut to whole cycles where it holds one: a part would be of long or short rows."""
    one = cycle(rows, batch)
    return steps - steps % one or steps


def arguments(folder: str, *, bf16: bool, grouped: bool, device: torch.device, **more: Any) -> Any:
    """TrainingArguments: defaults but for what is said, and nothing saved, logged or shown."""
    from transformers import TrainingArguments

    if grouped and "train_sampling_strategy" in {f.name for f in fields(TrainingArguments)}:
        more["train_sampling_strategy"] = "group_by_length"
    elif grouped:  # its name before transformers 5.2
        more["group_by_length"] = True
    return TrainingArguments(
        output_dir=folder,
        bf16=bf16,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type != "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )


def trainer_speed(
    network: Any,
    rows: Rows,
    meter: Meter,
    *,
    batch: int,
    bf16: bool,
    grouped: bool,
    collate: Collate = padded,
    seed: int = 0,
) -> None:
    """Runs transformers' Trainer until the meter has what it wants.

    A step is timed from the end of the one before: its batch is made meanwhile, as users see it.
    """
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    # A batch is made before the one before it is used; on the device it could not be looked at
    # without waiting for it.
    made: deque[torch.Tensor] = deque()

    def seen(items: list[dict[str, Any]]) -> Inputs:
        inputs = collate(items)
        made.append(inputs["attention_mask"])
        return inputs

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            mask = made.popleft()
            meter.add(mask.sum(1), mask.numel())

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = meter.step_done()

    with tempfile.TemporaryDirectory() as folder:
        chosen = arguments(
            folder,
            bf16=bf16,
            grouped=grouped,
            device=meter.device,
            per_device_train_batch_size=batch,
            max_steps=meter.warm + meter.steps,
            seed=seed,
        )
        trainer = Trainer(
            network,
            chosen,
            data_collator=seen,
            train_dataset=Examples(rows),
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def loop_speed(
    network: Any,
    rows: Rows,
    meter: Meter,
    *,
    batch: int,
    bf16: bool,
    grouped: bool = False,
    fused: bool | None = None,
    clip: float | None = None,
    seed: int = 0,
) -> None:
    """A plain PyTorch loop until the meter has what it wants.

    With `grouped`, `fused` and `clip` 1.0 it does what Trainer does with its best flags.
    """
    torch.manual_seed(seed)
    network.to(meter.device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-5, fused=fused)
    for inputs in _for_ever(rows, batch, grouped):
        mask = inputs["attention_mask"]
        meter.add(mask.sum(1), mask.numel())
        there = {name: value.to(meter.device) for name, value in inputs.items()}
        with torch.autocast(meter.device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = network(**there).loss
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        if meter.step_done():
            return


def _for_ever(rows: Rows, batch: int, grouped: bool) -> Iterator[Inputs]:
    """Epoch after epoch of padded batches."""
    from transformers.trainer_pt_utils import LengthGroupedSampler

    sampler = LengthGroupedSampler(batch, lengths=rows.lengths.tolist()) if grouped else None
    loader = DataLoader(
        Examples(rows),
        batch_size=batch,
        sampler=sampler,
        shuffle=not grouped,
        collate_fn=padded,
    )
    while True:
        yield from loader
