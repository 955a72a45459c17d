"""Settings of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from korlm.config.registry import register
from korlm.config.validation import Group, setting


@register("vocab", "vocab")
@dataclass
class VocabConfig(Group):
    """Vocabulary: tokens of train with ids of their own; all others are <unk>."""

    _group: ClassVar[str] = "vocab"

    min_freq: int = setting(2, "Smallest frequency in train of a token in the vocabulary.", min=1)
    max_size: int | None = setting(
        None, "Keep the most frequent tokens only, in addition to four special tokens.", min=1
    )
    lowercase: bool = setting(False, "Lowercase all tokens.", renamed_from="lower")
    normalize_numbers: bool = setting(
        False, "Replace every number by the token <num>.", renamed_from="numbers"
    )
    file: str | None = setting(
        None,
        "Use exactly these tokens: a file with one on each line, or a vocab.tsv; null: those of "
        "train.",
        is_path=True,
    )

    def without_effect(self) -> dict[str, str]:
        if self.file is None:
            return {}
        return dict.fromkeys(("min_freq", "max_size"), "vocab.file has the tokens")
