"""korlm: language models for Korean text, from raw text to a perplexity in TensorBoard.

    run = korlm.train(corpus=["book.txt"], tokenizer="syllable")
    run = korlm.load("outputs/runs/DIR")

train a run and open one. It has methods: ``score``, ``surprisal``, ``generate``, ``complete``,
``rescore``, ``evaluate``; ``predict`` if it is of another task (``korlm/api/README.md``).

    kkma = korlm.Kkma()

has the interface and the results of ``konlpy.tag.Kkma``, and the speed of the fast engine.

    @korlm.register("model", "bag", builds="my_package.bag:BagLM")

registers the settings of a model, a tokenizer or an optimizer of another package.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from korlm._version import __version__ as __version__

if TYPE_CHECKING:
    from korlm.api.runs import LanguageModelRun, TaskRun
    from korlm.api.training import train as train
    from korlm.config.registry import register as register
    from korlm.tokenizers.kkma.tagger import Kkma as Kkma
    from korlm.utils.errors import KorlmError as KorlmError


# Imported at first use, so that importing korlm alone costs nothing.
_MODULES = {
    "Kkma": "korlm.tokenizers.kkma.tagger",
    "KorlmError": "korlm.utils.errors",
    "register": "korlm.config.registry",
    "train": "korlm.api.training",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]


def load(run: str | Path) -> LanguageModelRun | TaskRun:
    """Return the best model of a run, with all that it takes to use it.

    Threads may share it.

    Processes that use it must be started by ``spawn`` and load it themselves, as with any use of
    PyTorch: a process that is forked after PyTorch has computed anything hangs at its next
    operation, because the threads of PyTorch are not copied.

        multiprocessing.get_context("spawn").Pool(2)
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))

    Args:
        run: its directory, or one that korlm.export wrote.

    Raises:
        CheckpointError: there is no best.pt or model.safetensors, or it is damaged.
        ConfigError: the run is not a path.
    """
    from korlm.api.runs import load_any  # brings PyTorch along

    return load_any(run)
