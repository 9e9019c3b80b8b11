"""The deployment: one class that is ingress and model at once, since every hop between costs.

    serve run serve.replica:build bundle=/runs/first/bundle

`build` is what a Serve config names. Imports neither Ray Train, Data nor Tune.
"""

import logging
from typing import Any

from ray import serve

from cluster.command import build as build_settings
from serve.app import make_app
from serve.guard import Guard
from serve.models import load_present
from serve.service import Service
from serve.settings import Endpoint


@serve.deployment
@serve.ingress()
class Replica:
    """A model that answers HTTP."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Loads the model: the replica takes no request before it can answer one."""
        self.settings = build_settings(Endpoint, settings)
        self.loaded = load_present(self.settings)
        logging.getLogger("ray.serve").info(
            "Serving %s version %s from %s", self.loaded.name, self.loaded.version, self.loaded.uri
        )

    def __serve_build_asgi_app__(self) -> Guard:
        """Called by Serve once the replica is made."""
        return make_app(Service(self.loaded, self.settings), says_id=False)


def build(args: dict[str, Any]) -> Any:
    """The Serve application for the plain values of `Endpoint`; resources come from the config."""
    settings = build_settings(Endpoint, args)
    deployment: Any = Replica  # the decorator makes it a Deployment, which mypy cannot see
    return deployment.bind(settings.model_dump(mode="json"))
