"""Settings of `serve.deploy`, as its command line would give them."""

from typing import Any

from cluster import command
from serve.deploy import Deploy


def settings(**values: Any) -> Deploy:
    return command.build(Deploy, {"bundle": "/runs/one/bundle"} | values)
