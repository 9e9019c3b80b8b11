"""A model behind its queue: texts in, answers out, within the limits. Knows nothing of HTTP.

Another model takes its place by one assignment: who asked before is answered by the model that
the texts were encoded for, who asks afterwards by the new one.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cluster.errors import SwitchyardError
from jobs.classifier.encoding import Encoded, Encoder
from jobs.classifier.predictor import Predictions
from serve import dialects
from serve.errors import NotReady, Overloaded, TooLarge, TooLate
from serve.feedback import Feedback
from serve.keyring import Keyring
from serve.models import Loaded
from serve.queue import ModelQueue
from serve.schema import Info, ModelName, Update
from serve.settings import Endpoint
from serve.telemetry import Telemetry

# Up to here tokens are made where the request is, in a few tenths of a millisecond: another thread
# would be slower to wake up.
SHORT_CHARACTERS = 1000
# About two seconds of the tokenizer's work.
WAITING_CHARACTERS = 4_000_000
HUNG_TIMES = 4


@dataclass(frozen=True)
class Answer:
    """What was found for a request's texts, and the model that found it."""

    found: Predictions
    labels: list[str]
    model: ModelName


class Service:
    """One endpoint's state and work, whatever speaks to it."""

    def __init__(
        self,
        loaded: Loaded | None,
        settings: Endpoint,
        *,
        keys: Keyring | None = None,
        telemetry: Telemetry | None = None,
        feedback: Feedback | None = None,
        workers: int = 1,
        turn_tokens: int | None = None,
    ) -> None:
        """`loaded`: None until there is one. `keys`: None lets everybody in. `feedback`: where
        corrections go; None refuses them. `workers`, `turn_tokens`: as in `ModelQueue`."""
        self.telemetry = telemetry or Telemetry()
        self.update = None
        self._loaded: Loaded | None = None
        if loaded is not None:
            self.put(loaded)
        self.settings = settings
        self.keys = Keyring(None) if keys is None else keys
        self.feedback = feedback
        self.queue = ModelQueue(
            waiting_tokens=settings.limits.waiting_tokens,
            workers=workers,
            turn_tokens=turn_tokens,
            telemetry=self.telemetry,
        )
        # Tokenizing takes a fraction of the model's time: one thread is enough, and keeps the
        # event loop free.
        self._characters = 0
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encode")

    def put(self, loaded: Loaded) -> None:
        """From the next request on this model answers; may be called from any thread."""
        about = loaded.predictor.about
        self.telemetry.model(loaded.name, loaded.version, about.labels, about.natural_prior)
        self._loaded = loaded

    @property
    def update(self) -> Update | None:
        """What became of the newest model, if it is not the one that answers."""
        return self._update

    @update.setter
    def update(self, update: Update | None) -> None:
        self._update = update
        self.telemetry.refused(update is not None)

    @property
    def loaded(self) -> Loaded:
        """The model that answers now; NotReady if there is none yet."""
        if self._loaded is None:
            raise NotReady("No model is loaded yet. Try again in a moment.")
        return self._loaded

    @property
    def labels(self) -> list[str]:
        return self.loaded.predictor.about.labels

    @property
    def model(self) -> ModelName:
        return self.loaded.named

    async def answer(self, texts: list[str], *, truncate: bool = True) -> Answer:
        """The answers for texts that pass the limits, within the time allowed."""
        limits = self.settings.limits
        dialects.check_texts(texts, limits)
        loaded = self.loaded  # one model from here on, whatever is put meanwhile
        predictor = loaded.predictor
        try:
            async with asyncio.timeout(limits.answer_s):
                encoded = await self._encode(predictor.encoder, texts)
                if not truncate and encoded.truncated.any():
                    number = int(encoded.truncated.argmax())
                    most = predictor.encoder.max_tokens
                    raise TooLarge(f"Text {number} has more than {most} tokens.")
                found = await self.queue.ask(predictor.answer, encoded)
        except TimeoutError:
            raise TooLate(f"No answer within {limits.answer_s:g} s.") from None
        labels = predictor.about.labels
        named = [labels[number] for number in found.labels.tolist()]
        self.telemetry.answers(named, found.label_scores, found.abstained, found.truncated)
        return Answer(found, labels, loaded.named)

    async def _encode(self, encoder: Encoder, texts: list[str]) -> Encoded:
        began = time.perf_counter()
        characters = sum(map(len, texts))
        if characters <= SHORT_CHARACTERS:
            encoded = encoder.encode(texts)
        else:
            encoded = await self._encode_long(encoder, texts, characters)
        self.telemetry.stage("tokenize", time.perf_counter() - began)
        return encoded

    async def _encode_long(self, encoder: Encoder, texts: list[str], characters: int) -> Encoded:
        """In a thread of its own; Overloaded if too many characters wait for it already."""
        if self._characters > 0 and self._characters + characters > WAITING_CHARACTERS:
            raise Overloaded(
                f"{self._characters} characters are waiting for the tokenizer. Try again in a "
                "moment."
            )
        self._characters += characters
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._encoding, encoder.encode, texts)
        finally:
            self._characters -= characters

    def require_health(self) -> None:
        """SwitchyardError if the model computes at a turn for so long that it must hang."""
        limit = HUNG_TIMES * self.settings.limits.answer_s
        if self.queue.oldest_s() > limit:
            raise SwitchyardError(f"The model has been at one turn for more than {limit:g} s.")

    def info(self) -> Info:
        loaded = self.loaded
        about = loaded.predictor.about
        return Info(
            model=loaded.named,
            bundle=loaded.uri,
            classes=len(about.labels),
            labels=about.labels,
            max_tokens=about.max_tokens,
            abstention_threshold=about.abstention_threshold,
            metrics=loaded.metrics or None,
            configuration=about.configuration,
            versions=about.versions,
            precision=str(loaded.predictor.dtype).removeprefix("torch."),
            limits=self.settings.limits.model_dump(),
            update=self.update,
            feedback=self.feedback is not None,
        )

    def close(self) -> None:
        self.queue.close()
        self._encoding.shutdown(wait=False, cancel_futures=True)
        self.telemetry.close()
