"""korlm: language models for Korean text, from raw text to a perplexity in TensorBoard.

    model = korlm.load("outputs/runs/DIR")

opens a trained run for use in Python; what takes one says so in its docstring.

    kkma = korlm.Kkma()

has the interface and the results of ``konlpy.tag.Kkma``, and the speed of the fast engine.

    @korlm.register("model", "bag", builds="my_package.bag:BagLM")

registers the settings of a model, a tokenizer or an optimizer of another package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from korlm._version import __version__ as __version__

if TYPE_CHECKING:
    from korlm.config.registry import register as register
    from korlm.prediction.task_run import TaskRun
    from korlm.runs.trained_run import TrainedRun
    from korlm.tokenizers.kkma.tagger import Kkma as Kkma


def __getattr__(name: str) -> Any:
    if name == "register":  # imported on first use, so that importing korlm alone costs nothing
        from korlm.config.registry import register

        return register
    if name == "Kkma":
        from korlm.tokenizers.kkma.tagger import Kkma

        return Kkma
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(run: str | Path) -> TrainedRun | TaskRun:
    """Return the best model of a run, with all that it takes to use it.

    A run of a task other than language modeling has a method ``predict``.

    Processes that use it must be started by ``spawn`` and load it themselves, as with any use of
    PyTorch: a process that is forked after PyTorch has computed anything hangs at its next
    operation, because the threads of PyTorch are not copied.

        multiprocessing.get_context("spawn").Pool(2)
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))

    Args:
        run: its directory, or one that korlm.export wrote.

    Raises:
        CheckpointError: there is no best.pt or model.safetensors, or it is damaged.
    """
    from korlm.prediction import task_run  # brings PyTorch along

    return task_run.load(Path(run))
