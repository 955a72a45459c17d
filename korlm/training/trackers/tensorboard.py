"""TensorBoard: one writer per run, and the files of its embedding projector; x = optimizer step.

The files of the projector are next to the event files and contain no events, so that TensorBoard
lists no other run. V is the size of the vocabulary, E that of the embeddings.

    projector_config.pbtxt        names the other two
    embeddings/tensors.tsv        E numbers per row, a row per token
    embeddings/metadata.tsv       a header, then token and count in train
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from korlm.dataset.vocab import SPECIALS
from korlm.training.trackers.base import RunStatus, Splits, Tracker, flatten
from korlm.utils.io.atomic_files import atomic_write


class TensorBoardLogger(Tracker):
    """Writes the event files of a run.

    Args:
        folder: for the event files.
        first_step: scalars of an earlier session from this step on are hidden: the session was
            killed after its last checkpoint.
        charts: metrics of which Custom Scalars shows NAME/train over NAME/valid.
    """

    name = "tensorboard"
    shows_samples = True

    def __init__(self, folder: Path, first_step: int = 0, charts: Sequence[str] = ()) -> None:
        self._folder = folder
        self._first_step = first_step
        self._charts = charts

    @functools.cached_property
    def _writer(self) -> SummaryWriter:
        """Create the writer with the first event: a run that cannot start leaves no file."""
        is_resumed = any(self._folder.glob("events.out.tfevents.*"))
        purge_step = self._first_step if is_resumed else None
        writer = SummaryWriter(str(self._folder), purge_step=purge_step)
        if self._charts:
            layout = {
                name: ["Multiline", [f"{name}/train", f"{name}/valid"]] for name in self._charts
            }
            writer.add_custom_scalars({"train over valid": layout})
        return writer

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)

    def flush(self) -> None:
        """Wait until the thread of the writer has written everything."""
        if "_writer" in vars(self):
            self._writer.flush()

    def log_samples(self, step: int, texts: Mapping[str, str]) -> None:
        for tag, text in texts.items():
            self._writer.add_text(tag, text, step)

    def log_images(self, step: int, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        for tag, image in images.items():
            self._writer.add_image(tag, image, step, dataformats="HWC")

    def log_embeddings(
        self, weight: Tensor, tokens: Sequence[str], counts: Sequence[int], max_tokens: int
    ) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_projector(self._folder, weight, tokens, counts, max_tokens)

    def log_result(self, step: int, settings: Mapping[str, Any], splits: Splits) -> None:
        """Log the settings for the HParams tab, which takes the metrics from the scalars."""
        # SummaryWriter.add_hparams would open a second writer, and with it a second run. The
        # summary of the experiment is omitted: without it the HParams tab collects the settings of
        # all runs, shows those that differ first, and offers every scalar as a metric.
        _, start, end = hparams(flatten(settings), {})  # type: ignore[no-untyped-call]
        writer: Any = self._writer.file_writer
        for summary in (start, end):
            writer.add_summary(summary)

    def close(self, status: RunStatus = RunStatus.finished) -> None:
        if "_writer" in vars(self):
            self._writer.close()


CONFIG = """\
embeddings {
  tensor_name: "embeddings"
  tensor_path: "embeddings/tensors.tsv"
  metadata_path: "embeddings/metadata.tsv"
}
"""


def write_projector(
    folder: Path, weight: Tensor, tokens: Sequence[str], counts: Sequence[int], max_tokens: int
) -> None:
    """Write the embeddings of the most frequent tokens; nothing if there are fewer than two.

    Args:
        folder: folder of the event files.
        weight: input embeddings of all tokens, subwords included, float32 (V, E).
        tokens: token of each id, V of them.
        counts: count in train of each id.
        max_tokens: maximum number of tokens to write; special tokens are omitted.
    """
    ids = [token_id for token_id, token in enumerate(tokens) if token not in SPECIALS]
    ids = sorted(ids, key=lambda token_id: -counts[token_id])[:max_tokens]
    if len(ids) < 2:  # the projector needs two points
        return
    rows = weight[ids].float().cpu().tolist()
    tensors = "".join("\t".join(f"{value:.5g}" for value in row) + "\n" for row in rows)
    labels = "".join(f"{escape_label(tokens[i])}\t{counts[i]}\n" for i in ids)
    (folder / "embeddings").mkdir(exist_ok=True)
    _write(folder / "embeddings" / "tensors.tsv", tensors)
    _write(folder / "embeddings" / "metadata.tsv", "token\tcount\n" + labels)
    _write(folder / "projector_config.pbtxt", CONFIG)


def escape_label(token: str) -> str:
    r"""Return a token as a table cell: characters that break rows or are invisible are escaped.

    >>> [escape_label(token) for token in ("나", "a\tb", "", " ", "가\u2028")]
    ['나', 'a\\tb', '""', '" "', '가\\u2028']
    """
    if not token.strip():
        return json.dumps(token)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in token)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
