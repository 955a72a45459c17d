"""Declare the keys of settings classes: default, meaning, unit and bounds."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import math
import numbers
import re
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from korlm.config import registry
from korlm.utils.errors import ConfigError, not_a_choice

MISSING: Any = "???"  # OmegaConf's mark of a value that must be given

MAX_THREADS = 1024
MAX_SEED = (1 << 63) - 1

_KEY = "setting"

ChoiceT = TypeVar("ChoiceT", bound=enum.Enum)

# Types of values in annotations -> the classes that are accepted, and their name in messages.
# Numbers of NumPy are numbers, too; True and False are not.
_TYPES: dict[str, tuple[tuple[type[Any], ...], str]] = {
    "bool": ((bool,), "true or false"),
    "int": ((numbers.Integral,), "an integer"),
    "float": ((numbers.Real,), "a number"),
    "str": ((str,), "a string"),
}
_PLAIN_TYPE = re.compile(r"(list\[)?(bool|int|float|str)\]?( \| None)?")


@dataclasses.dataclass(frozen=True)
class Setting:
    """Metadata of a settings key.

    Attributes:
        help: meaning of the key, as ``--help`` prints it.
        unit: unit of the value, such as ``minutes``.
        min: smallest value. For a list, bounds apply to each item.
        max: largest value.
        above: exclusive lower bound.
        below: exclusive upper bound.
        increasing: whether the items of a list must increase.
        is_path: whether the value is a path, or a list of paths.
        renamed_from: name of the key in the previous release; see ``korlm.config.keys``.
        renamed_values: old value in lower case -> new value.
    """

    help: str = ""
    unit: str = ""
    min: float | None = None
    max: float | None = None
    above: float | None = None
    below: float | None = None
    increasing: bool = False
    is_path: bool = False
    renamed_from: str = ""
    renamed_values: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def bounds(self) -> str:
        """Return the bounds as text, empty if there are none.

        >>> Setting(min=0, below=1).bounds(), Setting(above=0).bounds(), Setting(min=1).bounds()
        ('in [0, 1)', 'above 0', '1 or more')
        """
        low = self.above if self.min is None else self.min
        high = self.below if self.max is None else self.max
        if low is not None and low == high:
            return str(low)
        if low is not None and high is not None:
            opening, closing = "(" if self.min is None else "[", ")" if self.max is None else "]"
            return f"in {opening}{low}, {high}{closing}"
        if low is not None:
            return f"above {low}" if self.min is None else f"{low} or more"
        if high is not None:
            return f"below {high}" if self.max is None else f"{high} or less"
        return ""

    def allows(self, value: float) -> bool:
        """Return True if a number is within the bounds, and finite or a 64-bit integer."""
        return (
            _is_usable(value)
            and (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def choice_of(kind: type[ChoiceT], key: str, value: object) -> ChoiceT:
    """Return a member of an enum by its value; ``ConfigError`` if there is none."""
    try:
        return kind(value)
    except ValueError:
        names = [str(member.value) for member in kind]
        raise ConfigError(not_a_choice(f"{key}={value}", str(value), names)) from None


def setting(default: Any = MISSING, help: str = "", **metadata: Any) -> Any:
    """Declare a key of a settings class.

    Args:
        default: the default value, or a function that returns it (for lists and groups).
        help: meaning of the key, in one or two sentences.
        metadata: other attributes of ``Setting``.
    """
    declared = {_KEY: Setting(help, **metadata)}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=declared)
    return dataclasses.field(default=default, metadata=declared)


def fraction(default: float, help: str, **metadata: Any) -> Any:
    """Declare a key whose value is in [0, 1), such as the probability of a dropout."""
    return setting(default, help, min=0, below=1, **metadata)


def setting_of(field: dataclasses.Field[Any]) -> Setting:
    """Return the metadata of a settings key."""
    declared: Setting = field.metadata.get(_KEY, Setting())
    return declared


def _is_a(value: object, name: str) -> bool:
    """Return whether a value is of a type in ``_TYPES``."""
    return isinstance(value, _TYPES[name][0]) and (name == "bool" or not isinstance(value, bool))


def _is_usable(value: float) -> bool:
    """Return whether a number is finite and, if an integer, within 64 bits, as in NumPy."""
    return abs(value) < 2**63 if _is_a(value, "int") else math.isfinite(value)


@functools.cache  # it takes 1.4 ms for an LSTM
def enums_of(schema: type[Any]) -> dict[str, Any]:
    """Return key -> enum that its value is a member of, or each item of its list."""
    return {
        key: kind
        for key, hint in typing.get_type_hints(schema).items()
        for kind in (hint, *typing.get_args(hint))
        if isinstance(kind, enum.EnumMeta)
    }


class Group:
    """Base class of settings. Creating one checks the types and the bounds of all keys."""

    _group: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check types and bounds of all keys; subclasses add checks that involve several keys.

        Strings become members of enums; Hydra has converted them, unless they come from Python.
        """
        enums = enums_of(type(self))  # type: ignore[arg-type]  # classes are hashable
        for key, kind in enums.items():
            value, path = getattr(self, key), self._path(key)
            if isinstance(value, list):
                setattr(self, key, [choice_of(kind, path, item) for item in value])
            elif value not in (None, MISSING):
                setattr(self, key, choice_of(kind, path, value))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            self._check_type(field)
            declared, value = setting_of(field), getattr(self, field.name)
            values = value if isinstance(value, list) else [value]
            given = [v for v in values if _is_a(v, "float")]
            if wrong := [number for number in given if not declared.allows(number)]:
                kind = "a 64-bit integer" if _is_a(wrong[0], "int") else "a finite number"
                limit = "" if _is_usable(wrong[0]) and declared.bounds() else kind
                limit = ", ".join(filter(None, (limit, declared.bounds())))
                self._fail(field.name, f"{'each ' * isinstance(value, list)}must be {limit}")
            if declared.increasing and sorted(set(values)) != values:
                self._fail(field.name, "must increase from value to value")

    def _check_type(self, field: dataclasses.Field[Any]) -> None:
        """Check the type of a plain value; Hydra has checked it, unless it comes from Python."""
        # A string where annotations are not evaluated, as in korlm.
        name = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
        declared, value = _PLAIN_TYPE.fullmatch(name), getattr(self, field.name)
        if declared is None:
            return
        in_list, name, or_none = declared.groups()
        if value is None and or_none:
            return
        values = value if in_list else [value]
        if not isinstance(values, list) or not all(_is_a(v, name) for v in values):
            expected = f"{'a list, each ' if in_list else ''}{_TYPES[name][1]}"
            self._fail(field.name, f"must be {expected}{' or null' if or_none else ''}")

    def without_effect(self) -> dict[str, str]:
        """Return key or group that has no effect with the other settings -> reason."""
        return {}

    def _path(self, key: str) -> str:
        return f"{self._group}.{key}" if self._group else key

    def _fail(self, key: str, limit: str) -> None:
        """Raise a ``ConfigError`` that names the key, its value and what is allowed."""
        value = getattr(self, key)
        shown = value.value if isinstance(value, enum.Enum) else value
        raise ConfigError(f"{self._path(key)}={shown}: {limit}")


@dataclasses.dataclass
class NamedGroup(Group):
    """Settings of a choice of a group that are registered under their ``name``."""

    name: str = setting(MISSING, "Name of the choice; the group selects it.")

    def __post_init__(self) -> None:
        """Check also that ``name`` is one of the choices that the class is registered for."""
        super().__post_init__()
        names = registry.names_of(self._group, type(self))
        if self.name not in names:
            allowed = " or ".join(names) or f"registered for {type(self).__name__}"
            self._fail("name", f"must be {allowed}; the group selects other choices")


@dataclasses.dataclass
class CommandSettings(Group):
    """Settings of all commands."""

    imports: list[str] = setting(
        list,
        "Python modules to import first, which register their own models, tokenizers or "
        "optimizers (korlm.register). A folder conf beside a module is searched for YAML files.",
    )
