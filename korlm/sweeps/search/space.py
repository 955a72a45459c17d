"""Parse overrides in Hydra's grammar into fixed and searched settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from korlm.cli.arguments import key_of
from korlm.config.serialization import as_typed
from korlm.sweeps.folder import is_command_key
from korlm.utils.errors import ConfigError

Value = int | float | str


@dataclass(frozen=True)
class Dimension:
    """The values that a searched setting may have: choices, or a range of numbers.

    Attributes:
        typed: the value as it is in the file or on the command line.
        choices: possible values; empty for a range.
        high: largest number (inclusive).
        step: distance between possible numbers, from ``low`` on; None: continuous.
    """

    typed: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    is_integer: bool = False

    def example(self) -> Value:
        """Return one of the values; if the dimension is continuous, not an integer."""
        if self.choices:
            return self.choices[0]
        if self.is_integer:
            return int(self.low)
        return float(self.low) + (0.0 if self.step else 0.6180339 * (self.high - self.low))

    def text(self, value: Value) -> str:
        """Return a value as text, rounded to four digits if the result is in the range.

        >>> Dimension("", low=0.0, high=1.0).text(0.123456)
        '0.1235'
        >>> Dimension("", low=0.0, high=0.99999).text(0.99998)
        '0.99998'
        """
        if not isinstance(value, float):
            return str(value)
        short = f"{value:.4g}"
        return short if self.low <= float(short) <= self.high else repr(value)


@dataclass(frozen=True)
class Space:
    """Fixed and searched settings of a search.

    Attributes:
        fixed: key -> override that all trials share.
        searched: key, with Hydra's ``+`` if it has one, -> possible values.
    """

    fixed: dict[str, str]
    searched: dict[str, Dimension]

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """Return the overrides of a trial."""
        searched = [f"{key}={dim.text(values[key])}" for key, dim in self.searched.items()]
        return [*self.fixed.values(), *searched]

    def description(self) -> dict[str, str]:
        """Return key -> typed text of all settings that identify the search."""
        fixed = {key: text for key, text in self.fixed.items() if not is_command_key(key)}
        return fixed | {key_of(key): f"{key}={dim.typed}" for key, dim in self.searched.items()}

    def example_overrides(self) -> list[str]:
        """Return the overrides of one possible trial."""
        return self.overrides({key: dim.example() for key, dim in self.searched.items()})


def read_space(
    params: Mapping[str, Any], arguments: Sequence[str], config_loader: Any = None
) -> Space:
    """Return the space of a search, from a file and the command line, which takes precedence.

    >>> space = read_space({"a": "interval(0, 1)", "b": 3}, ["a=tag(log, interval(1, 9))", "c=x,y"])
    >>> space.fixed, list(space.searched), space.searched["a"].log, space.searched["c"].choices
    ({'b': 'b=3'}, ['a', 'c'], True, ('x', 'y'))
    """
    from_file = [f"{key}={as_typed(value)}" for key, value in params.items()]
    parser = OverridesParser.create(config_loader=config_loader)
    fixed: dict[str, str] = {}
    searched: dict[str, Dimension] = {}
    for override in parser.parse_overrides([*from_file, *arguments]):
        assert override.input_line is not None
        key = key_of(override.input_line)
        if key == "sweep":  # its file is already in params
            continue
        fixed.pop(key, None)
        for same in [other for other in searched if key_of(other) == key]:
            del searched[same]
        if override.is_sweep_override():
            searched[override.get_key_element()] = _dimension(override)
        else:
            fixed[key] = override.input_line
    if not searched:
        raise ConfigError(
            "hydra/sweeper=optuna: nothing to search: give a setting several values, such as "
            "'optimizer.lr=tag(log,interval(0.001,0.1))', or choose a file: sweep=lstm_small"
        )
    return Space(fixed, searched)


def swept_keys(arguments: Iterable[str]) -> frozenset[str]:
    """Return the keys to which a command gives several values.

    >>> sorted(swept_keys(["model=lstm,gru", "optimizer.lr=interval(0,1)", "seed=1"]))
    ['model', 'optimizer.lr']
    """
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    return frozenset(
        key_of(str(override.input_line)) for override in parsed if override.is_sweep_override()
    )


def _dimension(override: Override) -> Dimension:
    line, sweep = str(override.input_line), override.value()
    typed = line.partition("=")[2]
    log = "log" in getattr(sweep, "tags", ())
    if isinstance(sweep, IntervalSweep):
        low, high = sweep.start, sweep.end
        assert low is not None and high is not None
        is_integer = isinstance(low, int)
        dimension = Dimension(typed, (), low, high, 1 if is_integer else None, log, is_integer)
    elif override.is_range_sweep():
        texts = list(override.sweep_string_iterator())
        numbers = sorted(float(f"{float(text):.12g}") for text in texts)
        if not numbers:
            raise ConfigError(f"{line}: this range is empty")
        is_integer = not any("." in text for text in texts)
        step = float(f"{numbers[1] - numbers[0]:.12g}") if len(numbers) > 1 else 1
        dimension = Dimension(typed, (), numbers[0], numbers[-1], step, log, is_integer)
    else:
        dimension = Dimension(typed, tuple(dict.fromkeys(override.sweep_string_iterator())))
        if not dimension.choices:
            raise ConfigError(f"{line}: matches nothing")
    return _checked(dimension, line)


def _checked(dimension: Dimension, line: str) -> Dimension:
    if dimension.choices:
        return dimension
    if not (abs(dimension.low) < float("inf") and abs(dimension.high) < float("inf")):
        raise ConfigError(f"{line}: the bounds must be finite")
    if dimension.low > dimension.high:
        raise ConfigError(f"{line}: the smaller number must come first")
    if dimension.log and dimension.low <= 0:
        raise ConfigError(f"{line}: a logarithmic range needs numbers above 0")
    if dimension.log and dimension.step not in (None, 1):
        raise ConfigError(
            f"{line}: a logarithmic range can only have step 1: give "
            "tag(log, interval(FIRST, LAST)) or tag(log, int(interval(FIRST, LAST)))"
        )
    return dimension
