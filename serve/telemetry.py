"""What the endpoint says of itself while it works; what becomes of it is not its matter.

`Telemetry` takes it and does nothing, which is what tests and a plain uvicorn want.
`serve.exporter` has the one that Prometheus sees. Knows nothing of Ray.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Stage = Literal["queue", "tokenize", "infer"]


class Telemetry:
    """Every method may be called from any thread, costs about a microsecond, and never fails.

    Sequences and arrays are read later: they must not be changed once they are given. A route, a
    status or a kind of error outside the fixed sets of `serve.meters` counts as "other": nothing
    that a client makes up becomes a name, and no text ever arrives here.
    """

    def request(self, route: str, status: int, error_type: str | None, seconds: float) -> None:
        """One request was answered.

        `route`: the request's path, or the route's template. `error_type`: as in the reply; None
        if there was no error. `seconds`: from the first byte read to the reply.
        """

    def stage(self, name: Stage, seconds: float) -> None:
        """One stage took its time: `queue` and `tokenize` once a request, `infer` once a turn."""

    def batch(self, rows: int, tokens: int) -> None:
        """The model is given one turn: so many texts, with so many tokens together."""

    def waiting(self, requests: int, tokens: int) -> None:
        """What waits for the model now: to be said whenever it changes."""

    def answers(
        self,
        labels: Sequence[str],
        scores: Sequence[float] | npt.NDArray[np.float32],
        abstained: Sequence[bool] | npt.NDArray[np.bool_],
        truncated: Sequence[bool] | npt.NDArray[np.bool_],
    ) -> None:
        """Texts were answered, an element each: the label's name, that label's score, and so on.

        Names and not ids: an answer that was under way while the model changed is still right.
        """

    def model(
        self, name: str, version: str, labels: Sequence[str], natural_prior: Sequence[float]
    ) -> None:
        """From now on this model answers: at the start, and at every change.

        `labels`, `natural_prior`: name and share of each class, in the order of class ids.
        """

    def refused(self, is_refused: bool) -> None:
        """Whether what should answer could not be put in its place; to be said at every change."""

    def feedback(self, count: int = 1) -> None:
        """So many corrections were taken in and are durable."""

    def close(self) -> None:
        """What was said so far is passed on, and no more is taken."""
