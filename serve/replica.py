"""The deployment: one class that is ingress and model at once, since every hop between costs.

    serve run serve.replica:build bundle=/runs/first/bundle open=true

`build` is what a Serve config names. Imports neither Ray Train, Data nor Tune.
"""

import sys
from functools import partial
from typing import Any

import torch
from ray import serve

from cluster.command import build as build_settings
from cluster.errors import SwitchyardError
from jobs.classifier.predictor import share_threads
from serve.app import make_app
from serve.exporter import ray_telemetry
from serve.feedback import FeedbackStore
from serve.guard import Guard
from serve.inward import bind_to_node
from serve.keeper import Keeper
from serve.keyring import Keyring
from serve.models import load
from serve.queue import GPU_TURN_TOKENS, TURN_TOKENS
from serve.service import Service
from serve.settings import Endpoint, Live

# How long a thread may keep Python's lock while another wants it. A pass asks for it again after
# each of its hundred steps, and at Python's own 5 ms would wait that long whenever the event loop
# is busy.
SWITCH_S = 0.0005


@serve.deployment
@serve.ingress()
class Replica:
    """A model that answers HTTP."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Loads the model, if the settings say which; else the first `reconfigure` does.

        Serve calls that one before it lets any request in, so that a replica takes none before it
        can answer it.
        """
        bind_to_node()
        endpoint = build_settings(Endpoint, settings)
        sys.setswitchinterval(SWITCH_S)
        keys = Keyring.unknown()
        place = endpoint.feedback.uri
        gpu = torch.cuda.is_available()
        workers, threads = share_threads(endpoint.threads or torch.get_num_threads())
        self.service = Service(
            None,
            endpoint,
            keys=keys,
            telemetry=ray_telemetry(),
            feedback=FeedbackStore(place) if place is not None else None,
            workers=1 if gpu else workers,
            turn_tokens=GPU_TURN_TOKENS if gpu else TURN_TOKENS,
        )
        load_one = partial(load, precision=endpoint.precision, threads=threads)
        self.keeper = Keeper(load_one, self.service, keys)
        if endpoint.says_what:
            self.keeper.begin(endpoint)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Another model or other keys: seen to in the background.

        Serve stops a replica whose `reconfigure` raises, and takes it out of rotation while it
        runs; so, but for the first, this returns at once and never raises.
        """
        if not self.keeper.begun:
            self.keeper.begin(build_settings(Live, user_config))
            return
        try:
            self.keeper.want(build_settings(Live, user_config))
        except Exception as error:
            self.keeper.reject(error)

    async def check_health(self) -> None:
        """Asked by Serve every few seconds; a replica that raises is replaced."""
        self.service.require_health()
        if not self.keeper.is_alive:
            raise SwitchyardError("Nobody looks for another model or other keys any more.")

    async def state(self) -> dict[str, Any]:
        """What this replica serves and what it could not, for whoever deployed it."""
        loaded, update = self.service.loaded, self.service.update
        return {
            "uri": loaded.uri,
            "name": loaded.name,
            "version": loaded.version,
            "update": update.model_dump() if update is not None else None,
        }

    def __serve_build_asgi_app__(self) -> Guard:
        """Called by Serve once the replica is made."""
        return make_app(self.service, says_id=False)


def build(args: dict[str, Any]) -> Any:
    """The Serve application for the plain values of `Endpoint`; resources come from the config."""
    settings = build_settings(Endpoint, args)
    deployment: Any = Replica  # the decorator makes it a Deployment, which mypy cannot see
    return deployment.bind(settings.model_dump(mode="json"))
