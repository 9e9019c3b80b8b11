"""The settings of the endpoint, in the one vocabulary. Knows nothing of training."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from cluster.command import Settings
from cluster.storage import Uri


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


class Registered(Settings):
    """Where the champion is looked up, and how often."""

    alone: ClassVar[str] = "uri"

    uri: Uri | None = Field(
        None, description="registry whose champion answers, in place of a bundle"
    )
    poll_s: float = Field(
        30.0, gt=0, description="seconds after which a replica looks for another champion again"
    )


class Keys(Settings):
    """Who is let in."""

    alone: ClassVar[str] = "file"

    file: str | None = Field(
        None,
        description="file with the API keys, one a line, plain or as sha256:HEX; none: one is made "
        "and printed",
    )
    watch: Uri | None = Field(
        None,
        description="the same, but a place that the replicas read, and read again every few "
        "seconds: keys change without deploying",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Keys":
        if self.file is not None and self.watch is not None:
            raise ValueError("keys.file and keys.watch both say who is let in: give one of them.")
        return self


class Feedback(Settings):
    """Where corrections are kept."""

    alone: ClassVar[str] = "uri"

    uri: Uri | None = Field(
        None, description="folder for the corrections that clients send; none: they are refused"
    )


class Live(Settings):
    """What may change while a replica runs: the `user_config` of a Serve config.

    A bundle, or a registry and a name in it, says what answers; `fallbacks` are bundles that
    answer where that one cannot be loaded, the first that can. Hashes of keys, or a place where
    they are read from, say who is let in: nobody without either, everybody if it is open.
    """

    bundle: str | None = Field(None, description="URI of the bundle that answers")
    bundle_version: str | None = Field(
        None, description="its version when it was deployed: other content is another bundle"
    )
    registry: Registered = Registered()
    name: str = Field("switchyard", description="the model's name in replies, and in the registry")
    fallbacks: tuple[str, ...] = Field(
        (), description="URIs of bundles that served before, the newest first"
    )
    key_hashes: tuple[str, ...] = Field((), description="SHA-256 of every key that is let in")
    keys_watch: str | None = Field(None, description="URI of a file of keys that is read again")
    open: bool = Field(False, description="let everybody in without a key")

    @model_validator(mode="after")
    def _one_place(self) -> "Live":
        if self.bundle is not None and self.registry.uri is not None:
            raise ValueError("an endpoint needs a bundle or a registry, one of the two.")
        return self

    @property
    def says_what(self) -> bool:
        """Whether it says what answers."""
        return self.bundle is not None or self.registry.uri is not None


class Endpoint(Live):
    """All that a replica needs to know; it travels in the Serve config as plain values.

    What of it is hot comes in the config's `user_config`, and where there is one that counts.
    """

    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="number format of the answers; auto: bf16 where it is fast"
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads of a replica's model; none: torch's own choice"
    )
    limits: Limits = Limits()
    feedback: Feedback = Feedback()
