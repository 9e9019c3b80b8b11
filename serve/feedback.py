"""Corrections: what a person says a text should have been labelled."""

from dataclasses import dataclass
from typing import Protocol

from serve.errors import RequestError


class NotStored(RequestError):
    """The correction could not be written."""

    status, kind = 503, "not_stored"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": "1"}


@dataclass(frozen=True)
class Correction:
    """One text with the label that it should have had.

    `request_id` is the request that was corrected, and the model the one that took the correction.
    """

    text: str
    label: str
    request_id: str
    model_name: str
    model_version: str


class Feedback(Protocol):
    """A place for corrections."""

    async def put(self, correction: Correction) -> None:
        """Returns once the correction is durable; NotStored if it could not be written."""
