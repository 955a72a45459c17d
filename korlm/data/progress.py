"""The bar over characters of text, whoever tokenizes them."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def progress_bar(total: int, title: str, progress: bool) -> tqdm[Any]:
    """A bar over characters on stderr.

    Args:
        total: characters, line ends included.
        title: what is being done.
        progress: whether to draw it when stderr is a terminal.
    """
    return tqdm(
        total=total,
        desc=title,
        unit="char",
        unit_scale=True,
        disable=None if progress else True,
    )


def pass_over(bar: tqdm[Any], chars: int) -> None:
    """Counts what an earlier run did; the rate shown stays that of this run."""
    if not bar.disable:
        bar.initial += chars
        bar.n += chars
        bar.last_print_n += chars
        bar.update(0)
