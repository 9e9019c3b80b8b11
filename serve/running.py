"""What runs on Ray Serve, asked and changed. Knows nothing of what a config says."""

import time
from collections.abc import Callable
from typing import Any

from cluster.errors import BundleError, SwitchyardError
from cluster.session import say
from serve.config import APPLICATION, DEPLOYMENT

READY_LIMIT_S = 180


def listens() -> tuple[str, int] | None:
    """(host, port) that Serve on this cluster listens on; None if it does not run."""
    from ray import serve
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None or not serve.status().proxies:
        return None
    return str(client.http_config.host), int(client.http_config.port)


def present() -> tuple[dict[str, Any], dict[str, Any]] | None:
    """(`args`, `user_config`) that the endpoint here was given last; None without one."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return None
    application = client.get_serve_details().get("applications", {}).get(APPLICATION) or {}
    config = application.get("deployed_app_config") or {}
    deployments = config.get("deployments") or []
    found: dict[str, Any] = next((d for d in deployments if d.get("name") == DEPLOYMENT), {})
    if not found.get("user_config"):
        return None
    return dict(config.get("args") or {}), dict(found["user_config"])


def serving() -> str | None:
    """URI of the bundle that a replica of the running endpoint serves; None if none says so."""
    try:
        return str(_state(10)["uri"])
    except Exception:  # it rests, or is being changed: then it is not known
        return None


def apply(config: dict[str, Any]) -> None:
    """Hands the config to Serve and waits until the application runs, and for its proxies."""
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import ServeDeploySchema

    options = config["http_options"]
    serve.start(
        http_options=HTTPOptions(host=options["host"], port=options["port"]),
        proxy_location=config.get("proxy_location"),
    )
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    client.deploy_apps(ServeDeploySchema.model_validate(config))
    limit = time.monotonic() + READY_LIMIT_S
    while True:
        application = serve.status().applications.get(APPLICATION)
        state = application.status.value if application is not None else "waiting"
        if state == "RUNNING":
            break
        if state == "DEPLOY_FAILED" or time.monotonic() > limit:
            message = application.message if application is not None else ""
            raise SwitchyardError(f"The endpoint did not start ({state}): {message}")
        time.sleep(0.2)
    try:
        client.wait_for_proxies_serving()  # replicas run a moment before the front knows of them
    except TimeoutError as error:
        say(f"warning: the endpoint runs, but a proxy of Ray Serve does not answer yet: {error}")


def require_model(wanted: Callable[[], tuple[str, str]]) -> None:
    """Waits until a replica, whichever answers, serves the (URI, version) that is wanted by then.

    A running replica loads it beside the one it serves. BundleError if it could not: then the
    endpoint goes on with the one it has.
    """
    limit = time.monotonic() + READY_LIMIT_S
    while True:
        state = _state(READY_LIMIT_S)
        uri, version = wanted()
        if (state["uri"], state["version"]) == (uri, version):
            return
        goes_on = f"The endpoint goes on with {state['uri']} (version {state['version']})"
        if state["update"] is not None:
            raise BundleError(f"{uri} was refused: {state['update']['problem']} {goes_on}.")
        if time.monotonic() > limit:
            raise SwitchyardError(f"{uri} was not loaded within {READY_LIMIT_S} s. {goes_on}.")
        time.sleep(0.2)


def _state(limit_s: float) -> dict[str, Any]:
    """What one replica says of itself."""
    from ray import serve

    handle: Any = serve.get_deployment_handle(DEPLOYMENT, APPLICATION)
    # With Serve's throughput flags a handle wants its caller to have an event loop, and to keep it.
    if not handle.is_initialized:
        handle._init(_run_router_in_separate_loop=True)
    return dict(handle.state.remote().result(timeout_s=limit_s))
