"""Runs a function for each piece of a corpus, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor:
    """Runs functions in this process."""

    is_here = True

    def run_all(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each item with the result of the function, in any order.

        Raises:
            Exception: what the function raised.
        """
        for item in items:
            yield item, function(item)

    def tokenize(self, settings: Any, texts: list[Any]) -> Iterator[tuple[Any, Any]]:
        """Tokenize pieces with the tokenizers of the workers."""
        raise NotImplementedError
