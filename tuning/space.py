"""The space of a search: which settings are tried, between which bounds, and which come first.

A TOML file in the one dotted vocabulary:

    [optim.lr]
    kind = "log-uniform"            # uniform, log-uniform, integer, choice
    low = 5e-5
    high = 5e-4

    [balance.gamma]
    kind = "uniform"
    low = 0.5
    high = 4.0
    when = { "balance.strategy" = ["focal"] }   # tried only where that was chosen

    [[points]]                      # tried first; what is left out is as the settings say
    "balance.strategy" = "focal"

Everything is checked against the settings themselves before anything runs. Knows nothing of who
chooses the values, nor of Ray.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from cluster import command, storage
from cluster.errors import SettingError, StorageError
from jobs.training import Training
from tuning.experiment import flattened

DEFAULT = Path(__file__).parent / "spaces" / "default.toml"
# What a trial may not choose: how figures are judged, where it runs, and what is saved of it.
_FIXED_GROUPS = ("decide.", "abstain.", "scaling.", "checkpoint.", "stopping.")
# The token store is made once for all trials, and depends on these.
_OF_THE_STORE = ("model.name", "model.max_tokens")

Values = dict[str, Any]


class Parameter(command.Settings):
    """One setting that is searched."""

    kind: Literal["uniform", "log-uniform", "integer", "choice"] = Field(
        description="uniform, log-uniform (both with low and high), integer (both ends included) "
        "or choice (values)"
    )
    low: float | None = Field(None, description="lowest value")
    high: float | None = Field(None, description="highest value")
    values: tuple[bool | int | float | str, ...] = Field((), description="the values of a choice")
    when: dict[str, tuple[bool | int | float | str, ...]] = Field(
        {}, description="other keys of kind choice, and the values of theirs under which this holds"
    )

    @model_validator(mode="after")
    def _is_whole(self) -> "Parameter":
        if self.kind == "choice":
            if len(self.values) < 1 or self.low is not None or self.high is not None:
                raise ValueError("a choice needs values, at least one, and neither low nor high.")
            return self
        if self.values or self.low is None or self.high is None or not self.low < self.high:
            raise ValueError(f"{self.kind} needs low below high, and no values.")
        if self.kind == "log-uniform" and self.low <= 0:
            raise ValueError("log-uniform needs low above 0.")
        if self.kind == "integer" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("integer needs whole numbers.")
        return self

    def edges(self) -> list[Any]:
        """The values that have to be allowed for all to be."""
        if self.kind == "choice":
            return list(self.values)
        numbers = [self.low, self.high]
        return [int(n or 0) for n in numbers] if self.kind == "integer" else list(numbers)

    def holds(self, value: Any) -> bool:
        """Whether `value` is one that could be chosen."""
        if self.kind == "choice":
            return any(value == v and isinstance(value, bool) == isinstance(v, bool)
                       for v in self.values)  # fmt: skip
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = self.kind != "integer" or (number and float(value).is_integer())
        return number and whole and (self.low or 0) <= value <= (self.high or 0)


@dataclass(frozen=True)
class Space:
    """Parameters by dotted key, parents before those that depend on them, and points to begin
    with: every key in force has its value in each."""

    parameters: dict[str, Parameter]
    points: tuple[Values, ...] = ()

    def in_force(self, key: str, chosen: Mapping[str, Any]) -> bool:
        """Whether `key` holds under what was chosen for the keys before it."""
        when = self.parameters[key].when
        return all(other in chosen and chosen[other] in values for other, values in when.items())

    def plain(self) -> dict[str, Any]:
        """For JSON; only what was given."""
        return {
            key: parameter.model_dump(mode="json", exclude_defaults=True)
            for key, parameter in self.parameters.items()
        }


def read(uri: str | None, base: Training, fixed: Sequence[str] = ()) -> Space:
    """The space in the file at `uri` (None: the default one), over the settings `base`.

    `fixed`: keys that were given and are not searched, whatever the file says. SettingError for
    what no run could be made of.
    """
    where = "the default space" if uri is None else f"--space {uri}"
    try:
        data = DEFAULT.read_bytes() if uri is None else storage.read_bytes(uri)
        found = tomllib.loads(data.decode())
    except StorageError as error:
        raise SettingError(f"{where} cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{where} is not valid TOML: {error}.") from None
    points = found.pop("points", [])
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise SettingError(f"{where}: points has to be a list of tables, each under [[points]].")
    parameters = dict(_parameters(found, where))
    for key in parameters:
        _check_key(key, where)
    searched = list(parameters)
    parameters = _without(parameters, fixed, base)
    if not parameters:
        raise SettingError(f"{where} leaves nothing to search: every key of it is given.")
    space = Space(_ordered(parameters, where))
    for key, parameter in space.parameters.items():
        _check_values(key, parameter, space, base, where)
    gone = {*fixed, *(key for key in searched if key not in parameters)}
    found_points: list[Values] = []
    for given in points:
        point = {key: value for key, value in flattened(given) if key not in gone}
        point = _point(point, space, base, where)
        if point not in found_points:
            found_points.append(point)
    return replace(space, points=tuple(found_points))


def settings_with(base: Training, chosen: Mapping[str, Any]) -> Training:
    """`base` with the values of a point; SettingError for what the settings do not allow."""
    values = base.model_dump()
    for key, value in chosen.items():
        group, name = key.split(".")
        values[group][name] = value
    return command.build(Training, values)


def _parameters(found: Mapping[str, Any], where: str, prefix: str = "") -> Iterator[Any]:
    for name, value in found.items():
        key = f"{prefix}{name}"
        if not isinstance(value, Mapping):
            raise SettingError(f"{where}: {key} is no table; write [{key}] with a kind below it.")
        if "kind" not in value and value and all(isinstance(v, Mapping) for v in value.values()):
            yield from _parameters(value, where, f"{key}.")
            continue
        try:
            yield key, Parameter.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(str(part) for part in (key, *first["loc"]))
            reason = first["msg"].removeprefix("Value error, ").rstrip(".")
            raise SettingError(f"{where}: {at}: {reason}.") from None


def _check_key(key: str, where: str) -> None:
    known = list(command.dotted(Training()))
    if key not in known:
        near = difflib.get_close_matches(key, known, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise SettingError(f"{where}: {key} is not a setting of training.{hint}")
    if key.startswith(_FIXED_GROUPS):
        raise SettingError(
            f"{where}: {key} cannot be searched: it is what trials are judged or run by, and has "
            f"to be the same for all. Give it as --{key}."
        )
    if key in _OF_THE_STORE:
        raise SettingError(
            f"{where}: {key} cannot be searched: all trials share the tokens, which depend on it. "
            f"Give it as --{key}, and search once for each value."
        )


def _without(
    parameters: dict[str, Parameter], fixed: Sequence[str], base: Training
) -> dict[str, Parameter]:
    """The parameters that are left when `fixed` keys have their value in `base`: those that hold
    only under another value of such a key go with it, and so do those below them."""
    values = _words(base)
    left = {
        key: p.model_copy(update={"when": {k: v for k, v in p.when.items() if k not in fixed}})
        for key, p in parameters.items()
        if key not in fixed and all(values[k] in p.when[k] for k in p.when if k in fixed)
    }
    while gone := [
        key for key, p in left.items() if any(k in parameters and k not in left for k in p.when)
    ]:
        for key in gone:
            del left[key]
    return left


def _words(base: Training) -> Values:
    """Dotted keys and values, None as the word for it."""
    return {key: "none" if v is None else v for key, v in command.dotted(base).items()}


def _ordered(parameters: dict[str, Parameter], where: str) -> dict[str, Parameter]:
    """Parents first; SettingError for a condition on what is not searched, or on itself."""
    ordered: dict[str, Parameter] = {}
    waiting = dict(parameters)
    while waiting:
        ready = [key for key, p in waiting.items() if all(k in ordered for k in p.when)]
        if not ready:
            key, parameter = next(iter(waiting.items()))
            other = next(k for k in parameter.when if k not in ordered)
            raise SettingError(
                f"{where}: {key} holds only under {other}, which "
                + ("depends on it in turn." if other in parameters else "is not searched.")
            )
        for key in ready:
            ordered[key] = waiting.pop(key)
            _check_when(key, ordered, where)
    return ordered


def _check_when(key: str, ordered: Mapping[str, Parameter], where: str) -> None:
    for other, values in ordered[key].when.items():
        parent = ordered[other]
        for value in values:
            if parent.kind != "choice" or not parent.holds(value):
                raise SettingError(
                    f"{where}: {key} holds only where {other} is {value!r}, which is none of its "
                    f"values ({', '.join(map(repr, parent.edges()))})."
                )


def _check_values(key: str, parameter: Parameter, space: Space, base: Training, where: str) -> None:
    """That every value which `key` can have makes settings that a run can have."""
    above = _context(key, space)
    for value in parameter.edges():
        try:
            settings_with(base, above | {key: value})
        except SettingError as error:
            raise SettingError(f"{where}: {error}") from None


def _context(key: str, space: Space) -> Values:
    """Values of the keys above `key` under which it is in force."""
    chosen: Values = {}
    for other, values in space.parameters[key].when.items():
        chosen |= _context(other, space) | {other: values[0]}
    return chosen


def _point(given: Mapping[str, Any], space: Space, base: Training, where: str) -> Values:
    """A point with a value for every key in force; what it leaves out is as `base` says."""
    values = _words(base)
    point: Values = {}
    for key, parameter in space.parameters.items():
        if not space.in_force(key, point):
            continue
        value = given.get(key, values[key])
        if not parameter.holds(value):
            allowed = parameter.edges()
            said = ", ".join(map(repr, allowed)) if parameter.kind == "choice" else (
                f"{allowed[0]} to {allowed[1]}"
            )  # fmt: skip
            raise SettingError(
                f"{where}: a point has {key} = {value!r}, which is not in the space ({said})."
            )
        point[key] = value
    for key in given:
        if key not in point:
            state = "not in force in it" if key in space.parameters else "not searched"
            raise SettingError(f"{where}: a point gives {key}, which is {state}.")
    settings_with(base, point)
    return point
