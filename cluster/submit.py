"""Sends this folder and a command to a cluster as a job, follows its log, ends as it ends.

    python -m cluster.submit -- python -m jobs.train --data /data/desk --output /runs/desk-1

The job's log is copied to standard output, so that the last line there is the job's own JSON
object, and the exit code is the job's own. Knows nothing of what the command does.
"""

import asyncio
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from cluster import command, members
from cluster.errors import ResourceError, SettingError, SwitchyardError, user_error_in
from cluster.secret import has_token
from cluster.session import say
from cluster.state import client_environment, read_state

MIB = 1024 * 1024
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")  # Ray's words for a job
# With a job whose log broke off: between two looks, and as long as the cluster does not answer.
LOOK_S, PATIENCE_S = 1.0, 60.0


class Submit(command.Settings):
    """Settings of `cluster.submit`; what follows `--` is the command."""

    address: str | None = Field(
        None,
        description="the cluster's job address (http://…); none: RAY_API_SERVER_ADDRESS, or the "
        "cluster that cluster.local started from this folder",
    )
    working_dir: str = Field(".", description="the folder that is sent")
    max_mib: float = Field(
        100.0, gt=0, description="the most that may be sent, in MiB before compression"
    )


def submit(settings: Submit, words: Sequence[str]) -> int:
    """The job's own exit code; a job that was stopped from outside counts as failed (1)."""
    if not words:
        raise SettingError(
            "No command was given. Example: python -m cluster.submit -- python -m jobs.train "
            "--data URI --output URI"
        )
    _before_ray()
    address = _address(settings.address)
    folder = Path(settings.working_dir).resolve()
    if not folder.is_dir():
        raise SettingError(f"--working-dir {settings.working_dir} is not a folder.")
    size = check_size(folder, settings.max_mib)
    client = _client(address)
    environment = {"working_dir": str(folder)}
    try:
        job = client.submit_job(entrypoint=shlex.join(words), runtime_env=environment)
    except (ConnectionError, RuntimeError) as error:
        raise SwitchyardError(f"The cluster at {address} did not take the job: {error}") from error
    say(f"Job {job}: sent {size / MIB:.1f} MiB to {address}.")
    try:
        info = _end_of(client, job, address, *asyncio.run(_follow(client, job)))
    except (KeyboardInterrupt, BrokenPipeError) as left:
        if isinstance(left, BrokenPipeError) and not command.nobody_reads():
            raise
        say(f"The job goes on. To stop it: ray job stop {job} --address {address}")
        return 130 if isinstance(left, KeyboardInterrupt) else command.READER_LEFT
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    say(f"Job {job} ended as {info.status}: {info.message or 'Ray gives no reason.'}")
    return 0 if str(info.status) == "SUCCEEDED" else 1


def check_size(folder: Path, max_mib: float) -> int:
    """Bytes that would be sent from `folder`; ResourceError, naming the largest, if too many.

    Ray's own walk is asked, so that .gitignore and .rayignore count as they will when it sends.
    """
    from ray._private.runtime_env import packaging

    sizes: dict[str, int] = {}

    def count(path: Path) -> None:
        if path.is_file():
            sizes[str(path.relative_to(folder))] = path.stat().st_size

    packaging._dir_travel(folder, [], count, include_gitignore=True)
    total = sum(sizes.values())
    if total > max_mib * MIB:
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
        names = ", ".join(f"{name} ({size / MIB:.1f} MiB)" for name, size in largest)
        raise ResourceError(
            f"{folder} holds {total / MIB:.0f} MiB that would be sent, and --max-mib is "
            f"{max_mib:g}. The largest: {names}. Put what the job does not need into .rayignore."
        )
    return total


def _before_ray() -> None:
    """What must be settled before Ray is imported: it reads the mode of authentication once."""
    if has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    for name in (
        "ray._private.runtime_env.packaging",
        "ray._private.runtime_env.working_dir",
        "ray.dashboard.modules.dashboard_sdk",
        "ray.dashboard.modules.job.sdk",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)  # what is sent is said below, once


def _address(asked: str | None) -> str:
    address = asked or os.environ.get("RAY_API_SERVER_ADDRESS")
    if address:
        return address
    state = read_state()
    if state is None or not members.is_up(state):
        raise SettingError(
            "No cluster is known. Start one (python -m cluster.local up), or name one with "
            "--address http://HOST:8265."
        )
    os.environ.update(client_environment(state))
    return str(state["dashboard"])


def _client(address: str) -> Any:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        raise SettingError(f"The cluster at {address} does not take jobs: {error}") from None


async def _follow(client: Any, job: str) -> tuple[int, bool]:
    """Prints the job's log as it grows: (how many characters, whether it did not break off)."""
    from aiohttp import ClientError

    said, parts = 0, aiter(client.tail_job_logs(job))
    while True:
        try:
            text = await anext(parts)
        except StopAsyncIteration:
            return said, True
        except (ClientError, OSError, RuntimeError):
            return said, False
        sys.stdout.write(text)
        sys.stdout.flush()
        said += len(text)


def _end_of(client: Any, job: str, address: str, said: int, whole: bool) -> Any:
    """What Ray knows of a job that has ended. Where its log broke off it is waited for, and what
    it said beyond `said` characters is printed."""
    if not whole:
        say(f"The log of job {job} broke off; what is missing comes at its end …")
    limit = time.monotonic() + PATIENCE_S
    while True:
        try:
            info = client.get_job_info(job)
        except (OSError, RuntimeError) as error:
            if time.monotonic() > limit:
                raise SwitchyardError(
                    f"It is not known how job {job} ends: {address} does not say so any more "
                    f"({error}). Ask again: ray job status {job} --address {address}"
                ) from error
        else:
            limit = time.monotonic() + PATIENCE_S
            if str(info.status) in ENDED:
                if not whole:
                    sys.stdout.write(_rest(client, job, said))
                return info
        time.sleep(LOOK_S)


def _rest(client: Any, job: str, said: int) -> str:
    try:
        return str(client.get_job_logs(job))[said:]
    except (OSError, RuntimeError) as error:  # the node that has it may be gone: the end is known
        say(f"warning: the rest of the log of job {job} cannot be read: {error}")
        return ""


def main(argv: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    try:
        settings = command.parse(
            Submit, arguments[:cut], "cluster.submit", str(__doc__).split("\n\n")[0]
        )
        sys.exit(submit(settings, arguments[cut + 1 :]))
    except SwitchyardError as error:
        known = user_error_in(error) or error
        print(f"cluster.submit: {known}", file=sys.stderr)
        print(json.dumps({"error": str(known), "error_type": type(known).__name__}))
        sys.exit(known.exit_code)


if __name__ == "__main__":
    main()
