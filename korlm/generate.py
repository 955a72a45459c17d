"""Command: generate Korean text with a trained run, or complete eojeols."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.config import GenerateMode, GenerateSettings
from korlm.sweeps.command import command

if TYPE_CHECKING:
    from korlm.generation.generator import Generator

logger = logging.getLogger(__name__)


@command("generate", literal=("prompt",))
def main(settings: GenerateSettings) -> None:
    """Write texts to standard output, each eojeol as soon as it is final."""
    from korlm.generation.generator import Generator
    from korlm.generation.prompts import read_prompts
    from korlm.runs.device import inference_device
    from korlm.runs.trained_run import TrainedRun
    from korlm.utils.torch_backend import tf32

    run = TrainedRun.load(Path(settings.run))
    has_several_lines = settings.mode is GenerateMode.complete or settings.sentences > 1
    with Generator(run, inference_device(settings)) as generator, tf32(False):
        gc.freeze()  # else the garbage collector scans the vocabulary now and then (0.2 s)
        is_first = True
        for prompt in read_prompts(settings.prompt, settings.prompts):
            for pieces in _texts(generator, prompt, settings):
                if has_several_lines and not is_first:
                    _write("\n")
                for piece in pieces:
                    _write(piece)
                is_first = False


def _texts(
    generator: Generator, prompt: str, settings: GenerateSettings
) -> Iterator[Iterator[str]]:
    """Yield the texts of a prompt, each in pieces."""
    if settings.mode is GenerateMode.text:
        yield from generator.texts(prompt, settings)
        return
    result = generator.complete(prompt, settings.num_completions, settings.max_expansions)
    if not result.eojeols:
        logger.warning(
            "prompt=%s: no completion: the model knows no eojeol that starts like this; type "
            "fewer letters, raise max_expansions=%d, or use a model of more text",
            prompt,
            settings.max_expansions,
        )
    yield (f"{eojeol.text}\t{eojeol.probability:.6f}\n" for eojeol in result.eojeols)


def _write(piece: str) -> None:
    """Write and flush; exit with 0 if the reader closed the pipe, as ``head`` does."""
    try:
        sys.stdout.write(piece)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at exit
        raise SystemExit(0) from None


if __name__ == "__main__":
    main()
