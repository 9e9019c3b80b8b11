"""The cluster's token in its file: there, and for this user alone.

Who has it runs code on the cluster. Ray 2.60 makes one of its own accord, at the first `ray.init`
of a user, and lets every user of the machine read it.
"""

import contextlib
import os
import secrets
from pathlib import Path

from cluster.errors import SettingError, StorageError


def token_file() -> Path:
    """Where Ray looks for it."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def has_token() -> bool:
    """Whether Ray finds a token here; a cluster that asks for it wants the mode said aloud."""
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or token_file().is_file()


def ensure_token() -> Path | None:
    """Ray's own token file, made if there is none; None if the token is in the environment.

    SettingError where its place is no file's, StorageError where none can be made.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    path = token_file()
    if path.exists() and not path.is_file():
        raise SettingError(f"RAY_AUTH_TOKEN_PATH is {path}, which is no file: name one.")
    if path.is_file():
        _keep_others_out(path)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, secrets.token_hex(32))
    except OSError as error:
        raise StorageError(
            f"The cluster's token cannot be written to {path}: {error}. Set RAY_AUTH_TOKEN_PATH to "
            "a file of yours."
        ) from None
    return path


def _write(path: Path, token: str) -> None:
    """Makes the file whole, unless another command did at the same moment: then that one counts."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _keep_others_out(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        with contextlib.suppress(OSError):  # a mounted secret, or another user's file
            path.chmod(0o600)
