"""Fit an n-gram model: count and validate, in place of the training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from korlm.models.ngram.arpa import write_arpa
from korlm.models.ngram.counts import Ids
from korlm.models.ngram.model import NgramLM
from korlm.training.validation import Validator

logger = logging.getLogger(__name__)

ARPA_FILE = "ngram.arpa.gz"  # in the run directory, with model.write_arpa=true


def fit_ngram(
    model: NgramLM,
    ids: Ids,
    tokens: Sequence[str],
    device: torch.device,
    validator: Validator,
    folder: Path,
) -> None:
    """Count the n-grams of the training split, validate, and write the ARPA file if requested.

    Nothing is counted if the model was read from an ARPA file or a checkpoint.

    Raises:
        TrainingInterrupted: a stop signal was received; resuming repeats the incomplete step.
        ConfigError: there is too little text for the order.
    """
    progress, stop = validator.progress, validator.stop
    if progress.step == 0:
        started = time.perf_counter()
        if model.config.arpa is None:
            model.fit(ids, stop.check)
            model.to(device)
        progress.seconds += time.perf_counter() - started
        progress.step = progress.epoch = 1
        logger.info("%s n-grams in %.1f s", f"{model.num_grams:,}", progress.seconds)
        stop.check()
    if progress.validated_step != progress.step:
        metrics, _ = validator.validate(is_final=True)
        logger.info("valid perplexity %.2f", metrics["perplexity"])
        if math.isinf(metrics["loss"]):
            arpa, smoothing = model.config.arpa, model.config.smoothing.value
            logger.warning(
                "valid perplexity is infinite: %s assigns zero probability to some tokens; use "
                "model.smoothing=kneser_ney",
                f"model.arpa={arpa}" if arpa else f"model.smoothing={smoothing}",
            )
    if model.config.write_arpa:
        path = folder / ARPA_FILE
        write_arpa(path, model.tables(), tokens, stop.check)
        logger.info("%s: written", path)
