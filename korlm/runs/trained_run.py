"""Load trained runs; every command that uses a model starts here."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

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
from korlm.runs.checkpoint import load_checkpoint, loading, settings_of
from korlm.runs.directories import problem_of
from korlm.runs.safetensors import MODEL, load_weights
from korlm.utils.errors import (
    CheckpointError,
    ConfigError,
    PreparedError,
    VocabError,
    enough_memory,
)


@dataclass(frozen=True)
class RunParts:
    """Contents of a run, without its model.

    Attributes:
        folder: the run directory, or an export.
        settings: settings that the run was trained with.
        spelling: the spelling model, which assigns probabilities to unknown tokens.
        prepared: folder of the prepared corpus at training time.
        tokenizer_model: result of ``train_tokenizer``; None if the tokenizer learned nothing.
        labels: labels that the model predicts; empty for a language model.
    """

    folder: Path
    settings: TrainSettings
    vocab: Vocab
    spelling: CharNgramModel
    prepared: Path
    fingerprint: str
    tokenizer_model: bytes | None
    labels: tuple[str, ...]

    def text_encoder(self) -> TextEncoder:
        """Return an encoder for text, with the run's tokenizer; a context manager."""
        unicode = self.settings.corpus.unicode
        return TextEncoder(
            self.settings.tokenizer, self.vocab, self.spelling, self.tokenizer_model, unicode
        )


@dataclass(frozen=True)
class TrainedRun(RunParts):
    """The best language model of a run, with everything needed to use it."""

    model: LanguageModel

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

    def detokenizer(self) -> Detokenizer:
        """Return the detokenizer of the run's tokens."""
        folders = (self.folder, self.prepared)
        return build_detokenizer(self.settings.tokenizer.name, folders, self.tokenizer_model)


def load_run(folder: Path) -> TrainedRun:
    """Load the language model of a run (best.pt), or of an export.

    Args:
        folder: a run directory, an export, or a path inside one
            (``korlm.config.paths.run_directory``).

    Raises:
        CheckpointError: the folder has no model, a damaged one, or one of another task.
    """

    def build(parts: RunParts) -> LanguageModel:
        settings, vocab = parts.settings, parts.vocab
        if settings.task.name != LANGUAGE_MODELING:
            raise CheckpointError(
                f"{parts.folder}: a run of task={settings.task.name}, where a language model is "
                f"needed; use python -m korlm.predict run={parts.folder}"
            )
        refuse_reversed(parts)
        return build_model(settings.model, len(vocab), vocab.tokens)

    parts, model = load_model(folder, build)
    return TrainedRun(**vars(parts), model=model)


def refuse_reversed(run: RunParts) -> None:
    """Raise ``CheckpointError`` for a language model of reversed text."""
    if run.settings.corpus.reverse:
        raise CheckpointError(
            f"{run.folder}: a language model of reversed text (corpus.reverse=true), which "
            "only init=... of korlm.train can use"
        )


ModelT = TypeVar("ModelT", bound=nn.Module)


def load_model(folder: Path, build: Callable[[RunParts], ModelT]) -> tuple[RunParts, ModelT]:
    """Load best.pt of a run, or an export.

    Args:
        folder: see ``load_run``.
        build: function that returns an untrained model, given the contents of the run.

    Returns:
        The contents of the run, and its model in evaluation mode.

    Raises:
        CheckpointError: the folder has no model, or a damaged one.
    """
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
    with loading(path):
        entries = checkpoint["vocab"]
        vocab = Vocab.restore(entries["tokens"], entries["counts"], settings.vocab)
        arrays = {name: part.numpy() for name, part in checkpoint["spelling"].items()}
        spelling = CharNgramModel.from_arrays(arrays)
        # The settings may claim any size, and building such a model would exhaust the memory.
        num_weights = sum(part.numel() for part in checkpoint["model"].values())
        if settings.model.min_parameters(len(vocab)) > num_weights:
            raise ValueError(f"it has {num_weights:,} weights, fewer than they require")
        model_bytes = checkpoint.get("learned")
        parts = RunParts(
            folder=folder,
            settings=settings,
            vocab=vocab,
            spelling=spelling,
            prepared=Path(checkpoint["prepared"]),
            fingerprint=checkpoint["fingerprint"],
            tokenizer_model=None if model_bytes is None else model_bytes.numpy().tobytes(),
            labels=tuple(map(str, checkpoint.get("labels", ()))),
        )
        with enough_memory(str(path), "use a machine with more"):
            model = build(parts)
        model.load_state_dict(checkpoint["model"])
    return parts, model.eval()


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


def training_corpus(run: RunParts) -> Path:
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


def open_text(run: RunParts, folder: Path | None) -> Prepared:
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
    return {folder: load_run(Path(folder)) for folder in folders}


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
