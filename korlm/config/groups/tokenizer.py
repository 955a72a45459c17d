"""Settings of tokenizers and of the vocabulary."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.registry import register
from korlm.config.validation import Group, NamedGroup, setting
from korlm.utils.errors import ConfigError


class KkmaEngine(enum.Enum):
    """Implementations of Kkma."""

    fast = "fast"
    konlpy = "konlpy"


@register(
    "tokenizer",
    "eojeol",
    builds="korlm.tokenizers.text_units:EojeolTokenizer",
    detokenizer="korlm.detokenizers.base:EojeolDetokenizer",
)
@register(
    "tokenizer",
    "syllable",
    builds="korlm.tokenizers.text_units:SyllableTokenizer",
    detokenizer="korlm.detokenizers.base:SyllableDetokenizer",
)
@register(
    "tokenizer",
    "jamo",
    builds="korlm.tokenizers.text_units:JamoTokenizer",
    detokenizer="korlm.detokenizers.base:JamoDetokenizer",
)
@dataclass
class TokenizerConfig(NamedGroup):
    """Tokenizers without settings."""

    _group: ClassVar[str] = "tokenizer"


@register("tokenizer", "kiwi", builds="korlm.tokenizers.cpp_taggers:Kiwi")
@register("tokenizer", "mecab", builds="korlm.tokenizers.cpp_taggers:Mecab")
@dataclass
class WorkerConfig(TokenizerConfig):
    """Tokenizers in child processes: Kiwi and MeCab-ko, written in C++."""

    workers: int = setting(
        1, "Child processes, each with its own copy of the dictionary.", min=1, max=256
    )
    threads: int | None = setting(
        None,
        "Analyzer threads of each worker; null: one per available core, divided among the workers.",
        min=1,
        max=256,
    )
    line_timeout_s: float = setting(
        10.0,
        "CPU time limit of a line or a part of it, or ten times as long by the clock (on macOS and "
        "Windows once by the clock); beyond it the worker restarts and the line is split. Kkma's "
        "fast engine counts steps instead.",
        unit="seconds",
        above=0,
        renamed_from="seconds_per_line",
    )
    cache_size_mb: int = setting(
        2048,
        "Size of outputs/cache, which keeps the analysis of each line for other corpora; 0: none.",
        unit="MB",
        min=0,
        renamed_from="cache_mb",
    )


@register("tokenizer", "okt", builds="korlm.tokenizers.konlpy_taggers:Okt")
@register("tokenizer", "komoran", builds="korlm.tokenizers.konlpy_taggers:Komoran")
@register("tokenizer", "hannanum", builds="korlm.tokenizers.konlpy_taggers:Hannanum")
@dataclass
class JavaConfig(WorkerConfig):
    """KoNLPy's Okt, Komoran and Hannanum, written in Java: each child process has one JVM."""

    heap_mb: int | None = setting(
        None,
        "Maximum heap of each JVM; null: 768 + 128 per thread, but at most half of the memory, "
        "divided among the workers.",
        unit="MB",
        min=512,
        max=1 << 20,
        renamed_from="heap",
    )


# With engine=fast a pool starts korlm.tokenizers.kkma.process.KkmaProcess instead.
@register("tokenizer", "kkma", builds="korlm.tokenizers.kkma.engine:KonlpyKkma")
@dataclass
class KkmaConfig(JavaConfig):
    """KoNLPy's Kkma, or the fast engine with the same tokens."""

    engine: KkmaEngine = setting(
        KkmaEngine.fast,
        "konlpy: KoNLPy's own, five to ten times slower, with the same tokens where it terminates.",
    )
    limit_work: bool = setting(
        True,
        "Cut words with too many analyses (such as 40 times ㄷ) into pieces; false: such a word is "
        "one token with the tag UN. Work per word is bounded in both cases.",
        renamed_from="guard",
    )
    user_dictionary: str | None = setting(
        None,
        "File of words to add to Kkma's dictionary: word, tab and tags on each line, or the "
        "format of Kkma's files. Runs keep a copy.",
        is_path=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.user_dictionary is not None and self.engine is KkmaEngine.konlpy:
            raise ConfigError(
                f"tokenizer.user_dictionary={self.user_dictionary}: KoNLPy's engine has no user "
                "dictionary; use tokenizer.engine=fast"
            )


@register(
    "tokenizer",
    "sentencepiece",
    builds="korlm.tokenizers.subwords.sentencepiece_unigram:SentencePieceTokenizer",
    detokenizer="korlm.detokenizers.base:SentencePieceDetokenizer",
)
@dataclass
class SentencePieceConfig(TokenizerConfig):
    """Pieces that sentencepiece's unigram model learns from train, or those of a given model."""

    vocab_size: int = setting(
        8000, "Maximum number of pieces; a small text yields fewer.", min=1, max=1_000_000
    )
    character_coverage: float = setting(
        0.9995,
        "Fraction of the characters of train that pieces cover; rare characters stay as they are.",
        min=0.98,  # the smallest value that sentencepiece accepts
        max=1,
    )
    byte_fallback: bool = setting(
        False, "Write uncovered characters as UTF-8 bytes, one token each."
    )
    file: str | None = setting(
        None,
        "Use this model of sentencepiece, of any type; null: learn one from train. Runs keep a "
        "copy.",
        is_path=True,
    )

    def without_effect(self) -> dict[str, str]:
        if self.file is None:
            return {}
        keys = ("vocab_size", "character_coverage", "byte_fallback")
        return dict.fromkeys(keys, "tokenizer.file is a trained model")


@register(
    "tokenizer",
    "huggingface",
    builds="korlm.tokenizers.subwords.huggingface:HuggingFaceTokenizer",
    detokenizer="korlm.detokenizers.huggingface:HuggingFaceDetokenizer",
)
@dataclass
class HuggingFaceConfig(TokenizerConfig):
    """A tokenizer of Hugging Face, given as its file tokenizer.json."""

    file: str | None = setting(
        None, "The file tokenizer.json; required. Runs keep a copy.", is_path=True
    )


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
