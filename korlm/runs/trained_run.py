"""Trained runs, opened: what every command that uses a model begins with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from korlm.config import Mode, TrainSettings
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
from korlm.runs.checkpoint import load_checkpoint, settings_of
from korlm.runs.safetensors import MODEL, load_weights
from korlm.utils.errors import (
    CheckpointError,
    ConfigError,
    PreparedError,
    VocabError,
    enough_memory,
)


@dataclass(frozen=True)
class TrainedRun:
    """The best model of a run, and what it takes to use it.

    Attributes:
        folder: the run directory.
        settings: that it was trained with.
        vocab: that it knows.
        spelling: what it costs to spell what is not in there.
        model: on the CPU, in evaluation mode.
        prepared: the folder where its text lay.
        fingerprint: of that text.
        learned: by its tokenizer from train, if it had to learn something.
    """

    folder: Path
    settings: TrainSettings
    vocab: Vocab
    spelling: CharNgramModel
    model: LanguageModel
    prepared: Path
    fingerprint: str
    learned: bytes | None

    @property
    def start_id(self) -> int:
        """What the model was given before the first token of a sentence."""
        return EOS_ID if self.settings.batches.mode is Mode.stream else BOS_ID

    def reader(self) -> TextEncoder:
        """Reads any text as the run's own was read; a context manager."""
        unicode = self.settings.corpus.unicode
        return TextEncoder(
            self.settings.tokenizer, self.vocab, self.spelling, self.learned, unicode
        )

    def detokenizer(self) -> Detokenizer:
        """Writes the run's tokens as Korean text."""
        return build_detokenizer(self.settings.tokenizer.name, (self.folder, self.prepared))


def load_run(folder: Path) -> TrainedRun:
    """Opens a run by its best.pt, or what korlm.export has made of it.

    Args:
        folder: a run directory, an export, or a path inside one
            (``korlm.config.paths.run_directory``).

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    folder = run_directory(folder)
    if (path := folder / MODEL).is_file():
        checkpoint = load_weights(folder)
    elif (path := folder / "checkpoints" / "best.pt").is_file():
        checkpoint = load_checkpoint(path)
    else:
        raise CheckpointError(
            f"{folder}: no checkpoints/best.pt in there; give the directory of a run that has come "
            "to its first validation, or of an export with model.safetensors"
        )
    try:
        settings = settings_from_plain(settings_of(checkpoint, path), [])
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    words = checkpoint["vocab"]
    try:
        vocab = Vocab.restore(words["tokens"], words["counts"], settings.vocab)
        parts = {name: part.numpy() for name, part in checkpoint["spelling"].items()}
        spelling = CharNgramModel.from_arrays(parts)
        # A file may claim any size, and building such a model would fill the memory.
        numbers = sum(part.numel() for part in checkpoint["model"].values())
        if settings.model.min_parameters(len(vocab)) > numbers:
            raise ValueError(f"it holds {numbers:,} weights, which are fewer than they ask for")
        with enough_memory(str(path), "use a machine with more"):
            model = build_model(settings.model, len(vocab), vocab.tokens)
        model.load_state_dict(checkpoint["model"])
        prepared = Path(checkpoint["prepared"])
        learned = checkpoint.get("learned")
        learned = None if learned is None else learned.numpy().tobytes()
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: does not fit its own settings ({reason})") from error
    fingerprint = checkpoint["fingerprint"]
    return TrainedRun(
        folder, settings, vocab, spelling, model.eval(), prepared, fingerprint, learned
    )


def short_names(folders: Sequence[Path]) -> list[str]:
    """A name for each of several runs: what follows date and time, if that tells them apart.

    >>> short_names([Path("runs/2026-11-21_18-10-22_lstm"), Path("runs/2026-11-21_18-25-25_gru")])
    ['lstm', 'gru']
    """
    stamp = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_(?=.)")
    whole = [folder.resolve().name for folder in folders]
    short = [stamp.sub("", name) for name in whole]
    for names in (short, whole):
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def open_text(run: TrainedRun, folder: Path | None) -> Prepared:
    """The text that a run was trained on, where it lay or where it lies now.

    Args:
        run: whose vocabulary the text must have.
        folder: a prepared corpus; None: where the run's own lay.

    Raises:
        PreparedError: it is gone, damaged or has changed.
        VocabError: it has another vocabulary.
    """
    if folder is None:
        if not run.prepared.is_dir():
            raise PreparedError(
                f"{run.prepared}: the prepared corpus of {run.folder} is gone; give prepared=DIR "
                "where it lies now, or prepare the same text again"
            )
        return open_prepared(run.prepared, run.fingerprint)
    prepared = open_prepared(folder)
    check_same_vocab(f"run={run.folder}", run.vocab, f"prepared={folder}", prepared.vocab)
    return prepared


def check_same_vocab(name: str, vocab: Vocab, other_name: str, other: Vocab) -> None:
    """Refuses two vocabularies that give the same id to different tokens.

    Raises:
        VocabError: naming both, and the first token that differs.
    """
    if vocab.tokens == other.tokens:
        return
    pairs = zip(vocab.tokens, other.tokens, strict=False)
    differing = [(i, a, b) for i, (a, b) in enumerate(pairs) if a != b][:1]
    where = "".join(f"; id {i} is {a!r} in the one and {b!r} in the other" for i, a, b in differing)
    raise VocabError(
        f"{other_name}: not the vocabulary of {name} ({len(vocab):,} tokens against "
        f"{len(other):,}{where}); train both on the same prepared=DIR"
    )
