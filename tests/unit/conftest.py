"""What the tests of the endpoint share: a small model, loaded once."""

from pathlib import Path
from typing import Any

import pytest

from jobs.classifier.predictor import Predictions, Predictor
from serve.models import Loaded, load
from tests.unit.asking import TEXTS, Ask, asker


@pytest.fixture(scope="session")
def loaded(tiny_bundle: Path) -> Loaded:
    """A model of three labels with the name `tickets`."""
    return load(str(tiny_bundle), "tickets", precision="fp32", threads=1)


@pytest.fixture(scope="session")
def right(tiny_bundle: Path) -> Predictions:
    """Its answers for TEXTS."""
    return Predictor(tiny_bundle).predict(TEXTS)


@pytest.fixture
def ask(loaded: Loaded) -> Ask:
    """Sends one request to an endpoint of its own."""
    return asker(loaded)


@pytest.fixture(scope="session")
def schema(loaded: Loaded) -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = asker(loaded)("GET", "/openapi.json").json()
    return found
