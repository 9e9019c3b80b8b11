"""The settings of the endpoint, in the one vocabulary. Knows nothing of training."""

from typing import Literal

from pydantic import Field, model_validator

from cluster.command import Settings


class Limits(Settings):
    """What a client may ask for; above it the answer is an error of the contract, at once."""

    texts: int = Field(64, ge=1, description="texts in one request")
    characters: int = Field(100_000, ge=1, description="characters of one text")
    body_bytes: int = Field(2_000_000, ge=1000, description="bytes of one request's body")
    body_s: float = Field(10.0, gt=0, description="seconds for a request's body to arrive")
    waiting_tokens: int = Field(
        262_144, ge=1, description="tokens that may wait for the model before 429 is answered"
    )
    waiting_requests: int = Field(
        512, ge=1, description="requests under way in a replica before 429 is answered"
    )
    answer_s: float = Field(30.0, gt=0, description="seconds after which a request is given up")


class Autoscaling(Settings):
    """How many replicas, and when that changes."""

    min_replicas: int = Field(1, ge=0, description="replicas when idle")
    max_replicas: int | None = Field(
        None,
        ge=1,
        description="replicas at most; none: as many as the cluster has CPUs or GPUs for",
    )
    target_ongoing_requests: float = Field(
        16.0, gt=0, description="requests under way per replica that autoscaling aims at"
    )
    upscale_delay_s: float = Field(10.0, ge=0, description="seconds of load before growing")
    downscale_delay_s: float = Field(300.0, ge=0, description="seconds of calm before shrinking")

    @model_validator(mode="after")
    def _ordered(self) -> "Autoscaling":
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(
                f"autoscaling.max_replicas is {self.max_replicas}, below autoscaling.min_replicas "
                f"{self.min_replicas}; raise the one or lower the other."
            )
        return self


class Endpoint(Settings):
    """What a replica needs to know; it travels in the Serve config as plain values.

    With a registry, each replica looks up the champion when it starts.
    """

    bundle: str | None = Field(None, description="URI of the bundle that answers")
    registry: str | None = Field(
        None, description="URI of the registry whose champion answers, in place of a bundle"
    )
    name: str = Field("switchyard", description="the model's name in replies, and in the registry")
    keys: tuple[str, ...] = Field(
        (), description="SHA-256 of every key that is let in; none: everybody is"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "fp32", description="number format of the answers; auto: bf16 where it is fast"
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads of a replica's model; none: torch's own choice"
    )
    limits: Limits = Limits()
    autoscaling: Autoscaling = Autoscaling()

    @model_validator(mode="after")
    def _one_place(self) -> "Endpoint":
        if (self.bundle is None) == (self.registry is None):
            raise ValueError("an endpoint needs a bundle or a registry, one of the two.")
        return self
