"""A side of tests.benchmarks.serving: Ray Serve as its documentation has it, at its defaults.

    python -m tests.benchmarks.serve_defaults --bundle FOLDER --port PORT

A FastAPI ingress, behind it a deployment of the model that answers in batches (`@serve.batch`), in
float32 by plain transformers. What is not a default: batches of up to 32 requests instead of 10,
and room for 128 requests under way instead of 5, without which it would be idle most of the time.
"""

import argparse
from typing import Any

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve
from transformers import AutoModelForSequenceClassification, AutoTokenizer

ONGOING = 128
ROWS = 32
api = FastAPI()


class Request(BaseModel):
    texts: list[str]
    top_k: int = 3


@serve.deployment(num_replicas=1, max_ongoing_requests=ONGOING)
class Classifier:
    """The model."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32
        ).eval()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.01)
    async def __call__(self, requests: list[Request]) -> list[list[list[dict[str, Any]]]]:
        """For each request, for each of its texts: the best labels with their scores."""
        texts = [text for request in requests for text in request.texts]
        parts = [self.scores(texts[k : k + ROWS]) for k in range(0, len(texts), ROWS)]
        rows = iter(torch.cat(parts))
        return [[self.best(next(rows), r.top_k) for _ in r.texts] for r in requests]

    def scores(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            return torch.softmax(self.model(**tokens).logits, dim=-1)

    def best(self, scores: torch.Tensor, top_k: int) -> list[dict[str, Any]]:
        names = self.model.config.id2label
        top = scores.topk(min(top_k, len(scores)))
        return [
            {"label": names[label], "score": score}
            for label, score in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]


@serve.deployment(num_replicas=1, max_ongoing_requests=ONGOING)
@serve.ingress(api)
class Ingress:
    """The routes."""

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    @api.post("/classify")
    async def classify(self, request: Request) -> dict[str, Any]:
        return {"predictions": await self.classifier.remote(request)}


def main() -> None:
    import ray

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    # Without the dashboard, as ours starts it.
    ray.init(address="local", include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": asked.port})
    serve.run(Ingress.bind(Classifier.bind(asked.bundle)), blocking=True)


if __name__ == "__main__":
    # What replicas run must have a module's name: what is defined in __main__ is sent by value.
    from tests.benchmarks import serve_defaults  # noqa: PLW0406

    serve_defaults.main()
