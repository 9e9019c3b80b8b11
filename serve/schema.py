"""The requests and replies of the endpoint, as the OpenAPI document shows them."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serve.errors import shown

# A list is left at its first fault: a body may hold a million, and each costs more than it did
# to send.
Texts = Annotated[list[StrictStr], Field(fail_fast=True)]
# A list of one text, as the document says; another number is refused with a sentence of ours.
OneText = Annotated[
    Texts,
    WithJsonSchema(
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1},
        mode="validation",
    ),
]


def _whole(value: Any) -> Any:
    """3.0 is an integer in JSON Schema, and some languages write it so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


TopK = Annotated[StrictInt, BeforeValidator(_whole), Field(ge=1, le=10_000)]
Score = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]


class _Strict(BaseModel):
    """Unknown keys are refused: a misspelt option must not be ignored."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        """One sentence of the first unknown key: a body may hold a hundred thousand of them."""
        if isinstance(value, dict):
            unknown = next((key for key in value if key not in cls.model_fields), None)
            if unknown is not None:
                raise PydanticCustomError(
                    "unknown_key",
                    '"{key}" is no key of this request, which may have {known}',
                    {"key": shown(str(unknown), 40), "known": ", ".join(cls.model_fields)},
                )
        return value


class ClassifyRequest(_Strict):
    """Texts to be labelled."""

    texts: Texts = Field(description="the texts, at least one", examples=[["VPN is down"]])
    top_k: TopK = Field(3, description="alternatives given for each text")
    min_score: Score = Field(
        0.0,
        description="a text whose label scores below this is abstained on, beside those that the "
        "model's own threshold abstains on; other alternatives below it are left out",
    )


class LabelScore(BaseModel):
    """A label and its calibrated probability."""

    label: str
    score: float


class Prediction(BaseModel):
    """The answer for one text; the label heads its alternatives."""

    label: str
    score: float
    abstained: bool = Field(
        description="the model is not sure enough, or less sure than min_score: ask a human"
    )
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

    inputs: StrictStr | OneText | Annotated[list[OneText], Field(fail_fast=True)] = Field(
        description='"one text" or ["one text"], answered with one list; or '
        '[["first"], ["second"]], answered with a list for each',
        examples=["VPN is down"],
    )
    raw_scores: StrictBool = Field(
        False, description="logits of the decision instead of probabilities"
    )
    truncate: StrictBool | None = Field(
        None, description="false: a text that is too long is refused (413) instead of cut"
    )
    truncation_direction: Literal["right", "Right"] = Field(
        "right", description="where a text that is too long is cut: the model reads the beginning"
    )

    @field_validator("truncation_direction", mode="before")
    @classmethod
    def _from_the_beginning(cls, value: Any) -> Any:
        if value in ("left", "Left"):
            raise PydanticCustomError(
                "direction",
                'this model reads the beginning of a text, so "left" is not possible; send '
                '"right", or leave the key out',
            )
        return value


class InferenceParameters(_Strict):
    """What the Hugging Face inference API lets be said about the answers."""

    top_k: TopK | None = Field(None, description="labels given for each text; null: all of them")
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None,
        description="softmax, or null: calibrated scores; none: the logits of the decision; "
        "sigmoid: the sigmoid of those logits",
    )


class InferenceRequest(_Strict):
    """As the Hugging Face inference API takes it: one text, or a list of texts."""

    inputs: StrictStr | Texts = Field(
        description='"one text", or ["first", "second"]', examples=["VPN is down"]
    )
    parameters: InferenceParameters | None = None
    options: dict[str, Any] | None = Field(
        None, description="accepted, since clients send it, and ignored: nothing is cached here"
    )


class FeedbackRequest(_Strict):
    """A correction: the label that a text should have had."""

    text: StrictStr = Field(description="the text as it was sent", examples=["VPN is down"])
    label: StrictStr = Field(description="the right label, one of those that /info lists")
    request_id: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = Field(
        None,
        description="the id of the request that was answered wrongly, as its reply gave it; null: "
        "the id of this request is stored",
    )


class FeedbackReply(BaseModel):
    """The correction is stored durably, under this id."""

    request_id: str
    status: Literal["stored"] = "stored"


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
    feedback: bool = Field(description="whether corrections are taken, at /v1/feedback")
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
