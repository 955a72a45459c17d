"""What all groups of settings share: range checks that name key, value and limit."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, ClassVar

from korlm.utils.errors import ConfigError

MISSING: Any = "???"  # OmegaConf's mark of a value that must be given


_KIND = "korlm_path"


ONE, MANY = "one", "many"


def path_field(default: Any = MISSING, renamed_from: str = "") -> Any:
    """Declare a setting that holds one path; ``korlm.config.paths`` says how it is read."""
    metadata = {_KIND: ONE} | ({RENAMED_FROM: renamed_from} if renamed_from else {})
    return dataclasses.field(default=default, metadata=metadata)


def paths_field(**default: Any) -> Any:
    """Declare a setting that holds a list of paths, empty unless a ``default`` is given."""
    default = default or {"default_factory": list}
    return dataclasses.field(**default, metadata={_KIND: MANY})


RENAMED_FROM, RENAMED_VALUES = "renamed_from", "renamed_values"


def setting(
    default: Any = MISSING,
    renamed_from: str = "",
    renamed_values: Mapping[str, str] | None = None,
) -> Any:
    """Declare a setting.

    Args:
        default: the value, or a function that returns it (a list must not be shared).
        renamed_from: the setting's name in the release before; see ``korlm.config.renamed``.
        renamed_values: old value -> new value, in lower case as typed.
    """
    metadata: dict[str, Any] = {}
    if renamed_from:
        metadata = {RENAMED_FROM: renamed_from, RENAMED_VALUES: renamed_values or {}}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def path_kinds(schema: Any) -> dict[str, str]:
    """Return ``ONE`` or ``MANY`` for each field of a dataclass that holds paths."""
    return {
        field.name: field.metadata[_KIND]
        for field in dataclasses.fields(schema)
        if _KIND in field.metadata
    }


MAX_THREADS = 1024


class Group:
    """Range checks shared by all groups; a failure names key, value and limit."""

    _group: ClassVar[str] = ""

    def without_effect(self) -> dict[str, str]:
        """Return the settings of this group that the others leave without effect -> why."""
        return {}

    def _fail(self, key: str, limit: str) -> None:
        path = f"{self._group}.{key}" if self._group else key
        value = getattr(self, key)
        shown = value.value if isinstance(value, enum.Enum) else value
        raise ConfigError(f"{path}={shown}: {limit}")

    def _one_of(self, key: str, *allowed: str) -> None:
        if getattr(self, key) not in allowed:
            self._fail(key, f"must be {' or '.join(allowed)}; other choices are made by the group")

    def _at_least(self, low: float, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            if value is not None and not value >= low:
                self._fail(key, f"must be {low} or more")

    def _at_most(self, high: float, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            if value is not None and not value <= high:
                self._fail(key, f"must be {high} or less")

    def _above(self, low: float, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            if value is not None and not (value > low and value < float("inf")):
                self._fail(key, f"must be a finite number above {low}")

    def _share(self, *keys: str, one: bool = False) -> None:
        for key in keys:
            value = getattr(self, key)
            if not (0 <= value < 1 or (one and value == 1)):
                self._fail(key, f"must lie between 0 and 1, {'both' if one else '1 not'} included")
