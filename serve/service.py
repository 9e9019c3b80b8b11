"""One model behind its queue: texts in, answers out, within the limits. Knows nothing of HTTP."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from jobs.classifier.encoding import Encoded
from jobs.classifier.predictor import Predictions
from serve import dialects
from serve.errors import TooLarge, TooLate
from serve.feedback import Feedback
from serve.models import Loaded
from serve.queue import ModelQueue
from serve.schema import Info, ModelName
from serve.settings import Endpoint


class Service:
    """One model behind its queue."""

    def __init__(self, loaded: Loaded, settings: Endpoint) -> None:
        self.loaded = loaded
        self.settings = settings
        self.feedback: Feedback | None = None
        self.queue = ModelQueue(
            loaded.predictor.answer, waiting_tokens=settings.limits.waiting_tokens
        )
        # Tokenizing takes a fraction of the model's time: one thread is enough, and keeps the
        # event loop free.
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encode")

    @property
    def labels(self) -> list[str]:
        return self.loaded.predictor.about.labels

    @property
    def model(self) -> ModelName:
        return ModelName(name=self.loaded.name, version=self.loaded.version)

    async def answer(self, texts: list[str], *, truncate: bool = True) -> Predictions:
        """The answers for texts that passed the limits, within the time allowed."""
        limits = self.settings.limits
        dialects.check_texts(texts, limits)
        try:
            async with asyncio.timeout(limits.answer_s):
                encoded = await self._encode(texts)
                if not truncate and encoded.truncated.any():
                    number = int(encoded.truncated.argmax())
                    most = self.loaded.predictor.encoder.max_tokens
                    raise TooLarge(f"Text {number} has more than {most} tokens.")
                return await self.queue.ask(encoded)
        except TimeoutError:
            raise TooLate(f"No answer within {limits.answer_s:g} s.") from None

    async def _encode(self, texts: list[str]) -> Encoded:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._encoding, self.loaded.predictor.encoder.encode, texts
        )

    def info(self) -> Info:
        about = self.loaded.predictor.about
        return Info(
            model=self.model,
            bundle=self.loaded.uri,
            classes=len(about.labels),
            labels=about.labels,
            max_tokens=about.max_tokens,
            abstention_threshold=about.abstention_threshold,
            metrics=self.loaded.metrics or None,
            configuration=about.configuration,
            versions=about.versions,
            precision=str(self.loaded.predictor.dtype).removeprefix("torch."),
            limits=self.settings.limits.model_dump(),
        )

    def close(self) -> None:
        self.queue.close()
        self._encoding.shutdown(wait=False, cancel_futures=True)
