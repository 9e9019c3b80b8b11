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

from pydantic import Field

from cluster import command, overview, resources, session, storage
from cluster.command import build as build_settings
from cluster.errors import SettingError
from cluster.session import say
from cluster.storage import Uri
from jobs.classifier import bundle
from serve import origin, running
from serve.config import as_yaml, left_for_jobs, make_config
from serve.feedback import require_writable
from serve.keyring import hash_key, read_keys
from serve.models import version_of
from serve.package import publish_code
from serve.settings import Autoscaling, Endpoint, Feedback, Keys, Limits, Live, Registered

MOST_FALLBACKS = 3


class Deploy(command.Settings):
    """Settings of `serve.deploy`."""

    bundle: Uri | None = Field(None, description="the bundle that answers")
    registry: Registered = Registered()
    name: str = Field("switchyard", description="the model's name in replies, and in the registry")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0: every interface")
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    keys: Keys = Keys()
    open: bool = Field(False, description="let everybody in without a key")
    print: bool = Field(False, description="only print the Serve config, deploy nothing")
    code: Uri | None = Field(
        None,
        description="folder for the packed code that replicas run; none: one beside the bundle, or "
        "beside the versions in the registry",
    )
    precision: str = Field(
        "auto",
        pattern="^(auto|bf16|fp32)$",
        description="auto, bf16 or fp32: number format of the answers; auto: bf16 where it is fast",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of a replica's model")
    feedback: Feedback = Feedback()
    limits: Limits = Limits()
    autoscaling: Autoscaling = Autoscaling()


def deploy(settings: Deploy) -> dict[str, Any]:
    """Deploys and waits until the endpoint answers; or prints the config."""
    keys = settings.keys
    if settings.open and (keys.file or keys.watch):
        raise SettingError("--open lets everybody in and --keys does not: give one of the two.")
    registry = settings.registry.uri
    origin.require_one(settings.bundle, registry, named="name" in settings.model_fields_set)
    served, version = origin.find(settings.bundle, registry, settings.name)
    origin.check(served)
    if settings.print:
        return _print(settings)
    joined = os.environ.get("RAY_ADDRESS") is not None
    if not joined:
        _require_free(settings.host, settings.port)
    session.connect(serving=True)
    _require_places(settings, served, joined)
    code = publish_code(
        settings.code or origin.code_folder(settings.bundle, registry, settings.name)
    )
    session.require_everywhere(code.removeprefix("file://"), "code")
    before = running.present()
    live, made = live_of(settings, before)
    if before is not None and settings.threads is None:
        # The cluster may have grown; other threads would restart every replica.
        settings = settings.model_copy(update={"threads": before[0].get("threads")})
    have = resources.capacity()
    config = config_of(settings, live, have, code, one_front=session.share_an_address())
    running.apply(config)
    running.require_model(lambda: _wanted(settings, live))
    written = storage.normal_uri(f"{code.removesuffix('.zip')}-{settings.port}.yaml")
    storage.write_bytes(written, as_yaml(config).encode())
    result = {**_summary(settings, config, have, made, version), "config_file": written}
    print(f"The same again: serve deploy {written}")
    if not joined:
        _stay()
    return result


def _print(settings: Deploy) -> dict[str, Any]:
    live, made = live_of(settings, None)
    config = config_of(settings, live, None, "file:///CODE.zip")
    print(as_yaml(config))
    say(
        "Only printed: put the URI of the packed code in place of file:///CODE.zip, and as "
        "many max_replicas as the cluster has room for."
    )
    # The config has only its hash: a key that was made must be told here or nobody knows it.
    return {"printed": True, "config": config} | ({"key": made} if made else {})


def _require_places(settings: Deploy, served: str, joined: bool) -> None:
    """What every node must find, and where the endpoint listens."""
    session.require_everywhere(served, "bundle" if settings.registry.uri is None else "registry")
    if settings.keys.watch is not None:
        session.require_everywhere(settings.keys.watch, "keys.watch")
    if settings.feedback.uri is not None:
        session.require_everywhere(settings.feedback.uri, "feedback")
        require_writable(settings.feedback.uri)
    if not joined:
        return
    _require_port_or_ours(settings)
    addresses = session.addresses()
    if len(addresses) > 1 and settings.host in ("127.0.0.1", "localhost", "::1"):
        raise SettingError(
            f"--host is {settings.host}, and the cluster has {len(addresses)} machines, which "
            "could not reach each other's replicas there. Give --host 0.0.0.0."
        )


def _wanted(settings: Deploy, live: Live) -> tuple[str, str]:
    """(URI, version) of what should answer now: another promotion may have come between."""
    uri, version = origin.find(settings.bundle, settings.registry.uri, settings.name)
    return uri, version or str(live.bundle_version)


def config_of(
    settings: Deploy,
    live: Live,
    have: resources.Capacity | None,
    code: str,
    *,
    one_front: bool = False,
) -> dict[str, Any]:
    """The Serve config; `have` is None where no cluster was asked."""
    endpoint = Endpoint(
        precision=settings.precision,
        threads=settings.threads,
        limits=settings.limits,
        feedback=settings.feedback,
    )
    listen = settings.host, settings.port
    return make_config(
        endpoint, live, settings.autoscaling, listen=listen, have=have, code=code,
        one_front=one_front,
    )  # fmt: skip


def live_of(
    settings: Deploy, before: tuple[dict[str, Any], dict[str, Any]] | None
) -> tuple[Live, str | None]:
    """(what may change while replicas run, the key that was made here).

    `before`: `args` and `user_config` of the endpoint that runs already. Its keys stay where none
    are given: another model must not lock everybody out.
    """
    hot = before[1] if before is not None else None
    given = settings.open or settings.keys.file is not None or settings.keys.watch is not None
    made = None
    if hot is not None and not given:
        old = build_settings(Live, hot)
        say("The keys stay those of the endpoint that runs.")
        hashes, watch, is_open = old.key_hashes, old.keys_watch, old.open
    else:
        hashes, made = _keys(settings)
        watch, is_open = settings.keys.watch, settings.open
    live = Live(
        bundle=settings.bundle,
        bundle_version=_version(settings.bundle),
        registry=settings.registry,
        name=settings.name,
        fallbacks=_fallbacks(settings, hot),
        key_hashes=hashes,
        keys_watch=watch,
        open=is_open,
    )
    return live, made


def _version(bundle_uri: str | None) -> str | None:
    if bundle_uri is None:
        return None
    return version_of(storage.read_bytes(storage.join(bundle_uri, bundle.COMMIT)))


def _fallbacks(settings: Deploy, hot: dict[str, Any] | None) -> tuple[str, ...]:
    """What served before, what does now first, for a replica that cannot load what it should."""
    if hot is None:
        return ()
    found = [running.serving(), hot.get("bundle"), *hot.get("fallbacks", ())]
    known = [uri for uri in dict.fromkeys(found) if uri is not None and uri != settings.bundle]
    return tuple(known[:MOST_FALLBACKS])


def _keys(settings: Deploy) -> tuple[tuple[str, ...], str | None]:
    """(hashes of the keys, the key that was made here)."""
    watched, keys = settings.keys.watch, settings.keys.file
    if settings.open:
        return (), None
    if watched is not None:  # only whether replicas will find keys there
        read_keys(_text(storage.read_bytes(watched), f"--keys.watch {watched}"), watched)
        return (), None
    if keys is None:
        made = f"sy_{secrets.token_urlsafe(24)}"
        return (hash_key(made),), made
    try:
        data = Path(keys).read_bytes()
    except OSError as error:
        raise SettingError(f"--keys {keys} cannot be read: {error.strerror}.") from None
    return read_keys(_text(data, f"--keys {keys}"), f"--keys {keys}"), None


def _text(data: bytes, place: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingError(f"{place} is not text in UTF-8.") from None


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingError(
                f"--port {port} on {host} cannot be used: {error.strerror}. Give another --port."
            ) from None


def _require_port_or_ours(settings: Deploy) -> None:
    """On a cluster the port is taken by Serve itself once an endpoint runs, and cannot change."""
    found = running.listens()
    if found is None:
        _require_free(settings.host, settings.port)
    elif found != (settings.host, settings.port):
        raise SettingError(
            f"--host and --port are {settings.host} and {settings.port}, but Serve on this cluster "
            f"listens on {found[0]} and {found[1]} already. Give those, or stop Serve first (serve "
            "shutdown)."
        )


def _summary(
    settings: Deploy,
    config: dict[str, Any],
    have: resources.Capacity,
    made: str | None,
    version: str | None,
) -> dict[str, Any]:
    url = overview.url(settings.host, settings.port)
    scaling = config["applications"][0]["deployments"][0]["autoscaling_config"]
    print(as_yaml(config))
    if version is not None:
        print(f"Model      {settings.name}, version {version}")
    print(f"Page       {url}/")
    print(
        f"Replicas   {scaling['min_replicas']} to {scaling['max_replicas']}"
        f"{left_for_jobs(scaling['max_replicas'], have)}"
    )
    asked = settings.autoscaling.max_replicas
    if asked is None or scaling["max_replicas"] < asked:
        say("More replicas than that have no room on the cluster.")
    authorization = "" if settings.open else f' -H "Authorization: Bearer {made or "KEY"}"'
    print(
        f"curl {url}/v1/classify{authorization} -H 'Content-Type: application/json' "
        '-d \'{"texts": ["cannot log in to the VPN"]}\''
    )
    result = {"url": url, "config": config, "max_replicas": scaling["max_replicas"]}
    if version is not None:
        result |= {"name": settings.name, "version": version}
    return result | ({"key": made} if made else {})


def _stay() -> None:
    say("Serving. Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def main(argv: Sequence[str] | None = None) -> None:
    command.run(Deploy, deploy, program="serve.deploy", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
