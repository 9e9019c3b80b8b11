"""The requests and replies of the endpoint, as the OpenAPI document shows them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

Score = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]


class _Strict(BaseModel):
    """Unknown keys are refused: a misspelt option must not be ignored."""

    model_config = ConfigDict(extra="forbid")


class ClassifyRequest(_Strict):
    """Texts to be labelled."""

    texts: list[StrictStr] = Field(
        description="the texts, at least one", examples=[["VPN is down"]]
    )
    top_k: StrictInt = Field(3, ge=1, le=10_000, description="alternatives given for each text")
    min_score: Score = Field(0.0, description="alternatives below this score are left out")


class LabelScore(BaseModel):
    """A label and its calibrated probability."""

    label: str
    score: float


class Prediction(BaseModel):
    """The answer for one text; the label heads its alternatives."""

    label: str
    score: float
    abstained: bool = Field(description="the model is not sure enough: ask a human")
    truncated: bool = Field(description="the text was longer than the model reads")
    alternatives: list[LabelScore]


class ModelName(BaseModel):
    """Which model answered."""

    name: str
    version: str


class ClassifyReply(BaseModel):
    """Answers in the order of the texts."""

    request_id: str
    model: ModelName
    predictions: list[Prediction]


class PredictRequest(_Strict):
    """As text-embeddings-inference takes it: one text, or a list of one-element lists."""

    inputs: StrictStr | list[list[StrictStr]] = Field(
        description='"one text", or [["first"], ["second"]]', examples=["VPN is down"]
    )
    raw_scores: StrictBool = Field(
        False, description="logits of the decision instead of probabilities"
    )
    truncate: StrictBool = Field(
        True, description="false: a text that is too long is refused (413) instead of cut"
    )


class Update(BaseModel):
    """A model that should answer, and does not."""

    wanted: str = Field(description="the bundle, or the registry and the name in it")
    problem: str = Field(description="why it does not answer")
    at: str = Field(description="when it was last tried, UTC")


class Info(BaseModel):
    """What is being served."""

    model: ModelName
    bundle: str
    classes: int
    labels: list[str]
    max_tokens: int
    abstention_threshold: float
    metrics: dict[str, Any] | None
    configuration: dict[str, Any]
    versions: dict[str, str]
    precision: str
    limits: dict[str, float]
    update: Update | None = Field(
        None, description="the newest model, where it could not be loaded and another one answers"
    )


class Status(BaseModel):
    """Whether the replica is well."""

    status: str


class ErrorReply(BaseModel):
    """Every error: what is wrong, and its kind."""

    error: str
    error_type: str
