"""The one runner behind every command: settings in, an action called, an exit code out.

Settings come, weakest first, from defaults, a TOML file (`--config`), the environment
(`SWITCHYARD_OPTIM__LR`) and flags (`--optim.lr`). All are plain strings or TOML values that the
settings' own pydantic model checks. pydantic-settings was tried for this and left: it takes JSON
inside flags and cuts list values at commas, so that a column called `a, b` could not be named.

A command prints what a person wants to read, and as its last line on standard output one JSON
object. Exit codes: 0 done, 1 an internal failure, 2 a user's mistake, 3 a gate that said no.
"""

import difflib
import json
import os
import select
import sys
import tomllib
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticUndefined

from cluster.errors import SettingError, user_error_in
from cluster.flags import Flag, flags_of, is_list, is_optional, make_parser

ENVIRONMENT_PREFIX = "SWITCHYARD_"
S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """The base of every settings model: frozen, unknown keys refused, checked when built."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )
    # Of a group: the field that its name alone stands for. With `uri` in a group `data`, the flag
    # `--data X` sets `data.uri`, and `--data.fraction 0.1` still has its place beside it.
    alone: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, values: Any) -> Any:
        given_alone = cls.alone and not isinstance(values, Mapping | BaseModel)
        return {cls.alone: values} if given_alone else values

    @field_validator("*", mode="before")
    @classmethod
    def _none_is_a_word(cls, value: Any, info: ValidationInfo) -> Any:
        """Flags, the environment and TOML have no null: where None is allowed, `none` means it."""
        if value != "none" or info.field_name is None:
            return value
        return None if is_optional(cls.model_fields[info.field_name].annotation) else value


READER_LEFT = 141  # what a shell says of a program that SIGPIPE ended


def run(
    settings_type: type[Settings],
    action: Callable[[Any], Mapping[str, Any]],
    *,
    program: str,
    summary: str,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Parses, calls `action(settings)`, prints its result as the last line, and exits."""
    code, result = _attempt(settings_type, action, program, summary, argv)
    _close_ray()  # before the last line: late output of workers must not follow it
    sys.stderr.flush()
    try:
        if result is not None:
            print(json.dumps(result, ensure_ascii=False, default=str), flush=True)
    except BrokenPipeError:
        code = code if not nobody_reads() else READER_LEFT
    sys.exit(code)


def nobody_reads() -> bool:
    """Whether standard output leads nowhere, as with `| head`; what is left for it is dropped."""
    pipe = select.poll()
    pipe.register(sys.stdout, 0)  # asks for nothing but whether the other end is gone
    if not any(event & select.POLLERR for _, event in pipe.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _attempt(
    settings_type: type[Settings],
    action: Callable[[Any], Mapping[str, Any]],
    program: str,
    summary: str,
    argv: Sequence[str] | None,
) -> tuple[int, Mapping[str, Any] | None]:
    try:
        settings = parse(settings_type, sys.argv[1:] if argv is None else argv, program, summary)
        return 0, action(settings)
    except KeyboardInterrupt:
        return 130, {"error": "Interrupted.", "error_type": "KeyboardInterrupt"}
    except Exception as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            return READER_LEFT, None
        known = user_error_in(error)
        if known is None:
            traceback.print_exc()
            return 1, {"error": f"{error}", "error_type": type(error).__name__}
        print(f"{program}: {known}", file=sys.stderr)
        told = {"error": str(known), "error_type": type(known).__name__}
        return known.exit_code, told | known.facts


def parse(
    settings_type: type[S],
    argv: Sequence[str],
    program: str,
    summary: str,
    environment: Mapping[str, str] | None = None,
) -> S:
    """Settings from TOML, environment and flags; raises SettingError with one clear sentence."""
    flags = list(flags_of(settings_type))
    given = vars(make_parser(flags, program, summary).parse_args(list(argv)))
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    config = given.pop("config")
    if config is not None:
        _merge(values, _spelled_out(settings_type, _read_toml(config)))
    _merge(values, _from_environment(settings_type, environment))
    for key, value in given.items():
        if value is not None:
            _merge(values, _nested(key.split("."), value))
    return build(settings_type, values)


def build(settings_type: type[S], values: Mapping[str, Any]) -> S:
    """`settings_type(**values)`, with pydantic's findings told as one sentence."""
    try:
        return settings_type.model_validate(values)
    except ValidationError as error:
        flags = {key: f for f in flags_of(settings_type) for key in (f.key, f.group) if key}
        raise SettingError(" ".join(_sentence(e, flags) for e in error.errors()[:3])) from None


def dotted(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """A settings model as one flat dictionary of dotted keys and plain values."""
    flat: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            flat |= dotted(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def given(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Of what `dotted` says only the settings that somebody gave: no defaults."""
    flat: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            flat |= given(value, f"{prefix}{name}.")
        elif name in settings.model_fields_set:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def defaults(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a settings model with its default, as `dotted` says values; Ellipsis
    where one has to be given."""
    flat: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            flat |= defaults(field.annotation, f"{prefix}{name}.")
        else:
            value = ... if field.is_required() else field.get_default(call_default_factory=True)
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as `build` takes them: groups within groups."""
    values: dict[str, Any] = {}
    for key, value in flat.items():
        _merge(values, _nested(key.split("."), value))
    return values


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"--config {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"--config {path} is not valid TOML: {error}.") from None


def _from_environment(model: type[BaseModel], environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        parts = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if parts[0] not in model.model_fields:
            print(f"warning: {name} is not a setting of this command: ignored.", file=sys.stderr)
            continue
        leaf = next((f for f in flags_of(model) if ".".join(parts) in (f.key, f.group)), None)
        parts = leaf.key.split(".") if leaf is not None else parts
        as_list = leaf is not None and is_list(leaf.field.annotation)
        _merge(values, _nested(parts, text.split(os.pathsep) if as_list else text))
    return values


def _spelled_out(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """`data = "X"` as `data.uri = "X"`, so that stronger sources add to it, not replace it."""
    keys = {flag.group: flag.key for flag in flags_of(model) if flag.group}
    spelled: dict[str, Any] = {}
    for name, value in values.items():
        alone = name in keys and not isinstance(value, Mapping)
        _merge(spelled, _nested(keys[name].split("."), value) if alone else {name: value})
    return spelled


def _nested(parts: Sequence[str], value: Any) -> dict[str, Any]:
    for part in reversed(parts):
        value = {part: value}
    return typing.cast(dict[str, Any], value)


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _sentence(error: ErrorDetails, flags: Mapping[str, Flag]) -> str:
    parts = [str(part) for part in error["loc"] if isinstance(part, str)]
    key = ".".join(parts)
    flag = next(
        (flags[k] for k in (key, ".".join(parts[:2]), parts[0] if parts else "") if k in flags),
        None,
    )
    if error["type"] == "missing":
        meaning = f": {flag.field.description}" if flag else ""
        return f"--{flag.name if flag else key} is needed{meaning}."
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, list(flags), n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"{key} is not a setting of this command.{hint}"
    reason = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] in ("bool_parsing", "bool_type"):
        reason = "true or false"
    if error["type"] == "value_error":
        return f"{key} = {error['input']!r}: {reason}" + ("" if reason.endswith(".") else ".")
    default = (
        ""
        if flag is None or flag.field.default is PydanticUndefined
        else (f" (default {flag.field.default!r})")
    )
    meaning = f" {key} is: {flag.field.description}{default}." if flag else ""
    return f"{key} = {error['input']!r} is not allowed: it should be {reason}.{meaning}"


def _close_ray() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
