"""The search space in a file and on the command line, and errors."""

from __future__ import annotations

import pytest
from hydra.errors import HydraException

from korlm.sweeps.search.space import Dimension, read_space
from korlm.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("interval(1, 8)", {"low": 1.0, "high": 8.0}),
        ("int(interval(1, 8))", {"low": 1, "high": 8, "step": 1, "is_integer": True}),
        ("tag(log, interval(1e-4, 0.1))", {"low": 1e-4, "high": 0.1, "log": True}),
        (
            "tag(log, int(interval(32, 512)))",
            {"low": 32, "high": 512, "step": 1, "log": True, "is_integer": True},
        ),
        # As in Hydra, a range excludes its end.
        ("range(1, 4)", {"low": 1, "high": 3, "step": 1, "is_integer": True}),
        ("range(64, 257, 64)", {"low": 64, "high": 256, "step": 64, "is_integer": True}),
        ("range(5, 1, -1)", {"low": 2, "high": 5, "step": 1, "is_integer": True}),
        ("range(0, 0.5, 0.1)", {"low": 0.0, "high": 0.4, "step": 0.1}),
        ("range(3, 4)", {"low": 3, "high": 3, "step": 1, "is_integer": True}),
        ("choice(a, 'b c', [1,2])", {"choices": ("a", "b\\ c", "[1,2]")}),
        ("1,2,1", {"choices": ("1", "2")}),
        ("true,false", {"choices": ("True", "False")}),
    ],
)
def test_the_grammar(definition: str, expected: dict[str, object]) -> None:
    space = read_space({"model.x": definition}, [])
    assert space.searched == {"model.x": Dimension(definition, **expected)}  # type: ignore[arg-type]
    assert space.fixed == {}


def test_overrides_have_priority() -> None:
    params = {"a": "interval(0, 1)", "b": "choice(1, 2)", "c": 3, "d": None, "e": True, "f": 1}
    space = read_space(params, ["b=7", "c=range(1, 3)", "+a=interval(5, 6)", "sweep=x", "g=[1,2]"])
    assert space.fixed == {"d": "d=null", "e": "e=true", "f": "f=1", "b": "b=7", "g": "g=[1,2]"}
    assert list(space.searched) == ["c", "+a"]
    assert space.searched["+a"].low == 5
    assert space.overrides({"c": 1, "+a": 5.5})[-2:] == ["c=1", "+a=5.5"]
    assert read_space(params, ["a=1", "a=x,y"]).fixed.keys() == {"c", "d", "e", "f"}


def test_a_trial_of_the_space_is_composed_first() -> None:
    params = {"a": "interval(0, 1)", "b": "choice(x, y)", "c": "tag(log, range(2, 9))", "d": "z"}
    assert read_space(params, []).example_overrides() == ["d=z", "a=0.618", "b=x", "c=2"]


def test_two_searches_are_the_same() -> None:
    first = read_space({"a": "interval(0, 1)", "b": "x"}, ["outputs=here", "resume=there"])
    second = read_space({}, ["b=x", "a=interval(0, 1)"])
    assert first.description() == second.description()
    assert first.description() != read_space({}, ["b=x", "a=interval(0, 2)"]).description()


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        ("a=1", "nothing to search"),
        ("a=range(3, 3)", "this range is empty"),
        ("a=interval(2, 1)", "the smaller number must come first"),
        ("a=tag(log, interval(0, 1))", "a logarithmic range needs numbers above 0"),
        ("a=tag(log, range(1, 9, 2))", "a logarithmic range can only have step 1"),
        ("a=interval(0, inf)", "the bounds must be finite"),
        ("a=interval(nan, 1)", "the bounds must be finite"),
    ],
)
def test_contradictory_settings(definition: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_space({}, [definition])


@pytest.mark.parametrize("definition", ["a=interval(1,", "a=interval(x, 1)", "a=choice()"])
def test_invalid_syntax(definition: str) -> None:
    with pytest.raises(HydraException):
        read_space({}, [definition])


def test_numbers_stay_within_their_limits() -> None:
    dim = Dimension("", low=0.00123456, high=0.99996)
    for value in (0.00123456, 0.99996, 0.5, 0.1234567):
        assert dim.low <= float(dim.text(value)) <= dim.high
        assert abs(float(dim.text(value)) / value - 1) < 1e-3
