"""The space of a search: overrides in Hydra's grammar -> what is fixed and what is searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from korlm.cli.arguments import key_of
from korlm.sweeps.folder import is_of_the_command
from korlm.utils.errors import ConfigError

Value = int | float | str


@dataclass(frozen=True)
class Dimension:
    """The values that a setting may take: one of several, or a number between two.

    Attributes:
        typed: as it stands in the file or on the command line.
        choices: texts; empty for a number.
        low: the smallest number.
        high: the largest one, included.
        step: between two numbers, from low on; None: any number.
        log: whether orders of magnitude are equally likely.
        whole: whether the numbers are whole.
    """

    typed: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def example(self) -> Value:
        """One of the values; no whole number where there need not be one."""
        if self.choices:
            return self.choices[0]
        if self.whole:
            return int(self.low)
        return float(self.low) + (0.0 if self.step else 0.6180339 * (self.high - self.low))

    def text(self, value: Value) -> str:
        """A value as an override has it; four digits are enough for anything that is searched.

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
    """What all trials share, and what they differ in.

    Attributes:
        fixed: key -> override.
        searched: key, with the plus that adds it -> its values.
    """

    fixed: dict[str, str]
    searched: dict[str, Dimension]

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """Those of a trial.

        Args:
            values: of all searched settings.
        """
        found = [f"{key}={dim.text(values[key])}" for key, dim in self.searched.items()]
        return [*self.fixed.values(), *found]

    def description(self) -> dict[str, str]:
        """Key -> what was typed, of all that makes two searches the same."""
        fixed = {key: text for key, text in self.fixed.items() if not is_of_the_command(key)}
        return fixed | {key_of(key): f"{key}={dim.typed}" for key, dim in self.searched.items()}

    def example_overrides(self) -> list[str]:
        """The overrides of some trial."""
        return self.overrides({key: dim.example() for key, dim in self.searched.items()})


def read_space(
    params: Mapping[str, Any], arguments: Sequence[str], config_loader: Any = None
) -> Space:
    """The space that a file and a command line describe; the latter wins.

    Args:
        params: setting -> value or sweep, of the file.
        arguments: overrides as typed.
        config_loader: Hydra's, for ``glob(...)``.

    Raises:
        ConfigError: a range without numbers, or nothing to search.
        HydraException: what is not Hydra's grammar.

    >>> space = read_space({"a": "interval(0, 1)", "b": 3}, ["a=tag(log, interval(1, 9))", "c=x,y"])
    >>> space.fixed, list(space.searched), space.searched["a"].log, space.searched["c"].choices
    ({'b': 'b=3'}, ['a', 'c'], True, ('x', 'y'))
    """
    from_file = [f"{key}={_plain(value)}" for key, value in params.items()]
    parser = OverridesParser.create(config_loader=config_loader)
    fixed: dict[str, str] = {}
    searched: dict[str, Dimension] = {}
    for override in parser.parse_overrides([*from_file, *arguments]):
        assert override.input_line is not None
        key = key_of(override.input_line)
        if key == "sweep":  # has said what is in params
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

    Args:
        arguments: overrides as typed, or KEY=SWEEP from ``hydra.sweeper.params``.

    Raises:
        HydraException: an argument does not follow Hydra's grammar.

    >>> sorted(swept_keys(["model=lstm,gru", "optimizer.lr=interval(0,1)", "seed=1"]))
    ['model', 'optimizer.lr']
    """
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    return frozenset(
        key_of(str(override.input_line)) for override in parsed if override.is_sweep_override()
    )


def _plain(value: Any) -> str:
    """A value of a YAML file in Hydra's grammar."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _dimension(override: Override) -> Dimension:
    line, sweep = str(override.input_line), override.value()
    typed = line.partition("=")[2]
    log = "log" in getattr(sweep, "tags", ())
    if isinstance(sweep, IntervalSweep):
        low, high = sweep.start, sweep.end
        assert low is not None and high is not None
        whole = isinstance(low, int)
        found = Dimension(typed, (), low, high, 1 if whole else None, log, whole)
    elif override.is_range_sweep():
        texts = list(override.sweep_string_iterator())
        numbers = sorted(float(f"{float(text):.12g}") for text in texts)
        if not numbers:
            raise ConfigError(f"{line}: there is no number in this range")
        whole = not any("." in text for text in texts)
        step = float(f"{numbers[1] - numbers[0]:.12g}") if len(numbers) > 1 else 1
        found = Dimension(typed, (), numbers[0], numbers[-1], step, log, whole)
    else:
        found = Dimension(typed, tuple(dict.fromkeys(override.sweep_string_iterator())))
        if not found.choices:
            raise ConfigError(f"{line}: matches nothing")
    return _checked(found, line)


def _checked(found: Dimension, line: str) -> Dimension:
    if found.choices:
        return found
    if not (abs(found.low) < float("inf") and abs(found.high) < float("inf")):
        raise ConfigError(f"{line}: must lie between two finite numbers")
    if found.low > found.high:
        raise ConfigError(f"{line}: ends below where it begins; the smaller number comes first")
    if found.log and found.low <= 0:
        raise ConfigError(f"{line}: a logarithm needs numbers above 0")
    if found.log and found.step not in (None, 1):
        raise ConfigError(
            f"{line}: a logarithm has no steps but 1: give tag(log, interval(FIRST, LAST)) or "
            "tag(log, int(interval(FIRST, LAST)))"
        )
    return found
