"""Initialize encoders from trained language models (Howard and Ruder 2018).

With two language models, the encoder reads both directions (``PairedEncoder``, as in Peters et al.
2018). How the copied layers are then trained is set by ``trainer.gradual_unfreezing`` and
``optimizer.layer_lr_decay``.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from korlm.config import RecurrentConfig, TrainSettings
from korlm.config.metrics import LANGUAGE_MODELING
from korlm.config.serialization import plain_settings, settings_from_plain
from korlm.dataset.prepare import TextEncoding
from korlm.dataset.prepared import open_prepared
from korlm.dataset.vocab import Vocab
from korlm.models.registry import build_model
from korlm.models.rnn import RecurrentLM
from korlm.modules.encoder import PairedEncoder, RecurrentEncoder
from korlm.modules.trainable import Trainable
from korlm.runs.trained_run import RunParts, check_same_vocab, load_model
from korlm.tokenizers.registry import tokenizer_version
from korlm.utils.errors import ConfigError

logger = logging.getLogger(__name__)

# Settings of a model that are those of the language models whose weights it takes: any others
# would need other weights, or compute something else from them. Only model=rnn has the last one.
ARCHITECTURE_KEYS = (
    *("embedding_dim", "hidden_dim", "num_layers", "tie_weights", "subword_embedding"),
    *("layer_norm", "initial_state", "initial_state_std", "nonlinearity"),
)


def load_language_models(settings: TrainSettings) -> list[tuple[RunParts, RecurrentLM]]:
    """Load the runs of the setting ``init``: the forward language model, then the backward one.

    Raises:
        CheckpointError: a run is missing or damaged.
        ConfigError: a run is not a recurrent language model, or does not fit the settings or the
            other run.
    """

    def build(parts: RunParts) -> Any:
        task, config = parts.settings.task.name, parts.settings.model
        if task != LANGUAGE_MODELING or not isinstance(config, RecurrentConfig):
            raise ConfigError(
                f"init={parts.folder}: is a run of task={task} with model={config.name}; a "
                "language model with model=lstm, gru or rnn is needed"
            )
        if config.name != settings.model.name:
            raise ConfigError(
                f"init={parts.folder}: has model={config.name}, this run model="
                f"{settings.model.name}; give model={config.name}"
            )
        return build_model(config, len(parts.vocab), parts.vocab.tokens)

    if settings.prepared is not None:  # the settings that its text was prepared with
        manifest = open_prepared(Path(settings.prepared)).manifest
        settings = settings_from_plain({**plain_settings(settings), **manifest["settings"]})
    runs = [load_model(Path(folder), build) for folder in settings.init]
    first = runs[0][0]
    for number, (parts, _) in enumerate(runs):
        _check_text(parts, settings)
        if parts.settings.corpus.reverse != (number == 1):
            raise ConfigError(
                f"init={parts.folder}: must be a {'back' if number else 'for'}ward language model "
                f"(corpus.reverse={str(number == 1).lower()}); the forward one comes first"
            )
        if parts.tokenizer_model != first.tokenizer_model:
            raise ConfigError(
                f"init={parts.folder}: its {settings.tokenizer.name} model differs from that of "
                f"{first.folder}; train both on the same text"
            )
        check_same_vocab(f"init={first.folder}", first.vocab, f"init={parts.folder}", parts.vocab)
        for key in _architecture_keys(parts):
            if getattr(parts.settings.model, key) != getattr(first.settings.model, key):
                raise ConfigError(
                    f"init={parts.folder}: its model.{key} differs from that of {first.folder}"
                )
    return runs


def _check_text(parts: RunParts, settings: TrainSettings) -> None:
    """Raise ``ConfigError`` if the run reads text in another way than a language model."""
    unicode = parts.settings.corpus.unicode
    if unicode is not settings.corpus.unicode:
        raise ConfigError(
            f"init={parts.folder}: was trained with corpus.unicode={unicode.value}, this run has "
            f"corpus.unicode={settings.corpus.unicode.value}; give corpus.unicode={unicode.value}"
        )
    theirs, ours = parts.settings.tokenizer, settings.tokenizer
    if theirs.name != ours.name:
        raise ConfigError(
            f"init={parts.folder}: was trained with tokenizer={theirs.name}, this run has "
            f"tokenizer={ours.name}; give tokenizer={theirs.name}"
        )
    # A user dictionary or a tokenizer.json of the language model need not be given again.
    has_own_file = any(getattr(ours, key, None) is not None for key in ("user_dictionary", "file"))
    our_model = None if has_own_file else parts.tokenizer_model
    if tokenizer_version(theirs, parts.tokenizer_model) != tokenizer_version(ours, our_model):
        raise ConfigError(f"init={parts.folder}: has other settings of tokenizer={ours.name}")


def _architecture_keys(parts: RunParts) -> list[str]:
    return [key for key in ARCHITECTURE_KEYS if hasattr(parts.settings.model, key)]


def adopt_language_model_settings(
    settings: TrainSettings, overrides: list[str]
) -> tuple[TrainSettings, TextEncoding]:
    """Return settings that agree with the language models of ``init``, and their tokens.

    The architecture and the vocabulary are those of the language models.

    Raises:
        ConfigError: see ``load_language_models``; or an override contradicts the language models.
    """
    parts, _ = load_language_models(settings)[0]
    architecture = {key: getattr(parts.settings.model, key) for key in _architecture_keys(parts)}
    copied = [("model", key) for key in architecture]
    copied += [("vocab", field.name) for field in dataclasses.fields(settings.vocab)]
    overridden = {override.lstrip("+").partition("=")[0] for override in overrides}
    for group, key in copied:
        own = getattr(getattr(settings, group), key)
        value = getattr(getattr(parts.settings, group), key)
        if f"{group}.{key}" in overridden and own != value:
            shown = "null" if value is None else getattr(value, "value", value)
            raise ConfigError(
                f"{group}.{key}: the language model init={parts.folder} has {shown}; leave it out"
            )
    model = dataclasses.replace(settings.model, **architecture)
    encoding = TextEncoding(parts.vocab, parts.tokenizer_model)
    return dataclasses.replace(settings, model=model, vocab=parts.settings.vocab), encoding


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
    check_same_vocab(f"init={settings.init[0]}", runs[0][0].vocab, "the corpus", vocab)
    # Language models that stay as they are, or else the encoder itself.
    encoder = getattr(model, "language_models", None) or model.encoder
    if isinstance(encoder, PairedEncoder):
        encoders = [encoder.forward_encoder, encoder.backward_encoder]
    else:
        assert isinstance(encoder, RecurrentEncoder)
        encoders = [encoder]
    for number, part in enumerate(encoders):
        source = runs[min(number, len(runs) - 1)][1]
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
