"""Puts a model behind HTTP on Ray Serve, and writes the Serve config that does the same again.

    python -m serve.deploy --bundle /runs/first/bundle
    python -m serve.deploy --registry s3://models --name router
    python -m serve.deploy --bundle s3://models/router/bundle --keys keys.txt --print

On a laptop without a cluster it stays in the foreground until Ctrl-C. On a cluster it returns
once the endpoint answers, and the endpoint stays.
"""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from cluster import command, resources, session, storage
from cluster.errors import ResourceError, SettingError, SwitchyardError
from cluster.session import SERVE_ENVIRONMENT, say
from cluster.storage import Uri
from serve import origin
from serve.guard import hash_key
from serve.package import publish_code
from serve.settings import Autoscaling, Endpoint, Limits

APPLICATION = "switchyard"
READY_LIMIT_S = 180
# Far above what our own door lets in: Serve's plain-text refusals must never be met.
ONGOING_MARGIN = 64


class Deploy(command.Settings):
    """Settings of `serve.deploy`."""

    bundle: Uri | None = Field(None, description="the bundle that answers")
    registry: Uri | None = Field(
        None,
        description="registry whose champion answers, instead: a replica looks it up at its start",
    )
    name: str = Field("switchyard", description="the model's name in replies, and in the registry")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0: every interface")
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    keys: str | None = Field(
        None, description="file with the API keys, one a line; none: one is made and printed"
    )
    open: bool = Field(False, description="let everybody in without a key")
    print: bool = Field(False, description="only print the Serve config, deploy nothing")
    code: Uri | None = Field(
        None,
        description="folder for the packed code that replicas run; none: one beside the bundle, or "
        "beside the versions in the registry",
    )
    precision: str = Field(
        "fp32",
        pattern="^(auto|bf16|fp32)$",
        description="auto, bf16 or fp32: number format of the answers",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of a replica's model")
    limits: Limits = Limits()
    autoscaling: Autoscaling = Autoscaling()


def deploy(settings: Deploy) -> dict[str, Any]:
    """Deploys and waits until the endpoint answers; or prints the config."""
    if settings.open and settings.keys is not None:
        raise SettingError("--open lets everybody in and --keys does not: give one of the two.")
    origin.require_one(
        settings.bundle, settings.registry, named="name" in settings.model_fields_set
    )
    served, version = origin.find(settings.bundle, settings.registry, settings.name)
    origin.check(served)
    keys, made = _keys(settings)
    joined = os.environ.get("RAY_ADDRESS") is not None
    if settings.print:
        config = make_config(settings, keys, None, "file:///CODE.zip")
        print(_yaml(config))
        say(
            "Only printed: put the URI of the packed code in place of file:///CODE.zip, and as "
            "many max_replicas as the cluster has room for."
        )
        # The config has only its hash: a key that was made must be told here or nobody knows it.
        return {"printed": True, "config": config} | ({"key": made} if made else {})
    if not joined:
        _require_free(settings.host, settings.port)
    session.connect(environment=SERVE_ENVIRONMENT)
    key = "bundle" if settings.registry is None else "registry"
    session.require_everywhere(served, key)
    _require_port_or_ours(settings, joined)
    code = publish_code(
        settings.code or origin.code_folder(settings.bundle, settings.registry, settings.name)
    )
    config = make_config(settings, keys, resources.capacity(), code)
    written = storage.normal_uri(f"{code.removesuffix('.zip')}-{settings.port}.yaml")
    storage.write_bytes(written, _yaml(config).encode())
    _apply(config)
    result = {**_summary(settings, config, made, version), "config_file": written}
    print(f"The same again: serve deploy {written}")
    if not joined:
        _stay()
    return result


def make_config(
    settings: Deploy, keys: Sequence[str], have: resources.Capacity | None, code: str
) -> dict[str, Any]:
    """The Serve config, as `serve deploy` takes it; `have` is None where no cluster was asked."""
    scaling = settings.autoscaling
    gpu = have is not None and have.gpus >= 1
    replicas = _replicas(scaling, have)
    threads = settings.threads
    if threads is None and have is not None and not gpu:
        # All the cores that a replica can have when every replica is up.
        threads = max(1, int(min(have.cpus / have.nodes, have.cpus / replicas)))
    endpoint = Endpoint(
        bundle=settings.bundle,
        registry=settings.registry,
        name=settings.name,
        keys=tuple(keys),
        precision=settings.precision,
        threads=threads,
        limits=settings.limits,
        autoscaling=scaling,
    )
    deployment = {
        "name": "Replica",
        "max_ongoing_requests": settings.limits.waiting_requests + ONGOING_MARGIN,
        "max_queued_requests": -1,
        "graceful_shutdown_timeout_s": 20,
        "health_check_period_s": 10,
        "ray_actor_options": {"num_gpus": 1} if gpu else {"num_cpus": 1},
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "initial_replicas": max(1, scaling.min_replicas),
            "max_replicas": replicas,
            "target_ongoing_requests": scaling.target_ongoing_requests,
            "upscale_delay_s": scaling.upscale_delay_s,
            "downscale_delay_s": scaling.downscale_delay_s,
        },
    }
    return {
        "http_options": {"host": settings.host, "port": settings.port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": "serve.replica:build",
                "runtime_env": {"working_dir": code},
                "args": endpoint.model_dump(mode="json"),
                "deployments": [deployment],
            }
        ],
    }


def _replicas(scaling: Autoscaling, have: resources.Capacity | None) -> int:
    """The most replicas; ResourceError where the fewest asked for have no room."""
    if have is None:
        return scaling.max_replicas or max(1, scaling.min_replicas)
    # One CPU of the cluster stays free for jobs; replicas share the rest.
    room = int(have.gpus) if have.gpus >= 1 else max(1, int(have.cpus) - 1)
    if scaling.min_replicas > room:
        raise ResourceError(
            f"autoscaling.min_replicas is {scaling.min_replicas}, and {have}: room for {room}."
        )
    return min(scaling.max_replicas or room, room)


def _keys(settings: Deploy) -> tuple[list[str], str | None]:
    """(hashes of the keys, the key that was made here)."""
    if settings.open:
        return [], None
    if settings.keys is None:
        made = f"sy_{secrets.token_urlsafe(24)}"
        return [hash_key(made)], made
    try:
        lines = Path(settings.keys).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SettingError(f"--keys {settings.keys} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingError(f"--keys {settings.keys} is not text in UTF-8.") from None
    keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not keys:
        raise SettingError(f"--keys {settings.keys} holds no key; write one a line.")
    return [hash_key(key) for key in keys], None


def _require_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingError(
                f"--port {port} on {host} cannot be used: {error.strerror}. Give another --port."
            ) from None


def _require_port_or_ours(settings: Deploy, joined: bool) -> None:
    """On a cluster the port is taken by Serve itself once an endpoint runs, and cannot change."""
    if not joined:
        return
    from ray import serve
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None or not serve.status().proxies:
        _require_free(settings.host, settings.port)
        return
    host, port = client.http_config.host, client.http_config.port
    if (host, port) != (settings.host, settings.port):
        raise SettingError(
            f"--host and --port are {settings.host} and {settings.port}, but Serve on this cluster "
            f"listens on {host} and {port} already. Give those, or stop Serve first (serve "
            "shutdown)."
        )


def _apply(config: dict[str, Any]) -> None:
    """Hands the config to Serve and waits until the application runs."""
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import ServeDeploySchema

    options = config["http_options"]
    serve.start(http_options=HTTPOptions(host=options["host"], port=options["port"]))
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    client.deploy_apps(ServeDeploySchema.model_validate(config))
    limit = time.monotonic() + READY_LIMIT_S
    while True:
        application = serve.status().applications.get(APPLICATION)
        state = application.status.value if application is not None else "waiting"
        if state == "RUNNING":
            return
        if state == "DEPLOY_FAILED" or time.monotonic() > limit:
            message = application.message if application is not None else ""
            raise SwitchyardError(f"The endpoint did not start ({state}): {message}")
        time.sleep(0.2)


def _summary(
    settings: Deploy, config: dict[str, Any], made: str | None, version: str | None
) -> dict[str, Any]:
    shown = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    url = f"http://{shown}:{settings.port}"
    scaling = config["applications"][0]["deployments"][0]["autoscaling_config"]
    print(_yaml(config))
    if version is not None:
        print(f"Model      {settings.name}, version {version}")
    print(f"Page       {url}/")
    print(
        f"Replicas   {scaling['min_replicas']} to {scaling['max_replicas']}, which is what the "
        "cluster has room for"
    )
    authorization = "" if settings.open else f' -H "Authorization: Bearer {made or "KEY"}"'
    print(
        f"curl {url}/v1/classify{authorization} -H 'Content-Type: application/json' "
        '-d \'{"texts": ["cannot log in to the VPN"]}\''
    )
    result = {"url": url, "config": config, "max_replicas": scaling["max_replicas"]}
    if version is not None:
        result |= {"name": settings.name, "version": version}
    return result | ({"key": made} if made else {})


def _yaml(config: dict[str, Any]) -> str:
    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def _stay() -> None:
    say("Serving. Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def main(argv: Sequence[str] | None = None) -> None:
    command.run(Deploy, deploy, program="serve.deploy", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
