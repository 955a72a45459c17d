"""Counting: how an n-gram model learns, in the place of the loop that follows gradients."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from korlm.evaluation.metrics import exp
from korlm.models.ngram.arpa import write_arpa
from korlm.models.ngram.model import NgramLM
from korlm.training.trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class NgramTrainer(Trainer):
    """A trainer whose one step is a pass of counting over train; optimizer and epochs are unused.

    Attributes:
        ids: (N,) of train.
        tokens: of all ids.
        folder: the run directory.
    """

    ids: npt.NDArray[Any]
    tokens: Sequence[str]
    folder: Path

    @property
    def total_steps(self) -> int:
        """Always one."""
        return 1

    @property
    def network_steps(self) -> int:
        """Steps of a network with the same settings: how far its curves reach in TensorBoard."""
        return super().total_steps

    def run(self) -> None:
        """Count, unless an ARPA file was read, and measure valid.

        Raises:
            Stopped: the user wished it; what is not whole is done again on resuming.
            ConfigError: too little text for the order.
        """
        model, progress = self.model, self.progress
        assert isinstance(model, NgramLM)
        if progress.step == 0:
            started = time.perf_counter()
            if model.config.arpa is None:
                model.fit(self.ids, self.stop.check)
                model.to(self.device)
            progress.seconds += time.perf_counter() - started
            progress.step = progress.epoch = 1
            logger.info("%s n-grams in %.1f s", f"{model.num_grams:,}", progress.seconds)
            self.stop.check()
        if progress.validated_step != progress.step:
            loss = self.validate()
            progress.best_loss, progress.best_step = loss, progress.step
            progress.validated_step = progress.step
            logger.info("valid perplexity %.2f", exp(loss))
            if math.isinf(loss):
                arpa, smoothing = model.config.arpa, model.config.smoothing.value
                logger.warning(
                    "%s gives some tokens of valid the probability 0, so that its perplexity is "
                    "infinite; model.smoothing=kneser_ney gives none 0",
                    f"model.arpa={arpa}" if arpa else f"model.smoothing={smoothing}",
                )
        if model.config.write_arpa:
            path = self.folder / "ngram.arpa.gz"
            write_arpa(path, model.tables(), self.tokens, self.stop.check)
            logger.info("%s: written", path)
