"""Object storage for tests: moto's server, which speaks S3 on a port of this machine.

A process of its own, so that what is tested goes through sockets and pyarrow's S3 client as it does
with a real store. It keeps everything in memory, believes any credentials, has no TLS and does not
throttle; and it is slow: about 50 files a second.

Ray's workers have the environment in which Ray was started. Where they should reach the store,
choose a port, put `environment(port)` into os.environ, start Ray, and give that port to `store`
whenever a test wants it.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest

from cluster.ports import lasting_port

BUCKET = "switchyard-tests"
START_SECONDS = 60
# moto looks whether a conditional write is allowed, and writes a moment later; a store does both in
# one step. So that two that write at once are not both told yes, it has one request at a time.
_SERVER = """
import sys
from io import BytesIO
from threading import Lock
from moto import server
from werkzeug.test import run_wsgi_app
from werkzeug.wsgi import get_input_stream

one_at_a_time = Lock()

class Atomic(server.DomainDispatcherApplication):
    def __call__(self, environ, start_response):
        environ["wsgi.input"] = BytesIO(get_input_stream(environ).read())
        with one_at_a_time:
            body, status, headers = run_wsgi_app(super().__call__, environ, buffered=True)
        start_response(status, headers.to_wsgi_list())
        return body

server.DomainDispatcherApplication = Atomic
server.main(sys.argv[1:])
"""


@contextmanager
def store(port: int | None = None) -> Iterator[str]:
    """The URI of an empty bucket, for the length of the block; so is this process's environment.

    Skips the test where moto is not installed.
    """
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        pytest.skip("object storage is not tested: moto[server] is not installed")
    port = port or lasting_port()
    command = [sys.executable, "-c", _SERVER, "-H", "127.0.0.1", "-p", str(port)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(server, port)
            _ask(port, f"/{BUCKET}", "PUT")
            with mock.patch.dict(os.environ, environment(port)):
                yield f"s3://{BUCKET}"
        finally:
            server.kill()
            server.wait()


def environment(port: int) -> dict[str, str]:
    """What pyarrow's S3 client reads whenever a filesystem is made from a URI."""
    address = f"http://127.0.0.1:{port}"
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ENDPOINT_URL_S3": address,  # it goes before the other, wherever it comes from
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_SESSION_TOKEN": "",
        "AWS_REGION": "us-east-1",
        # Nothing of a real account, and no seconds lost in asking a cloud for one.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _wait_for(server: "subprocess.Popen[bytes]", port: int) -> None:
    """Returns when the server answers; RuntimeError if it ends before, or takes too long."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"moto's server ended at once, with {server.returncode}")
        try:
            _ask(port, "/moto-api/", "GET")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"moto's server did not answer within {START_SECONDS} s")


def _ask(port: int, path: str, method: str) -> None:
    # Past any proxy: this is our own machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    with opener.open(asked, timeout=10) as reply:
        reply.read()
