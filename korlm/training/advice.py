"""Advice where settings or text keep a model from becoming good, one line of the log each."""

from __future__ import annotations

import math
from typing import Protocol

from korlm.config import TrainerConfig, VocabConfig

# Optimizer steps below which a network may be worse than an n-gram model. Valid perplexity of the
# LSTM on konlpy's texts (24,482 tokens of train, 35 steps an epoch), schedule and all else as by
# default: 91.0 after 4 epochs (140 steps), 46.5 after 10 (350), 36.5 after 30 (1,050); a 5-gram
# model has 41.9.
FEW_STEPS = 500
MOST = 0.5  # share of unknown tokens from which perplexity says little

PERPLEXITIES = (
    "the two perplexities of an epoch are not comparable: train is averaged over the epoch while "
    "the model learns, with dropout; valid is measured after it, without; the table at the end "
    "measures all splits alike"
)


class Counts(Protocol):
    """Counts of a split."""

    @property
    def num_tokens(self) -> int:
        """All tokens."""

    @property
    def num_unk(self) -> int:
        """The unknown ones."""


def on_steps(config: TrainerConfig, epoch_steps: int, total_steps: int) -> str:
    """Return advice for a network with too few optimizer steps; empty if there are enough.

    Args:
        config: says how long to train.
        epoch_steps: optimizer steps of a pass over train.
        total_steps: of the whole run.

    >>> on_steps(TrainerConfig(epochs=30), 35, 1050)
    ''
    >>> print(on_steps(TrainerConfig(epochs=4), 35, 140))
    ... # doctest: +NORMALIZE_WHITESPACE
    only 140 optimizer steps: below 500 an n-gram model is often better than a network;
    train longer (trainer.epochs=15) or use model=ngram
    """
    if total_steps >= FEW_STEPS:
        return ""
    epochs = math.ceil(FEW_STEPS / max(epoch_steps, 1))
    longer = [f"trainer.epochs={epochs}"] if epochs > config.epochs else []
    if config.max_steps is not None and config.max_steps < FEW_STEPS:
        longer.append(f"trainer.max_steps={FEW_STEPS}")
    once = ", read a text once with experiment=one_pass" if config.epochs == 1 else ""
    return (
        f"only {total_steps:,} optimizer steps: below {FEW_STEPS} an n-gram model is often better "
        f"than a network; train longer ({' '.join(longer)}){once} or use model=ngram"
    )


def on_unknown(valid: Counts, vocab: VocabConfig) -> str:
    """Return advice where most tokens of valid are unknown; empty if most are known.

    Args:
        valid: counts of valid.
        vocab: which tokens of train are known.
    """
    if valid.num_unk <= MOST * valid.num_tokens:
        return ""
    lower = f"lower vocab.min_freq={vocab.min_freq}, " if vocab.min_freq > 1 else ""
    if vocab.max_size is not None:
        lower += f"raise vocab.max_size={vocab.max_size}, "
    share = valid.num_unk / valid.num_tokens
    return (
        f"{share:.0%} of the tokens of valid are unknown, and perplexity says "
        f"little: {lower}choose a tokenizer with smaller units (kkma, sentencepiece, "
        "syllable), or give more text"
    )
