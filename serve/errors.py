"""The endpoint's errors, drawn once: each has its status and its kind."""


class RequestError(Exception):
    """An answer other than 200 that the contract names."""

    status = 422
    kind = "invalid"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers: dict[str, str] = {}


def shown(text: str, most: int) -> str:
    """The beginning of what a client sent, fit to be said back: one line that any client reads.

    Surrogates, which no reply can carry, control and formatting characters become U+FFFD.
    """
    start = "".join(c if c.isprintable() else "\ufffd" for c in text[:most])
    return start if len(text) <= most else f"{start}…"


class Empty(RequestError):
    """Nothing to label."""

    status, kind = 400, "empty"


class Unauthorized(RequestError):
    """No key, or a wrong one."""

    status, kind = 401, "unauthorized"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers = {"WWW-Authenticate": "Bearer"}


class UnknownModel(RequestError):
    """No model of that name is served here."""

    status, kind = 404, "not_found"


class NoFeedback(RequestError):
    """Corrections have no place to go."""

    status, kind = 404, "no_feedback"


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""

    status, kind = 408, "body_too_slow"


class TooLarge(RequestError):
    """The body, the batch or a text is too large."""

    status, kind = 413, "too_large"


class Overloaded(RequestError):
    """More waits than the endpoint will hold."""

    status, kind = 429, "overloaded"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": "1"}


class NotReady(RequestError):
    """No model is loaded."""

    status, kind = 503, "not_ready"


class TooLate(RequestError):
    """The answer was not ready in time."""

    status, kind = 504, "too_late"


class NotStored(RequestError):
    """A correction that may be lost: its caller has to keep it."""

    status, kind = 503, "not_stored"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": "1"}
