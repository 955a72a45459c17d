"""Settings of the text: corpus, tokenizer, vocabulary, batches."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.base import MISSING, Group, path_field, paths_field
from korlm.errors import ConfigError


class Document(enum.Enum):
    """What one document of a text file is."""

    file = "file"
    blank_line = "blank_line"
    line = "line"


class Layout(enum.Enum):
    """How a file is laid out."""

    auto = "auto"
    txt = "txt"
    tsv = "tsv"
    csv = "csv"
    jsonl = "jsonl"


class Encoding(enum.Enum):
    """Encodings of Korean text files."""

    utf8 = "utf8"
    cp949 = "cp949"


class Mode(enum.Enum):
    """How ids become batches."""

    stream = "stream"
    sentence = "sentence"


class Engine(enum.Enum):
    """What runs Kkma."""

    fast = "fast"
    konlpy = "konlpy"


@dataclass
class TextConfig(Group):
    """How files of text are read, and what a document is."""

    _group: ClassVar[str] = "corpus"

    layout: Layout = Layout.auto
    # of all files; auto: what the ending of each says, .txt where it says nothing
    document: Document = Document.file
    # of .txt files: one document a file, parted by blank lines, or one a line
    encoding: Encoding = Encoding.utf8
    text_column: str = "text"
    # of .tsv, .csv and .jsonl: the column or key that holds the text; a number counts columns
    # from 1 in a file without a header
    document_column: str = ""
    # of .tsv, .csv and .jsonl: rows with the same value here are one document; empty: each row


@dataclass
class CorpusConfig(TextConfig):
    """Which text is read, and how its documents are dealt to the splits."""

    name: str = MISSING
    # stands in the name of the prepared folder
    files: list[str] = paths_field()
    # files, folders or globs whose documents are dealt to train, valid and test by a stable hash
    train: list[str] = paths_field()
    # files, folders or globs that belong to train as they are; the same for the next two
    valid: list[str] = paths_field()
    test: list[str] = paths_field()
    valid_share: float = 0.1
    # share of the documents of `files` that go to valid
    test_share: float = 0.1
    # share of the documents of `files` that go to test
    source: str = ""
    # where the text can be had; told when a file is missing

    def __post_init__(self) -> None:
        self._share("valid_share", "test_share")
        if self.valid_share + self.test_share >= 1:
            self._fail(
                "valid_share", f"leaves nothing for train beside test_share={self.test_share}"
            )
        if not self.name or any(c in self.name for c in "/\\ \t\n"):
            self._fail("name", "must be a word without blanks or slashes")
        if not (self.files or self.train):
            where = f" ({self.source})" if self.source else ""
            example = (
                "give corpus.files=[FILE,FOLDER,'GLOB'] or corpus.train=[...] corpus.valid=[...]"
            )
            raise ConfigError(f"corpus.files=[]: no text was named{where}; {example}")

    def without_effect(self) -> dict[str, str]:
        """See ``Group.without_effect``."""
        reason = "it deals the documents of corpus.files, which is empty"
        return {} if self.files else dict.fromkeys(("valid_share", "test_share"), reason)


@dataclass
class NsmcConfig(CorpusConfig):
    """The Naver sentiment movie corpus (Park 2015): 200,000 film reviews in two ratings files."""

    path: str = path_field("")
    # the folder that holds ratings_train.txt and ratings_test.txt

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError(
                "corpus.path is empty: fetch ratings_train.txt and ratings_test.txt from "
                f"{self.source} and give corpus.path=FOLDER"
            )
        super().__post_init__()


@dataclass
class TokenizerConfig(Group):
    """Which tokenizer, for those that need no settings."""

    _group: ClassVar[str] = "tokenizer"
    _names: ClassVar[tuple[str, ...]] = ("eojeol", "syllable", "jamo")

    name: str = MISSING

    def __post_init__(self) -> None:
        self._one_of("name", *self._names)


@dataclass
class WorkerConfig(TokenizerConfig):
    """Tokenizers that run in child processes: Kiwi and MeCab-ko, written in C++."""

    _names: ClassVar[tuple[str, ...]] = ("kiwi", "mecab")

    workers: int = 1
    # child processes, each with a dictionary of its own
    threads: int | None = None
    # analyzers in each of them; null: one for each core that this process may use, over all workers
    seconds_per_line: float = 10.0
    # of a line or a part of it; one that takes longer costs its worker a restart and is parted
    cache_mb: int = 2048
    # size of outputs/cache, which keeps what became of each line for other corpora; 0: no cache

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "workers", "threads")
        self._at_most(256, "workers", "threads")
        self._above(0, "seconds_per_line")
        self._at_least(0, "cache_mb")


@dataclass
class JavaConfig(WorkerConfig):
    """KoNLPy's Okt, Komoran and Hannanum, written in Java: each child process owns one JVM."""

    _names: ClassVar[tuple[str, ...]] = ("okt", "komoran", "hannanum")

    heap: int | None = None
    # largest heap of each JVM in MB; null: 768 and 128 for each thread

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(512, "heap")
        self._at_most(1 << 20, "heap")


@dataclass
class KkmaConfig(JavaConfig):
    """KoNLPy's Kkma; its dictionary takes 0.3 GB of each JVM."""

    _names: ClassVar[tuple[str, ...]] = ("kkma",)

    engine: Engine = Engine.fast
    # konlpy: KoNLPy's own, five to ten times slower; same tokens wherever it comes to an end
    guard: bool = True
    # bound the work on each word and cut those that are too much (아 sixteen times) into pieces


@dataclass
class SentencePieceConfig(TokenizerConfig):
    """Pieces that sentencepiece's unigram model learns from train."""

    _names: ClassVar[tuple[str, ...]] = ("sentencepiece",)

    vocab_size: int = 8000
    # pieces at most; a small text gives fewer
    character_coverage: float = 0.9995
    # share of train's characters that have pieces; the others, rare ones, stay as they are
    byte_fallback: bool = False
    # write characters without a piece as the bytes of their UTF-8 instead, one token each

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "vocab_size")
        self._at_most(1_000_000, "vocab_size")
        self._at_least(0.98, "character_coverage")  # sentencepiece takes no less
        self._at_most(1, "character_coverage")


@dataclass
class VocabConfig(Group):
    """Which tokens of train get an id of their own; all others become <unk>."""

    _group: ClassVar[str] = "vocab"

    min_freq: int = 2
    # a token must stand in train this often
    max_size: int | None = None
    # keep the most frequent tokens only; the four special tokens come on top
    lower: bool = False
    # lower-case all tokens
    numbers: bool = False
    # map every number to the one token <num>

    def __post_init__(self) -> None:
        self._at_least(1, "min_freq", "max_size")


@dataclass
class BatchesConfig(Group):
    """How ids become batches."""

    _group: ClassVar[str] = "batches"

    mode: Mode = MISSING
    batch_size: int = 20
    # columns of the stream, or sentences
    eval_batch_size: int = 10
    # the same in validation and test, where the state starts anew for each column
    bptt_length: int = 35
    # stream: tokens through which gradients flow back; sentence: longer sentences are cut there

    def __post_init__(self) -> None:
        self._at_least(1, "batch_size", "eval_batch_size", "bptt_length")
        self._at_most(1_000_000, "batch_size", "eval_batch_size", "bptt_length")
