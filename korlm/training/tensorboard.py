"""TensorBoard: one writer a run, the tags that users were promised, x = optimizer step."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from korlm.evaluation.metrics import exp
from korlm.training.tensorboard_projector import write_projector

# Tags of the validation figures; the other splits are told once, at the end.
QUALITY = ("bits_per_char", "eojeol_perplexity", "oov_rate")


_EVENTS = "events.out.tfevents."  # the seconds, the machine and more follow


class TensorBoardLogger:
    """Writes what can be watched.

    Args:
        folder: of the event files.
        first_step: points from this step on that an earlier, broken-off session wrote are hidden.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._folder = folder
        self._first_step = first_step

    @functools.cached_property
    def _writer(self) -> SummaryWriter:
        """Begins with the first point: who finds that another process trains here writes none."""
        began = date_back(self._folder, int(time.time()))
        writer = SummaryWriter(str(self._folder), purge_step=self._first_step if began else None)
        writer.add_custom_scalars(
            {
                "train over valid": {
                    name: ["Multiline", [f"{name}/train", f"{name}/valid"]]
                    for name in ("loss", "perplexity")
                }
            }
        )
        return writer

    def _add(self, tag: str, value: float, step: int) -> None:
        self._writer.add_scalar(tag, value, step)

    def log_train(
        self, step: int, loss: float, lr: float, grad_norm: float, tokens_per_second: float
    ) -> None:
        """Training since the last point; loss in nats per token."""
        self._add("loss/train", loss, step)
        self._add("perplexity/train", exp(loss), step)
        self._add("train/lr", lr, step)
        self._add("train/grad_norm", grad_norm, step)
        self._add("train/tokens_per_second", tokens_per_second, step)

    def log_validation(self, step: int, figures: Mapping[str, float], best_loss: float) -> None:
        """A validation; ``figures`` as in metrics.json."""
        self._add("loss/valid", figures["loss"], step)
        self._add("perplexity/valid", figures["perplexity"], step)
        for key in QUALITY:
            self._add(f"quality/{key}", figures[key], step)
        self._add("best/valid_perplexity", exp(best_loss), step)
        self._writer.flush()

    def sample(self, step: int, texts: Mapping[str, str]) -> None:
        """Text that the model wrote, in Markdown, by its tag: ``samples``, ``samples/tokens``."""
        for tag, text in texts.items():
            self._writer.add_text(tag, text, step)

    def embeddings(
        self, matrix: Tensor, tokens: Sequence[str], counts: Sequence[int], number: int
    ) -> None:
        """The most frequent tokens for the projector; arguments as of ``write_projector``."""
        write_projector(self._folder, matrix, tokens, counts, number)

    def _test_point(self, step: int, splits: Mapping[str, Mapping[str, float]]) -> None:
        if "test" in splits:
            self._add("loss/test", splits["test"]["loss"], step)
            self._add("perplexity/test", splits["test"]["perplexity"], step)

    def baseline(self, last_step: int, splits: Mapping[str, Mapping[str, float]]) -> None:
        """Repeat the final figures at a later step: a level line beside the curves of networks.

        Args:
            last_step: of the networks.
            splits: figures as in metrics.json.
        """
        self.log_validation(last_step, splits["valid"], splits["valid"]["loss"])
        self._test_point(last_step, splits)

    def finish(
        self, step: int, splits: Mapping[str, Mapping[str, float]], settings: Mapping[str, Any]
    ) -> None:
        """The final figures, and the settings beside them for the HParams tab."""
        self._test_point(step, splits)
        # The plain add_hparams would open a second writer, and with it a second run. Its summary of
        # the experiment is left out: without one, the HParams tab looks through all runs, and shows
        # first the settings in which they differ, and every tag, best/valid_perplexity first.
        _, start, end = hparams(flat(settings), {})  # type: ignore[no-untyped-call]
        writer: Any = self._writer.file_writer
        for summary in (start, end):
            writer.add_summary(summary)

    def close(self) -> None:
        """Writes out what is pending."""
        if "_writer" in vars(self):
            self._writer.close()


class NullLogger(TensorBoardLogger):
    """Of the processes that leave telling to the first."""

    def __init__(self) -> None:
        pass

    def log_train(
        self, step: int, loss: float, lr: float, grad_norm: float, tokens_per_second: float
    ) -> None:
        """Tells nothing."""

    def log_validation(self, step: int, figures: Mapping[str, float], best_loss: float) -> None:
        """Tells nothing."""

    def close(self) -> None:
        """Has nothing to write out."""


def date_back(folder: Path, now: int) -> bool:
    """Sees to it that the event files in a folder sort before one that is begun now.

    TensorBoard reads them in the order of the seconds in their names and never looks back: after
    a clock was set back it would not see the new session.

    Args:
        folder: of the event files.
        now: seconds since 1970.

    Returns:
        Whether there are any.
    """
    paths = sorted(folder.glob(f"{_EVENTS}*"), reverse=True)
    for path in paths:
        stamp, dot, rest = path.name.removeprefix(_EVENTS).partition(".")
        if stamp.isdecimal():
            if int(stamp) >= now:
                path.rename(folder / f"{_EVENTS}{now - 1:010d}{dot}{rest}")
            now = min(int(stamp), now - 1)
    return bool(paths)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Settings as one level of dotted keys, the same ones in every run.

    >>> flat({"model": {"name": "lstm", "dims": [1, 2]}, "seed": 1, "name": None})
    {'model.name': 'lstm', 'model.dims': '[1, 2]', 'seed': 1, 'name': ''}
    """
    result: dict[str, str | int | float | bool] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        elif value is None:
            result[prefix + key] = ""
        else:
            result[prefix + key] = value if isinstance(value, (int, float, str)) else str(value)
    return result
