"""How a settings model is written on a command line: its leaves as flags, and their parser.

Knows nothing of where else settings come from, nor of what they are for.
"""

import argparse
import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cluster.errors import SettingError


@dataclass(frozen=True)
class Flag:
    """One leaf of a settings model: its dotted key and how it is written on a command line.

    `group` is the key of its group where that alone stands for it, and empty elsewhere.
    """

    key: str
    field: FieldInfo
    group: str = ""

    @property
    def name(self) -> str:
        word = self.group or self.key
        return word if "." in word else word.replace("_", "-")


def flags_of(model: type[BaseModel], prefix: str = "") -> Iterator[Flag]:
    """Every leaf of a settings model, groups within groups included."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from flags_of(field.annotation, f"{prefix}{name}.")
        else:
            alone = name == getattr(model, "alone", "")
            yield Flag(prefix + name, field, prefix.rstrip(".") if alone else "")


class _Parser(argparse.ArgumentParser):
    """argparse that raises our error instead of printing its usage, and suggests what was meant."""

    known: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        unknown = [w for w in message.split() if w.startswith("--")]
        if message.startswith("unrecognized arguments") and unknown:
            word = unknown[0].split("=")[0]
            near = difflib.get_close_matches(word, self.known, n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"See {self.prog} --help."
            raise SettingError(f"{word} is not a setting of {self.prog}. {hint}")
        raise SettingError(f"{message}. See {self.prog} --help.")


def make_parser(flags: Sequence[Flag], program: str, summary: str) -> _Parser:
    """A parser whose errors are ours; what was not given is None."""
    parser = _Parser(
        prog=f"python -m {program}",
        description=summary,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Settings, weakest to strongest: defaults, --config TOML, SWITCHYARD_GROUP__KEY, "
        "flags.",
    )
    parser.known = [f"--{flag.name}" for flag in flags]
    parser.add_argument("--config", metavar="FILE.toml", help="settings from a TOML file")
    for flag in flags:
        names = list(dict.fromkeys([f"--{flag.name}", f"--{flag.key}"]))
        options: dict[str, Any] = {"dest": flag.key, "help": _help(flag.field), "default": None}
        if flag.field.annotation is bool:
            options |= {"nargs": "?", "const": "true", "metavar": "true|false"}
        else:
            options["metavar"] = _metavar(flag.field)
            options["action"] = "append" if is_list(flag.field.annotation) else "store"
        parser.add_argument(*names, **options)
    return parser


def _metavar(field: FieldInfo) -> str:
    for kind in (field.annotation, *typing.get_args(field.annotation)):
        if typing.get_origin(kind) is typing.Literal:
            return "|".join(str(choice) for choice in typing.get_args(kind))
    return "VALUE"


def _help(field: FieldInfo) -> str:
    text = (field.description or "").replace("%", "%%")
    if field.is_required():
        return f"{text} (required)"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, tuple):
        default = " ".join(default)
    return f"{text} (default: {'none' if default is None else default})"


def is_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (list, tuple)


def is_optional(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    return origin in (typing.Union, types.UnionType) and type(None) in typing.get_args(annotation)
