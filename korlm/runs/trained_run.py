"""Load trained runs; every command that uses a model starts here."""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from korlm.config import Mode, TrainSettings
from korlm.config.metrics import LANGUAGE_MODELING
from korlm.config.paths import run_directory
from korlm.config.serialization import settings_from_plain
from korlm.dataset.prepared import Prepared, open_prepared
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.text_encoder import TextEncoder
from korlm.dataset.vocab import BOS_ID, EOS_ID, Vocab
from korlm.detokenizers.base import Detokenizer
from korlm.detokenizers.registry import build_detokenizer
from korlm.models.base import LanguageModel
from korlm.models.registry import build_model
from korlm.modules.base import Trainable
from korlm.runs.checkpoint import load_checkpoint, matching_settings, settings_of
from korlm.runs.device import available_device
from korlm.runs.directories import problem_of
from korlm.runs.safetensors import MODEL, load_weights
from korlm.utils.errors import (
    CheckpointError,
    ConfigError,
    PreparedError,
    VocabError,
    enough_memory,
)

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11

    from korlm.runs.tensorboard_events import Curve


@dataclass(frozen=True)
class Run(abc.ABC):
    """The best model of a run, with all that it takes to use it; a context manager.

    The tokenizer starts with the first text (Kkma: about 1 s) and runs until ``close``, the end of
    a ``with`` block or of the object. Threads may share a run: its methods work one at a time.

    Attributes:
        folder: the run directory, or an export.
        settings: settings that the run was trained with.
        spelling: the spelling model, which assigns probabilities to unknown tokens.
        prepared: folder of the prepared corpus at training time.
        tokenizer_model: result of ``train_tokenizer``; None if the tokenizer learned nothing.
        labels: labels that the model predicts; empty for a language model.
        model: the model, in evaluation mode.
        lock: held by methods that use the tokenizer or the model.
    """

    folder: Path
    settings: TrainSettings
    vocab: Vocab
    spelling: CharNgramModel
    prepared: Path
    fingerprint: str
    tokenizer_model: bytes | None
    labels: tuple[str, ...]
    model: Trainable
    lock: threading.RLock = dataclasses.field(
        default_factory=threading.RLock, init=False, repr=False, compare=False
    )
    _pid: int = dataclasses.field(default_factory=os.getpid, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load best.pt of a run, or an export, on the CPU.

        Args:
            folder: a run directory, an export, or a path inside one
                (``korlm.config.paths.run_directory``).

        Raises:
            CheckpointError: the folder has no model, a damaged one, or one of another task.
        """
        return load_run(folder, lambda settings: cls)

    @classmethod
    @abc.abstractmethod
    def build_model(
        cls, folder: Path, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]
    ) -> Trainable:
        """Return an untrained model.

        Raises:
            KorlmError: a run with these settings cannot be loaded as this class.
        """

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        tensors = self.model.state_dict().values()  # n-gram models have no parameters
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    def to(self, device: torch.device | str) -> Self:
        """Return a copy of the run whose model is on a device; this run does not change.

        Raises:
            ConfigError: the device is not available.
        """
        model = copy.deepcopy(self.model).to(available_device(device))
        return dataclasses.replace(self, model=model)

    @functools.cached_property
    def _text_encoder(self) -> TextEncoder:
        unicode = self.settings.corpus.unicode
        return TextEncoder(
            self.settings.tokenizer, self.vocab, self.spelling, self.tokenizer_model, unicode
        )

    def text_encoder(self) -> TextEncoder:
        """Return the run's tokenizer with its vocabulary, which all methods share."""
        return self._text_encoder

    def detokenizer(self) -> Detokenizer:
        """Return the detokenizer of the run's tokens."""
        folders = (self.folder, self.prepared)
        return build_detokenizer(self.settings.tokenizer.name, folders, self.tokenizer_model)

    def curves(self) -> dict[str, Curve]:
        """Return the training curves: tag of TensorBoard -> (step, value) of each point.

            steps, perplexities = zip(*run.curves()["perplexity/valid"])

        Raises:
            CheckpointError: the run was recorded without TensorBoard, or its files were removed.
        """
        from korlm.runs.tensorboard_events import read_events

        recorded = read_events(self.folder / "tensorboard")
        if recorded.problem:
            raise CheckpointError(f"{self.folder}: {recorded.problem}")
        return recorded.curves

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the tokenizer; another text starts it again.

        In a forked process this does nothing: the tokenizer belongs to the parent, of which a
        thread may have held the lock at the fork.
        """
        if self._pid == os.getpid():
            with self.lock:
                self._text_encoder.close()


@dataclass(frozen=True)
class TrainedRun(Run):
    """The best language model of a run."""

    model: LanguageModel

    @classmethod
    def build_model(
        cls, folder: Path, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]
    ) -> LanguageModel:
        """See ``Run.build_model``."""
        if settings.task.name != LANGUAGE_MODELING:
            raise CheckpointError(
                f"{folder}: a run of task={settings.task.name}, where a language model is "
                f"needed; use python -m korlm.predict run={folder}"
            )
        if settings.corpus.reverse:
            raise CheckpointError(
                f"{folder}: a language model of reversed text (corpus.reverse=true), which "
                "only init=... of korlm.train can use"
            )
        return build_model(settings.model, len(vocab), vocab.tokens)

    @property
    def start_id(self) -> int:
        """Token id before the first token of a sentence."""
        return EOS_ID if self.settings.batches.mode is Mode.stream else BOS_ID

    @functools.cached_property
    def _inference_copy(self) -> LanguageModel:
        return self.model.inference_copy()

    def inference_model(self, device: torch.device | None = None) -> LanguageModel:
        """Return a copy of the model in evaluation mode, with derived weights precomputed.

        Args:
            device: device of the copy; None: that of the model, for which all calls return the same
                copy.
        """
        shared = self._inference_copy
        if device is None or device == shared.initial_state(1)[0].device:
            return shared
        return self.model.inference_copy().to(device)


RunT = TypeVar("RunT", bound=Run)


def load_run(folder: Path, class_of: Callable[[TrainSettings], type[RunT]]) -> RunT:
    """Load a run as an object of the class that ``class_of`` returns; see ``Run.load``."""
    folder = run_directory(folder)
    if (path := folder / MODEL).is_file():
        checkpoint = load_weights(folder)
    elif (path := folder / "checkpoints" / "best.pt").is_file():
        checkpoint = load_checkpoint(path)
    else:
        problem = problem_of(folder, "checkpoints/best.pt")
        raise CheckpointError(
            f"{folder}: {problem}; give a run directory whose run has reached its first "
            "validation, or an export with model.safetensors"
        )
    try:
        settings = settings_from_plain(settings_of(checkpoint, path))
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    with matching_settings(path):
        entries = checkpoint["vocab"]
        vocab = Vocab.restore(entries["tokens"], entries["counts"], settings.vocab)
        arrays = {name: part.numpy() for name, part in checkpoint["spelling"].items()}
        spelling = CharNgramModel.from_arrays(arrays)
        # The settings may claim any size, and building such a model would exhaust the memory.
        num_weights = sum(part.numel() for part in checkpoint["model"].values())
        if settings.model.min_parameters(len(vocab)) > num_weights:
            raise ValueError(f"it has {num_weights:,} weights, fewer than they require")
        model_bytes = checkpoint.get("learned")
        labels = tuple(map(str, checkpoint.get("labels", ())))
        run_class = class_of(settings)
        with enough_memory(str(path), "use a machine with more"):
            model = run_class.build_model(folder, settings, vocab, labels)
        model.load_state_dict(checkpoint["model"])
        return run_class(
            folder=folder,
            settings=settings,
            vocab=vocab,
            spelling=spelling,
            prepared=Path(checkpoint["prepared"]),
            fingerprint=checkpoint["fingerprint"],
            tokenizer_model=None if model_bytes is None else model_bytes.numpy().tobytes(),
            labels=labels,
            model=model.eval(),
        )


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return a unique name for each run: without date and time if possible, else its full name.

    >>> short_names([Path("runs/2026-11-21_18-10-22_lstm"), Path("runs/2026-11-21_18-25-25_gru")])
    ['lstm', 'gru']
    """
    stamp = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_(?=.)")
    full = [folder.resolve().name for folder in folders]
    short = [stamp.sub("", name) for name in full]
    for names in (short, full):
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def training_corpus(run: Run) -> Path:
    """Return the folder of the prepared corpus that a run was trained on.

    Raises:
        PreparedError: the folder does not exist.
    """
    if not run.prepared.is_dir():
        raise PreparedError(
            f"{run.prepared}: the prepared corpus of {run.folder} does not exist; give its new "
            "path with prepared=DIR, or prepare the same text again"
        )
    return run.prepared


def open_text(run: Run, folder: Path | None) -> Prepared:
    """Open the prepared corpus of a run.

    Args:
        run: the run; the corpus must have its vocabulary.
        folder: a prepared corpus; None: the one that the run was trained on.

    Raises:
        PreparedError: the corpus is missing, damaged or has changed.
        VocabError: the corpus has another vocabulary.
    """
    if folder is None:
        return open_prepared(training_corpus(run), run.fingerprint)
    prepared = open_prepared(folder)
    check_same_vocab(f"run={run.folder}", run.vocab, f"prepared={folder}", prepared.vocab)
    return prepared


def load_mixed_runs(
    ngram: str | None, mix: Sequence[str], others: Iterable[str] = ()
) -> dict[str, TrainedRun]:
    """Load the runs of the settings ``ngram`` and ``mix``, and return folder as given -> run.

    Raises:
        ConfigError: a run is given twice.
    """
    folders = [*([ngram] if ngram else []), *mix]
    paths = [run_directory(Path(folder)).resolve() for folder in folders]
    taken = [*paths, *(run_directory(Path(folder)).resolve() for folder in others)]
    for folder, path in zip(folders, paths, strict=True):
        if taken.count(path) > 1:
            raise ConfigError(f"mix={folder}: the run is given twice; leave one out")
    return {folder: TrainedRun.load(Path(folder)) for folder in folders}


def check_same_vocab(name: str, vocab: Vocab, other_name: str, other: Vocab) -> None:
    """Raise ``VocabError`` with the first different token if two vocabularies differ."""
    if vocab.tokens == other.tokens:
        return
    pairs = zip(vocab.tokens, other.tokens, strict=False)
    differing = [(i, a, b) for i, (a, b) in enumerate(pairs) if a != b][:1]
    example = "".join(f"; id {i} is {a!r} and {b!r}" for i, a, b in differing)
    raise VocabError(
        f"the vocabularies of {name} and {other_name} differ ({len(vocab):,} and {len(other):,} "
        f"tokens{example}); train both on the same prepared=DIR"
    )
