"""The cluster's token in its file: there, and for this user alone.

Who has it runs code on the cluster. Ray 2.60 makes one of its own accord, at the first `ray.init`
of a user, and lets every user of the machine read it.
"""

import contextlib
import os
import secrets
from pathlib import Path


def token_file() -> Path:
    """Where Ray looks for it."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()


def ensure_token() -> Path | None:
    """Ray's own token file, made if there is none; None if the token is in the environment."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    path = token_file()
    if path.exists():
        _keep_others_out(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return path


def _keep_others_out(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        with contextlib.suppress(OSError):  # a mounted secret, or another user's file
            path.chmod(0o600)
