"""Initialize encoders from trained language models (Howard and Ruder 2018).

With two language models, the encoder reads both directions (``PairedEncoder``, as in Peters et al.
2018). How the copied layers are then trained is set by ``trainer.gradual_unfreezing`` and
``optimizer.layer_lr_decay``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from korlm.config import RecurrentConfig, TrainSettings
from korlm.config.metrics import LANGUAGE_MODELING
from korlm.config.serialization import plain_settings, settings_from_plain
from korlm.dataset.prepare import TextEncoding
from korlm.dataset.prepared import open_prepared
from korlm.dataset.vocab import Vocab
from korlm.models.registry import build_model
from korlm.models.rnn import RecurrentLM
from korlm.modules.base import Trainable
from korlm.modules.encoder import PairedEncoder, RecurrentEncoder
from korlm.runs.trained_run import Run, TrainedRun, check_same_vocab
from korlm.tokenizers.registry import tokenizer_version
from korlm.utils.errors import ConfigError

logger = logging.getLogger(__name__)

# Settings of a model that are those of the language models whose weights it takes: any others
# would need other weights, or compute something else from them. Only model=rnn has the last one.
ARCHITECTURE_KEYS = (
    *("embedding_dim", "hidden_dim", "num_layers", "tie_weights", "subword_embedding"),
    *("layer_norm", "initial_state", "initial_state_std", "nonlinearity"),
)


@dataclass(frozen=True)
class InitialRun(TrainedRun):
    """A run of the setting ``init``, whose language model may read text backwards."""

    model: RecurrentLM

    @classmethod
    def build_model(
        cls, folder: Path, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]
    ) -> RecurrentLM:
        """See ``Run.build_model``."""
        task, config = settings.task.name, settings.model
        if task != LANGUAGE_MODELING or not isinstance(config, RecurrentConfig):
            raise ConfigError(
                f"init={folder}: is a run of task={task} with model={config.name}; a "
                "language model with model=lstm, gru or rnn is needed"
            )
        model = build_model(config, len(vocab), vocab.tokens)
        assert isinstance(model, RecurrentLM)
        return model


def load_language_models(settings: TrainSettings) -> list[InitialRun]:
    """Load the runs of the setting ``init``: the forward language model, then the backward one.

    Raises:
        CheckpointError: a run is missing or damaged.
        ConfigError: a run is not a recurrent language model, or does not fit the settings or the
            other run.
    """
    if settings.prepared is not None:  # the settings that its text was prepared with
        manifest = open_prepared(Path(settings.prepared)).manifest
        settings = settings_from_plain({**plain_settings(settings), **manifest["settings"]})
    runs = [InitialRun.load(Path(folder)) for folder in settings.init]
    first = runs[0]
    for number, run in enumerate(runs):
        if (name := run.settings.model.name) != settings.model.name:
            raise ConfigError(
                f"init={run.folder}: has model={name}, this run model={settings.model.name}; give "
                f"model={name}"
            )
        _check_text(run, settings)
        if run.settings.corpus.reverse != (number == 1):
            raise ConfigError(
                f"init={run.folder}: must be a {'back' if number else 'for'}ward language model "
                f"(corpus.reverse={str(number == 1).lower()}); the forward one comes first"
            )
        if run.tokenizer_model != first.tokenizer_model:
            raise ConfigError(
                f"init={run.folder}: its {settings.tokenizer.name} model differs from that of "
                f"{first.folder}; train both on the same text"
            )
        check_same_vocab(f"init={first.folder}", first.vocab, f"init={run.folder}", run.vocab)
        for key in _architecture_keys(run):
            if getattr(run.settings.model, key) != getattr(first.settings.model, key):
                raise ConfigError(
                    f"init={run.folder}: its model.{key} differs from that of {first.folder}"
                )
    return runs


def _check_text(run: Run, settings: TrainSettings) -> None:
    """Raise ``ConfigError`` if the run reads text in another way than a language model."""
    unicode = run.settings.corpus.unicode
    if unicode is not settings.corpus.unicode:
        raise ConfigError(
            f"init={run.folder}: was trained with corpus.unicode={unicode.value}, this run has "
            f"corpus.unicode={settings.corpus.unicode.value}; give corpus.unicode={unicode.value}"
        )
    theirs, ours = run.settings.tokenizer, settings.tokenizer
    if theirs.name != ours.name:
        raise ConfigError(
            f"init={run.folder}: was trained with tokenizer={theirs.name}, this run has "
            f"tokenizer={ours.name}; give tokenizer={theirs.name}"
        )
    # A user dictionary or a tokenizer.json of the language model need not be given again.
    has_own_file = any(getattr(ours, key, None) is not None for key in ("user_dictionary", "file"))
    our_model = None if has_own_file else run.tokenizer_model
    if tokenizer_version(theirs, run.tokenizer_model) != tokenizer_version(ours, our_model):
        raise ConfigError(f"init={run.folder}: has other settings of tokenizer={ours.name}")


def _architecture_keys(run: Run) -> list[str]:
    return [key for key in ARCHITECTURE_KEYS if hasattr(run.settings.model, key)]


def adopt_language_model_settings(
    settings: TrainSettings, overrides: list[str]
) -> tuple[TrainSettings, TextEncoding]:
    """Return settings that agree with the language models of ``init``, and their tokens.

    The architecture and the vocabulary are those of the language models.

    Raises:
        ConfigError: see ``load_language_models``; or an override contradicts the language models.
    """
    run = load_language_models(settings)[0]
    architecture = {key: getattr(run.settings.model, key) for key in _architecture_keys(run)}
    copied = [("model", key) for key in architecture]
    copied += [("vocab", field.name) for field in dataclasses.fields(settings.vocab)]
    overridden = {override.lstrip("+").partition("=")[0] for override in overrides}
    for group, key in copied:
        own = getattr(getattr(settings, group), key)
        value = getattr(getattr(run.settings, group), key)
        if f"{group}.{key}" in overridden and own != value:
            shown = "null" if value is None else getattr(value, "value", value)
            raise ConfigError(
                f"{group}.{key}: the language model init={run.folder} has {shown}; leave it out"
            )
    model = dataclasses.replace(settings.model, **architecture)
    encoding = TextEncoding(run.vocab, run.tokenizer_model)
    return dataclasses.replace(settings, model=model, vocab=run.settings.vocab), encoding


def initialize(model: Trainable, settings: TrainSettings, vocab: Vocab) -> None:
    """Copy embeddings and recurrent layers of language models into the encoder of a new model.

    With one language model and a bidirectional encoder, the backward direction gets its embedding
    only. Features of tokens other than embeddings (``task.ngram_dim``) start from random weights.
    The encoder is ``model.encoder`` or, where language models stay as they are,
    ``model.language_models``.

    Raises:
        VocabError: the vocabulary of the corpus is not that of the language models.
    """
    runs = load_language_models(settings)
    check_same_vocab(f"init={settings.init[0]}", runs[0].vocab, "the corpus", vocab)
    # Language models that stay as they are, or else the encoder itself.
    encoder = getattr(model, "language_models", None) or model.encoder
    if isinstance(encoder, PairedEncoder):
        encoders = [encoder.forward_encoder, encoder.backward_encoder]
    else:
        assert isinstance(encoder, RecurrentEncoder)
        encoders = [encoder]
    for number, part in enumerate(encoders):
        source = runs[min(number, len(runs) - 1)].model
        part.embedding.load_state_dict(source.embedding.state_dict())
        if number < len(runs):
            _copy_layers(source.encoder, part)
    logger.info("encoder initialized from %s", " and ".join(settings.init))


@torch.no_grad()
def _copy_layers(source: RecurrentEncoder, target: RecurrentEncoder) -> None:
    """Copy recurrent layers; weights of inputs that the source has not are kept as they are.

    Only the first layer can have such inputs: the features of tokens.
    """
    for theirs, ours in zip(source.layers, target.layers, strict=True):
        weight_ih = ours.weight_ih.clone()  # (G * H, E + features)
        weight_ih[:, : theirs.weight_ih.shape[1]] = theirs.weight_ih
        ours.load_state_dict({**theirs.state_dict(), "weight_ih": weight_ih})
