"""The OpenAPI document, kept to: what it allows and what it forbids is sent to a real server, and
every reply has a status, a content type and a shape that the document has.

The requests are made by schemathesis: from examples, at every boundary of the document, and at
random from a fixed seed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serve.app import make_app
from serve.service import Service
from serve.settings import Endpoint
from tests.end_to_end.served import KEY, NAME, served

AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
# The document is the same for every model, so that it can be had without one.
_application: Any = make_app(Service(None, Endpoint())).app
DOCUMENT = _application.openapi()
schema = schemathesis.openapi.from_dict(DOCUMENT, config=schemathesis.Config(seed=0))


@pytest.fixture(scope="module")
def url(tiny_bundle: Path) -> Iterator[str]:
    with served(tiny_bundle) as base:
        yield base


def test_the_server_gives_the_document_that_is_tested_here(url: str) -> None:
    assert httpx.get(f"{url}/openapi.json", timeout=60).json() == DOCUMENT


# A text of nothing or of too much, and a label that the model does not have, are refused although
# the document allows them: what is too much, and what a label is, differ from model to model.
BEYOND_THE_DOCUMENT = [positive_data_acceptance]
bounded = settings(max_examples=60, derandomize=True, database=None, deadline=None)


def check(case: Any, url: str) -> None:
    """Sends one request; a reply of 500 and above, or one that the document lacks, is a failure."""
    case.call_and_validate(
        base_url=url, headers=AUTHORIZED, excluded_checks=BEYOND_THE_DOCUMENT, timeout=60
    )


@schema.parametrize()
@bounded
def test_every_reply_is_one_that_the_document_has(case: Any, url: str) -> None:
    check(case, url)


@schema.include(path="/models/{name}").parametrize()
@bounded
def test_every_reply_of_the_model_that_is_here_is_one_that_the_document_has(
    case: Any, url: str
) -> None:
    case.path_parameters["name"] = NAME
    check(case, url)


@schema.include(path="/v1/feedback").parametrize()
@bounded
def test_every_reply_to_a_label_that_the_model_has_is_one_that_the_document_has(
    case: Any, url: str
) -> None:
    if isinstance(case.body, dict) and isinstance(case.body.get("label"), str):
        case.body["label"] = "mail"
    check(case, url)


def test_a_key_is_needed_where_the_document_says_so(url: str) -> None:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            reply = httpx.request(method, url + path.replace("{name}", NAME), timeout=60)
            assert (reply.status_code == 401) == ("security" in operation), path
