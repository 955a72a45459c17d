"""Advice on settings and text that make a poor model, one log line each."""

from __future__ import annotations

import math

from korlm.config import TrainerConfig, VocabConfig
from korlm.dataset.prepared import SplitStats

# Below this number of optimizer steps a neural model may be worse than an n-gram model. Valid
# perplexity of the default LSTM on konlpy's texts (24,482 training tokens, 35 steps per epoch):
# 91.0 after 4 epochs (140 steps), 46.5 after 10 (350), 36.5 after 30 (1,050); of a 5-gram model
# 41.9.
FEW_STEPS = 500
MAX_UNK_RATIO = 0.5  # with more unknown tokens perplexity means little

PERPLEXITIES = (
    "the two perplexities of an epoch are not comparable: train is averaged over the epoch while "
    "the model learns, with dropout; valid is measured after it, without; the final table measures "
    "all splits the same way"
)


def on_steps(config: TrainerConfig, steps_per_epoch: int, total_steps: int) -> str:
    """Return advice for a neural model with too few optimizer steps; empty if there are enough.

    >>> on_steps(TrainerConfig(epochs=30), 35, 1050)
    ''
    >>> print(on_steps(TrainerConfig(epochs=4), 35, 140))
    ... # doctest: +NORMALIZE_WHITESPACE
    only 140 optimizer steps: below 500 an n-gram model is often better than a neural one;
    train longer (trainer.epochs=15) or use model=ngram
    """
    if total_steps >= FEW_STEPS:
        return ""
    epochs = math.ceil(FEW_STEPS / max(steps_per_epoch, 1))
    overrides = [f"trainer.epochs={epochs}"] if epochs > config.epochs else []
    if config.max_steps is not None and config.max_steps < FEW_STEPS:
        overrides.append(f"trainer.max_steps={FEW_STEPS}")
    one_pass = ", train one epoch with experiment=one_pass" if config.epochs == 1 else ""
    return (
        f"only {total_steps:,} optimizer steps: below {FEW_STEPS} an n-gram model is often better "
        f"than a neural one; train longer ({' '.join(overrides)}){one_pass} or use model=ngram"
    )


def on_unknown(valid: SplitStats, vocab: VocabConfig) -> str:
    """Return advice if most tokens of the validation split are unknown; empty otherwise."""
    unk_ratio = valid.num_unk / max(valid.num_tokens, 1)
    if unk_ratio <= MAX_UNK_RATIO:
        return ""
    vocab_hint = f"lower vocab.min_freq={vocab.min_freq}, " if vocab.min_freq > 1 else ""
    if vocab.max_size is not None:
        vocab_hint += f"raise vocab.max_size={vocab.max_size}, "
    return (
        f"{unk_ratio:.0%} of the tokens of valid are unknown, so perplexity means little: "
        f"{vocab_hint}choose a tokenizer with smaller units (kkma, sentencepiece, syllable), or "
        "add text"
    )
