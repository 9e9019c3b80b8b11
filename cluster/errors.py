"""The exceptions of Switchyard, drawn once.

Knows nothing of commands or of Ray. A message is one sentence or two that a user can act on: what
is wrong, which value, what is allowed, what to do. `exit_code` is what a command ends with, and
`facts` are what its last line says beside the message, for whoever reads that by machine.
"""

from typing import Any


class SwitchyardError(Exception):
    """The root: an internal failure unless a subclass says otherwise."""

    exit_code = 1

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts


class UserError(SwitchyardError):
    """A mistake that the user can mend; shown without a traceback."""

    exit_code = 2


class SettingError(UserError):
    """A setting that is unknown, or whose value is not allowed."""


class DataError(UserError):
    """Data that is missing, unreadable, or unfit for what was asked."""


class StorageError(UserError):
    """A location that cannot be read or written, or is already in use."""


class InUseError(StorageError):
    """A location that another run is writing right now."""


class ChangedError(StorageError):
    """Something that another run changed since it was read."""


class BundleError(UserError):
    """A model bundle that is incomplete, changed, or of another format."""


class ResourceError(UserError):
    """Resources that the cluster does not have and can never add."""


class GateRefused(SwitchyardError):
    """A gate looked at a model and said no."""

    exit_code = 3


def user_error_in(error: BaseException | None) -> SwitchyardError | None:
    """The first error of ours in a chain of causes, or None.

    Ray wraps what a worker raises, once or several times, so that the sentence meant for the
    user is found by walking `__cause__`, `__context__`, and the failures that Ray Train gathers.
    """
    seen: set[int] = set()
    queue = [error]
    while queue:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, SwitchyardError) and not isinstance(current, _ray_wrapper()):
            return current
        queue += [getattr(current, "cause", None), current.__cause__, current.__context__]
        failures = getattr(current, "worker_failures", None)
        if isinstance(failures, dict):
            queue += list(failures.values())
    return None


def _ray_wrapper() -> type | tuple[()]:
    """Ray's RayTaskError, which poses as its cause's class but carries a traceback as message."""
    import sys

    exceptions = sys.modules.get("ray.exceptions")
    return exceptions.RayTaskError if exceptions is not None else ()
