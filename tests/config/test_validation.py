"""Declared bounds are checked; a message names key, value and bounds."""

import enum
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from korlm.config.validation import Group, setting
from korlm.utils.errors import ConfigError


class Color(enum.Enum):
    red = "red"
    blue = "blue"


@dataclass
class Example(Group):
    _group: ClassVar[str] = "example"

    ratio: float = setting(0.5, "A ratio.", min=0, below=1)
    count: int | None = setting(None, "A count.", min=1)
    rate: float = setting(1.0, "A rate.", above=0)
    any_float: float = setting(0.0, "Any finite number.")
    rising: list[float] = setting(list, "Some numbers.", above=0, increasing=True)
    flag: bool = setting(True, "A switch.", max=0)
    title: str = setting("", "A name.")
    color: Color = setting(Color.red, "A color.")
    colors: list[Color] = setting(list, "Some colors.")
    other_color: Color | None = setting(None, "A color.")


def test_values_within_bounds() -> None:
    Example(ratio=0.0, count=1, rate=1e-9, any_float=-1e9, rising=[0.1, 2])
    Example(ratio=np.float32(0.5), count=np.int64(1))  # type: ignore[arg-type]


def test_strings_become_members_of_enums() -> None:
    example = Example(color="blue", colors=["red", Color.blue], other_color="red")  # type: ignore[arg-type, list-item]
    assert example.color is Color.blue
    assert example.colors == [Color.red, Color.blue]
    assert example.other_color is Color.red
    with pytest.raises(ConfigError, match=r"^example\.color=bleu: .* blue"):
        Example(color="bleu")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ratio": 1.0}, "example.ratio=1.0: must be in [0, 1)"),
        ({"ratio": -0.1}, "example.ratio=-0.1: must be in [0, 1)"),
        ({"ratio": math.nan}, "example.ratio=nan: must be a finite number, in [0, 1)"),
        ({"count": 0}, "example.count=0: must be 1 or more"),
        ({"rate": 0.0}, "example.rate=0.0: must be above 0"),
        ({"any_float": math.inf}, "example.any_float=inf: must be a finite number"),
        ({"rising": [1.0, 0.0]}, "example.rising=[1.0, 0.0]: each must be above 0"),
        ({"rising": [2.0, 1.0]}, "example.rising=[2.0, 1.0]: must increase from value to value"),
        ({"ratio": "x"}, "example.ratio=x: must be a number"),
        ({"ratio": None}, "example.ratio=None: must be a number"),
        ({"count": 1.0}, "example.count=1.0: must be an integer or null"),
        ({"count": True}, "example.count=True: must be an integer or null"),
        ({"count": np.int64(0)}, "example.count=0: must be 1 or more"),
        ({"count": 2**63}, f"example.count={2**63}: must be a 64-bit integer, 1 or more"),
        ({"rate": 10**400}, f"example.rate={10**400}: must be a 64-bit integer, above 0"),
        ({"rising": (1.0,)}, "example.rising=(1.0,): must be a list, each a number"),
        ({"rising": ["x"]}, "example.rising=['x']: must be a list, each a number"),
        ({"flag": 1}, "example.flag=1: must be true or false"),
        ({"title": 3}, "example.title=3: must be a string"),
    ],
)
def test_values_out_of_bounds(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Example(**values)
    assert str(error.value) == message
