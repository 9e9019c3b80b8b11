"""A side of tests.benchmarks.serving: FastAPI with a transformers pipeline, as one writes it first.

    python -m tests.benchmarks.serve_pipeline --bundle FOLDER --port PORT

One uvicorn worker; the endpoint is a plain function, which FastAPI runs in its pool of threads.
"""

import argparse
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Request(BaseModel):
    texts: list[str]
    top_k: int = 3


def make_app(folder: str) -> FastAPI:
    app = FastAPI()
    classifier: Any = pipeline("text-classification", model=folder, tokenizer=folder, top_k=3)

    @app.post("/classify")
    def classify(request: Request) -> dict[str, Any]:
        return {"predictions": classifier(request.texts, top_k=request.top_k, truncation=True)}

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    uvicorn.run(make_app(asked.bundle), host="127.0.0.1", port=asked.port)


if __name__ == "__main__":
    main()
