"""The settings of a run, in the one vocabulary: the same dotted key in TOML, flags, environment,
search space, results and model card.

Each group stands where its owner can find it; commands put them together. Those of the data are
jobs.data_settings'.
"""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from cluster.command import Settings
from cluster.resources import GpuChoice


class Model(Settings):
    """The network."""

    name: str = Field(
        "minilm", description="Hub id, local folder, or minilm (embedded all-MiniLM-L6-v2)"
    )
    max_tokens: int = Field(
        128, ge=4, le=8192, description="tokens of a text that are read; the rest is cut"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of hidden layers and head (0-1)")
    freeze_layers: int = Field(
        0,
        ge=0,
        description="the embeddings and this many of the lowest layers stay as they were "
        "pretrained; 0: all learn",
    )


class Balance(Settings):
    """What training does about unequal classes; validation and test rows are never touched."""

    strategy: Literal[
        "none",
        "undersample",
        "oversample",
        "class-weights",
        "focal",
        "logit-adjustment",
        "balanced-softmax",
    ] = Field(
        "none",
        description="none; undersample: large classes cut; oversample: small ones repeated; "
        "class-weights: the loss weighted; focal: learned rows weigh less; logit-adjustment: log "
        "shares added to the logits in training; balanced-softmax: that with tau 1",
    )
    max_ratio: float = Field(
        1.0,
        ge=1,
        description="undersample, oversample: a class may have this many times the rows of the "
        "smallest; 1: all equal",
    )
    min_rows: int = Field(
        20,
        ge=1,
        description="undersample: classes with fewer rows stay whole, and others are not cut to "
        "their size",
    )
    redraw: bool = Field(
        True,
        description="undersample, oversample: each epoch draws other rows; false: the same in all",
    )
    beta: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="class-weights: by effective number of samples, e.g. 0.999 (0-1, exclusive); "
        "none: by inverse frequency, which is its limit at 1",
    )
    gamma: float = Field(
        2.0, ge=0, description="focal: power of (1 - p) in the loss; 0: plain cross-entropy"
    )
    tau: float = Field(
        1.0, ge=0, description="logit-adjustment: weight of the log shares; 0: none, 1: whole"
    )

    @model_validator(mode="after")
    def _alias_has_one_tau(self) -> "Balance":
        if self.strategy == "balanced-softmax" and self.tau != 1:
            raise ValueError(
                f"balance.tau is {self.tau:g}, and balanced-softmax is logit-adjustment with tau "
                "1: leave tau out, or set balance.strategy to logit-adjustment."
            )
        return self


class Train(Settings):
    """The run."""

    epochs: int = Field(6, ge=1, description="passes over the (balanced) training rows")
    batch_tokens: int = Field(1024, ge=16, description="tokens of a global batch, padding included")
    micro_tokens: int | None = Field(
        None,
        ge=16,
        description="most tokens of one forward pass of a worker, for large batches in little "
        "memory: gradients of the parts of a batch are added up; none: the whole",
    )
    packed: bool = Field(
        False,
        description="on one GPU, rows of a batch after one another without padding (BERT only), "
        "and steps as CUDA graphs, which keep the memory of one to themselves",
    )
    compile: bool = Field(
        False,
        description="on GPUs, encoder layers through torch.compile, which takes half a minute and "
        "a C compiler",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="number format; auto: bf16 where the hardware computes in it"
    )
    seed: int = Field(0, ge=0, description="seed of head, order, draws and dropout")


class Optim(Settings):
    """AdamW and its schedule."""

    lr: float = Field(2e-4, gt=0, description="peak learning rate of the encoder, per step")
    head_lr: float | None = Field(
        2e-3, gt=0, description="peak learning rate of pooler and classifier; none: that of lr"
    )
    layer_decay: float = Field(
        0.9, gt=0, le=1, description="rate of a layer relative to the one above it; 1: all equal"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="share of training with rising rate")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="how the rate falls after warm-up"
    )
    clip_norm: float = Field(1.0, gt=0, description="largest norm of a gradient")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="mass spread over all labels (0-1)")
    r_drop: float = Field(
        0.0,
        ge=0,
        description="weight of the disagreement between two draws of dropout, which makes a step "
        "twice as long; 0: one draw",
    )


class Stopping(Settings):
    """Which epoch is the best, and when training ends before its last one."""

    metric: Literal["calibrated_loss", "macro_f1", "accuracy", "validation_loss"] = Field(
        "calibrated_loss",
        description="figure on the validation rows by which the best epoch is chosen; "
        "calibrated_loss: their log-loss once scores are calibrated, which tells epochs apart that "
        "are right on as many rows",
    )
    patience: int | None = Field(
        None, ge=1, description="end after this many epochs without a better one; none: never"
    )


class Checkpoint(Settings):
    """What a run writes down to go on from after it was ended."""

    every_steps: int | None = Field(
        1000,
        ge=1,
        description="steps between two checkpoints within an epoch, beside the one after each; "
        "none: only after each",
    )
    keep: int = Field(
        2, ge=1, description="newest checkpoints that are kept beside that of the best epoch"
    )


class Decide(Settings):
    """Which label is given."""

    metric: Literal["macro_f1", "accuracy", "balanced_accuracy"] = Field(
        "macro_f1",
        description="figure that the decision offset is chosen for on the validation rows; "
        "accuracy: no offset, the most likely class",
    )


class Abstain(Settings):
    """When no label is given, and a human asked."""

    precision: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the answered validation rows that has to be right; the others are "
        "abstained on (0-1, exclusive); none: all are answered",
    )
    coverage: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the validation rows that has to be answered, those with the highest "
        "scores (0-1); none: all are answered",
    )

    @model_validator(mode="after")
    def _one_promise(self) -> "Abstain":
        if self.precision is not None and self.coverage is not None:
            raise ValueError(
                f"abstain.precision is {self.precision:g} and abstain.coverage is "
                f"{self.coverage:g}, and one threshold cannot promise both: give one of them."
            )
        return self


class Scaling(Settings):
    """Where training runs."""

    workers: int | None = Field(
        None, ge=1, description="data-parallel workers; none: one a GPU, or one a node on CPUs"
    )
    gpu: GpuChoice = Field(
        "auto", description="auto counts what the autoscaler can add; yes insists"
    )
    max_failures: int = Field(
        3,
        ge=0,
        description="how often in a run failed workers are started again; once more, and the run "
        "ends, to be gone on with by --resume; nodes that a cloud took back do not count",
    )
    start_timeout: float | None = Field(
        None,
        gt=0,
        description="seconds to wait for room for the workers, at the start and after a node was "
        "lost; none: 600 where an autoscaler adds nodes, else 30, and 60 for a lost one to return",
    )

    @field_validator("gpu", mode="before")
    @classmethod
    def _toml_has_booleans(cls, value: object) -> object:
        return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
