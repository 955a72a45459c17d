"""Train a run, for ``python -m korlm.train`` and for ``korlm.train`` in Python."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from korlm.cli.arguments import key_of
from korlm.cli.compose import compose, merge
from korlm.cli.output_dirs import remove_empty_parents, remove_unused, run_dir
from korlm.config import TrainSettings
from korlm.config.serialization import settings_from_plain
from korlm.runs.directories import resumed_checkpoint
from korlm.sweeps.folder import is_inside
from korlm.utils import dist_env
from korlm.utils.errors import ConfigError, enough_memory, output_errors
from korlm.utils.packages import check_installed
from korlm.utils.signals import signals_as_keyboard_interrupt

if TYPE_CHECKING:
    from korlm.api.runs import LanguageModelRun, TaskRun
    from korlm.dataset.prepare import TextEncoding
    from korlm.dataset.prepared import Prepared
    from korlm.training.validation import ValidationCallback

    Checkpoint = dict[str, object]
    Splits = dict[str, dict[str, float]]  # metrics by split

LOG_FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"  # as conf/hydra/job_logging

_one_at_a_time = threading.Lock()  # PyTorch's random numbers are those of the process


def train(
    settings: Mapping[str, Any] | None = None,
    /,
    *,
    model: str | Mapping[str, Any] | None = None,
    corpus: str | Path | Sequence[str | Path] | Mapping[str, Any] | None = None,
    **others: Any,
) -> LanguageModelRun | TaskRun:
    """Train a model as ``python -m korlm.train`` does, and return the run.

        run = korlm.train(corpus=["book.txt"], tokenizer="syllable", trainer={"epochs": 5})
        run = korlm.train(model="gru", corpus="konlpy", name="gru", seed=2)
        run = korlm.train({"model": {"name": "lstm", "hidden_dim": 300}, "optimizer.lr": 0.01})
        run = korlm.train(resume="outputs/runs/DIR")

    All settings of the command are keywords, with the same defaults, checks and messages
    (``python -m korlm.train --help``). A run directory is written below ``outputs/runs``, with
    ``train.log``; ``run.folder`` is its path. Progress bars are shown in a terminal and in a
    notebook. Ctrl-C, or interrupting the kernel, ends the training after the step, so that
    ``resume=`` can continue it. Of several threads that train, each waits for the one before.

    Args:
        settings: key -> value, for settings as a dict. Keywords take precedence, key by key; a
            choice of a group replaces all keys of the group.
        model: name of a choice, or a dict of its keys with the choice under ``name``.
        corpus: name of a choice; a file or folder (``Path``), or a list of them, for
            ``corpus=text``; or a dict of its keys.
        others: further settings: ``tokenizer``, ``trainer``, ``seed``, ... A group is a name or a
            dict; a single key is written ``**{"trainer.epochs": 5}``.

    Returns:
        The best model of the run, as ``korlm.load`` returns it.

    Raises:
        ConfigError: there is no such setting, or a value is wrong.
        CorpusError: the text cannot be read or is too small.
        TrainingError: the training has diverged.
        Interrupted: it was interrupted; the message says how to resume it.
    """
    from korlm.api.runs import load_any
    from korlm.utils import threads

    if not dist_env.current_rank().is_alone:
        raise ConfigError("korlm.train runs in one process: use torchrun -m korlm.train")
    if not isinstance(settings, Mapping | None):
        raise ConfigError(f"settings={settings!r:.80}: must be a dict")
    others |= {} if model is None else {"model": model}
    others |= {} if corpus is None else {"corpus": corpus}
    composed = compose("train", merge(settings or {}, others))
    command: TrainSettings = composed.settings
    resumed, train_settings = None, command
    with _one_at_a_time, signals_as_keyboard_interrupt():
        run = command.outputs, command.name, command.resume, command.resume_from
        folder = Path(run_dir(*run))
        if command.resume:
            train_settings, resumed = load_resumed(command, composed.overrides)
        with _removed_without_results(folder), output_errors(folder), _logged(folder):
            if not command.resume:
                composed.write(folder)
            with threads.preserve_thread_counts():
                train_in(folder, train_settings, composed.overrides, resumed)
        return load_any(folder)  # building the model takes random numbers, too


@contextlib.contextmanager
def _removed_without_results(folder: Path) -> Iterator[None]:
    """Remove a run directory without checkpoints after the block, as the command does."""
    try:
        yield
    finally:
        if not (folder / "checkpoints").exists():
            shutil.rmtree(folder, ignore_errors=True)
            remove_empty_parents(folder)
        remove_unused()


@contextlib.contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """Write korlm's messages of the block to train.log."""
    log = logging.getLogger("korlm")
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8", delay=True)
    level = log.level
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        handler.close()


def train_in(
    folder: Path,
    settings: TrainSettings,
    overrides: Sequence[str],
    resumed: Checkpoint | None = None,
    callback: AbstractContextManager[ValidationCallback | None] = nullcontext(),  # noqa: B008
) -> Splits:
    """Train a new or a resumed run in its directory; return its metrics by split.

    Raises:
        KorlmError: settings, text and machine do not fit together.
        Interrupted: a stop signal was received.
    """
    encoding = None
    if settings.init and resumed is None:
        from korlm.tasks.pretrained import adopt_language_model_settings

        settings, encoding = adopt_language_model_settings(settings, list(overrides))
    env = dist_env.current_rank()
    if settings.batches.batch_size % env.size:
        raise ConfigError(
            f"batches.batch_size={settings.batches.batch_size}: must be a multiple of {env.size}, "
            "the number of processes"
        )
    if settings.model.name == "ngram" and env.size > 1:
        raise ConfigError(
            "model=ngram: is counted by a single process; start it without torchrun, in a sweep "
            "with hydra.launcher.tasks_per_node=1"
        )
    if env.is_main_process:
        from korlm.detokenizers.registry import ensure_trained

        for tracker in settings.trainer.tracker:  # before hours of tokenizing
            check_installed(tracker.value, f"trainer.tracker={tracker.value}")
        prepared = _open_or_prepare(settings, overrides, resumed, encoding)
        ensure_trained(prepared.manifest["settings"]["tokenizer"]["name"], prepared.folder)

    from korlm.utils.distributed import ProcessGroup

    group = ProcessGroup(env)
    if env.is_main_process:
        group.publish(str(folder), str(prepared.folder.resolve()))
    else:  # only rank 0 prepares the corpus and has a run directory
        from korlm.dataset.prepared import open_prepared

        folder, prepared_folder = map(Path, group.wait_for())
        prepared = open_prepared(prepared_folder)

    from korlm.training.session import build_session

    advice = "lower model.hidden_dim, model.embedding_dim or batches.batch_size"
    memory = enough_memory(f"model={settings.model.name}", advice)
    with group, callback as called, memory:
        callbacks = () if called is None else (called,)
        return build_session(settings, prepared, folder, resumed, group, callbacks).fit()


def load_resumed(command: TrainSettings, given: Sequence[str]) -> tuple[TrainSettings, Checkpoint]:
    """Return the settings and the checkpoint of an interrupted run.

    The overrides of this command are applied to the stored settings. The settings ``prepare`` and
    ``outputs`` are those of this command: a run from another person must not choose folders and
    hosts on this machine.

    Raises:
        ConfigError: an override may not change in a resumed run.
        CheckpointError: the checkpoint is missing or damaged.
    """
    assert command.resume is not None
    own = ("resume", "resume_from")
    overrides = [override for override in given if key_of(override) not in own]
    for override in overrides:
        if not override.startswith(
            ("trainer.", "prepare.", "outputs=", "prepared=", "objective=", "imports=")
        ):
            raise ConfigError(
                f"{override}: a resumed run keeps its settings; only trainer.*, prepare.*, "
                "outputs, prepared, objective and imports may change"
            )
    from korlm.runs.checkpoint import load_checkpoint, settings_of

    path = resumed_checkpoint(command.resume, command.resume_from.value)
    run_dir = path.parents[1]
    checkpoint = load_checkpoint(path)
    stored = settings_of(checkpoint, path)
    settings = settings_from_plain(stored, overrides)
    unfreezing = settings.trainer.gradual_unfreezing
    if unfreezing != stored.get("trainer", {}).get("gradual_unfreezing", False):
        raise ConfigError(
            f"trainer.gradual_unfreezing={str(unfreezing).lower()}: a resumed run keeps it, since "
            "the optimizer's state depends on it"
        )
    is_overridden = any(key_of(override) == "outputs" for override in overrides)
    if not is_overridden and not is_inside(run_dir, Path(settings.outputs)):
        settings = dataclasses.replace(settings, outputs=command.outputs)
    settings = dataclasses.replace(
        settings, prepare=command.prepare, resume_from=command.resume_from
    )
    return settings, checkpoint


def _open_or_prepare(
    settings: TrainSettings,
    overrides: Sequence[str],
    resumed: Checkpoint | None,
    encoding: TextEncoding | None,
) -> Prepared:
    """Return the prepared corpus of the settings, or of a resumed run; prepare it if missing.

    Raises:
        ConfigError: settings of the corpus beside ``prepared=DIR``.
    """
    from korlm.dataset.prepare import prepare
    from korlm.dataset.prepared import open_prepared

    previous = resumed.get("prepared") if resumed else None
    if settings.prepared is None and previous and Path(str(previous), "manifest.json").is_file():
        # The same ids, even if the text has changed since.
        return open_prepared(Path(str(previous)))
    if settings.prepared is None:
        return prepare(
            settings.corpus,
            settings.tokenizer,
            settings.vocab,
            Path(settings.outputs),
            cluster=settings.prepare,
            encoding=encoding,
        )
    for override in overrides:
        if override.startswith(("corpus", "tokenizer", "vocab", "prepare.")):
            raise ConfigError(
                f"{override}: has no effect beside prepared={settings.prepared}; leave one out"
            )
    return open_prepared(Path(settings.prepared))
