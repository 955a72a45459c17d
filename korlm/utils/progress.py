"""Show progress: as a bar in a terminal or a notebook, otherwise as a log line per minute."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

logger = logging.getLogger(__name__)


IN_NOTEBOOK = "ipykernel" in sys.modules

if TYPE_CHECKING:
    _Bar = tqdm[Any]
elif IN_NOTEBOOK:
    from tqdm.auto import tqdm as _Bar  # a widget, or text without the package ipywidgets
else:
    _Bar = tqdm


LOG_SECONDS = 60.0  # time between two log lines; shorter phases log nothing


class ProgressBar(_Bar):
    """A tqdm bar that logs its progress if stderr is not a terminal (cron, ``nohup``).

    If ``shown`` is False, it does neither. The other arguments are those of tqdm.
    """

    def __init__(
        self,
        iterable: Any = None,
        desc: str = "",
        total: float | None = None,
        unit: str = "it",
        unit_scale: bool = False,
        shown: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            *(iterable, desc, total),
            unit=unit,
            unit_scale=unit_scale,
            disable=(False if IN_NOTEBOOK else None) if shown else True,
            **options,
        )
        # A disabled tqdm lacks most attributes and does not count.
        self._is_logged = shown and self.disable
        self._title, self._is_scaled = desc, unit_scale
        self._units = unit if unit == "B" else f"{unit}s"
        self._first = self.n = options.get("initial", 0)
        self._started = self._logged = time.monotonic()

    def __iter__(self) -> Iterator[Any]:
        if not self._is_logged:
            yield from super().__iter__()
            return
        for item in self.iterable:
            yield item
            self.update()

    def update(self, n: float | None = 1) -> bool | None:
        """Add ``n`` finished units."""
        if not self._is_logged:
            return super().update(n)
        self.n += n or 0
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            logger.info("%s", self._line(now - self._started))
        return None

    def skip(self, n: float) -> None:
        """Add units that an earlier run finished, which do not count for the rate."""
        self._first += n
        self.n += n
        if not self.disable:
            self.initial += n
            self.last_print_n += n
            self.update(0)

    def _line(self, seconds: float) -> str:
        """Return the progress so far and the estimated remaining time as one line."""
        done = f"{self._number(self.n)} {self._units}"
        left = ""
        if self.total:
            share = min(1.0, self.n / self.total)
            done = (
                f"{share:.0%} ({self._number(self.n)} of {self._number(self.total)} {self._units})"
            )
            if self.n > self._first:
                rest = seconds * max(0.0, self.total - self.n) / (self.n - self._first)
                left = f", about {tqdm.format_interval(rest)} left"
        postfix = f"; {self.postfix}" if getattr(self, "postfix", None) else ""
        return f"{self._title}: {done} in {tqdm.format_interval(seconds)}{left}{postfix}"

    def _number(self, value: float) -> str:
        return str(tqdm.format_sizeof(value)) if self._is_scaled else f"{value:,}"
