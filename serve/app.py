"""The routes, as a FastAPI application around one loaded model. Knows nothing of Ray."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import fastapi
from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from serve import dialects
from serve.docs import docs_page
from serve.errors import NoFeedback, RequestError, TooLate, UnknownModel, shown
from serve.guard import PAGE_POLICY, Guard
from serve.schema import (
    ClassifyReply,
    ClassifyRequest,
    ErrorReply,
    FeedbackReply,
    FeedbackRequest,
    InferenceRequest,
    Info,
    LabelScore,
    PredictRequest,
    Status,
)
from serve.service import Service

PAGE = Path(__file__).parent / "page" / "index.html"
_Documented = dict[int | str, dict[str, Any]]
_ERRORS: _Documented = {
    status: {"model": ErrorReply, "description": text}
    for status, text in {
        400: "nothing to label",
        401: "no key, or a wrong one",
        408: "the body came too slowly",
        413: "body, batch or text too large",
        422: "not a request of this route",
        429: "overloaded; see Retry-After",
        503: "not ready",
        504: "not answered in time",
    }.items()
}


_MODEL_ERRORS = _ERRORS | {404: {"model": ErrorReply, "description": "no model of that name"}}
_FEEDBACK_ERRORS = _ERRORS | {
    400: {"model": ErrorReply, "description": "an empty text"},
    404: {"model": ErrorReply, "description": "no place for corrections is configured"},
    503: {"model": ErrorReply, "description": "not stored; see Retry-After"},
    504: {"model": ErrorReply, "description": "not known to be stored in time"},
}
# What the door itself may answer, on routes that need a key.
_DOOR_ERRORS: _Documented = {status: _ERRORS[status] for status in (401, 408, 413, 429, 503)}
# Says in the document that a key is needed; the door is what looks at it.
_NEEDS_KEY = [Security(HTTPBearer(auto_error=False, scheme_name="key"))]


def make_app(service: Service, *, says_id: bool = True) -> Guard:
    """The whole application, door included; `says_id` as in `Guard`."""
    app = FastAPI(
        title="Switchyard",
        description="Labels texts with calibrated scores. `Authorization: Bearer KEY`.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # another path is another route: 404, as the contract says
        lifespan=_lifespan(service),
    )
    _add_classification(app, service)
    _add_dialects(app, service)
    _add_feedback(app, service)
    _add_status(app, service)
    _add_pages(app)
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_fault)
    return Guard(
        app,
        keys=service.keys,
        limits=service.settings.limits,
        says_id=says_id,
        telemetry=service.telemetry,
    )


def _lifespan(service: Service) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield
        if service.feedback is not None:
            await service.feedback.close()
        service.close()

    return lifespan


def _add_classification(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/classify", response_model=ClassifyReply, responses=_ERRORS, dependencies=_NEEDS_KEY
    )
    async def classify(body: ClassifyRequest, request: Request) -> Response:
        """Labels texts."""
        answer = await service.answer(body.texts)
        predictions = dialects.predictions(
            answer.found, answer.labels, top_k=body.top_k, min_score=body.min_score
        )
        reply = ClassifyReply(
            request_id=request.state.request_id, model=answer.model, predictions=predictions
        )
        # As bytes: FastAPI would check and convert once more what was just made.
        return Response(reply.model_dump_json(), media_type="application/json")


def _add_dialects(app: FastAPI, service: Service) -> None:
    @app.post(
        "/predict",
        response_model=list[LabelScore] | list[list[LabelScore]],
        responses=_ERRORS,
        dependencies=_NEEDS_KEY,
    )
    async def predict(body: PredictRequest) -> Response:
        """Labels texts, in the request and reply shapes of text-embeddings-inference."""
        texts, single = dialects.tei_texts(body.inputs)
        answer = await service.answer(texts, truncate=body.truncate is not False)
        scores = dialects.tei_scores(answer.found, answer.labels, raw_scores=body.raw_scores)
        return JSONResponse(scores[0] if single else scores)

    # A name may hold slashes, as those of the Hugging Face Hub do.
    @app.post(
        "/models/{name:path}",
        response_model=list[list[LabelScore]],
        responses=_MODEL_ERRORS,
        dependencies=_NEEDS_KEY,
    )
    async def infer(
        name: Annotated[str, fastapi.Path(description="the model's name, as /info says it")],
        body: InferenceRequest,
    ) -> Response:
        """Labels texts, in the request and reply shapes of the Hugging Face inference API."""
        served = service.model.name
        if name != served:
            raise UnknownModel(
                f'No model of that name is here: "{served}" is served, at /models/{quote(served)}.'
            )
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        top_k, function = None, None
        if body.parameters is not None:
            top_k, function = body.parameters.top_k, body.parameters.function_to_apply
        answer = await service.answer(texts)
        return JSONResponse(
            dialects.inference_scores(answer.found, answer.labels, top_k=top_k, function=function)
        )


def _add_feedback(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/feedback",
        response_model=FeedbackReply,
        responses=_FEEDBACK_ERRORS,
        dependencies=_NEEDS_KEY,
    )
    async def feedback(body: FeedbackRequest, request: Request) -> FeedbackReply:
        """Stores the label that a text should have had; the answer comes once it is durable."""
        if service.feedback is None:
            raise NoFeedback("This endpoint was deployed without feedback.uri: it stores nothing.")
        limits, loaded = service.settings.limits, service.loaded
        correction = dialects.correction(
            body,
            request_id=request.state.request_id,
            model=loaded.named,
            labels=loaded.predictor.about.labels,
            limits=limits,
        )
        try:
            async with asyncio.timeout(limits.answer_s):
                await service.feedback.put(correction)
        except TimeoutError:
            raise TooLate(
                f"The correction was not stored within {limits.answer_s:g} s, and may be yet. "
                "Send it again, with the same request_id."
            ) from None
        service.telemetry.feedback()
        return FeedbackReply(request_id=correction.request_id)


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/health", response_model=Status)
    async def health() -> Status:
        """Whether the replica lives."""
        return Status(status="ok")

    @app.get("/ready", response_model=Status, responses={503: _ERRORS[503]})
    async def ready() -> Status:
        """Whether a model is loaded."""
        _ = service.loaded  # NotReady without one
        return Status(status="ready")

    @app.get("/info", response_model=Info, responses=_DOOR_ERRORS, dependencies=_NEEDS_KEY)
    async def info() -> Info:
        """What is being served."""
        return service.info()


def _add_pages(app: FastAPI) -> None:
    page = PAGE.read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": PAGE_POLICY}

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()), headers=headers)


Handler = Callable[[Request, Exception], Awaitable[Response]]


def _reply(
    request: Request, status: int, message: str, kind: str, headers: Any = None
) -> JSONResponse:
    request.state.error_type = kind  # the door counts errors by their kind
    return JSONResponse({"error": message, "error_type": kind}, status, headers=headers)


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _reply(request, error.status, str(error), error.kind, error.headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Where and why, without what was sent: it may be a person's text."""
    assert isinstance(error, RequestValidationError)
    found = [
        f"{'.'.join(shown(str(part), 40) for part in item['loc'][1:]) or 'the body'}: {item['msg']}"
        for item in error.errors()[:3]
    ]
    return _reply(request, 422, "; ".join(found) + ".", "invalid")


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:  # FastAPI's word for a body that it cannot decode
        return _reply(request, 422, "The body is not valid JSON in UTF-8.", "invalid")
    kinds = {404: "not_found", 405: "method_not_allowed"}
    return _reply(
        request,
        error.status_code,
        str(error.detail),
        kinds.get(error.status_code, "invalid"),
        error.headers,
    )


async def _on_fault(request: Request, __: Exception) -> Response:
    """A fault of ours; the log has the traceback, the client does not."""
    return _reply(request, 500, "The endpoint failed; its log says why.", "internal")
