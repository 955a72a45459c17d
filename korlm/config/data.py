"""Settings of the text: corpus, tokenizer, vocabulary, batches."""

from __future__ import annotations

import codecs
import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.validation import MISSING, Group, path_field, paths_field, setting
from korlm.utils.errors import ConfigError


class DocumentUnit(enum.Enum):
    """What one document of a text file is."""

    file = "file"
    blank_line = "blank_line"
    line = "line"


class CorpusFormat(enum.Enum):
    """How a file is laid out."""

    auto = "auto"
    txt = "txt"
    tsv = "tsv"
    csv = "csv"
    jsonl = "jsonl"
    json = "json"


class Encoding(enum.Enum):
    """Encodings of Korean text files."""

    utf8 = "utf8"
    cp949 = "cp949"
    johab = "johab"
    utf16 = "utf16"
    utf16le = "utf16le"
    utf16be = "utf16be"


# Names of Python's codecs; EUC-KR files of Windows programs hold characters of cp949 as well.
_ENCODINGS = {
    "utf-8": Encoding.utf8,
    "utf-8-sig": Encoding.utf8,
    "ascii": Encoding.utf8,
    "cp949": Encoding.cp949,
    "euc_kr": Encoding.cp949,
    "johab": Encoding.johab,
    "utf-16": Encoding.utf16,
    "utf-16-le": Encoding.utf16le,
    "utf-16-be": Encoding.utf16be,
}


class Separator(enum.Enum):
    """What stands between the columns of a table."""

    auto = "auto"
    tab = "tab"
    comma = "comma"
    semicolon = "semicolon"
    pipe = "pipe"


class Quoting(enum.Enum):
    """What a double quote means in a table."""

    auto = "auto"
    csv = "csv"
    none = "none"


class Unicode(enum.Enum):
    """Normalization of the lines that tokenizers see."""

    nfc = "nfc"
    nfkc = "nfkc"
    none = "none"


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

    format: CorpusFormat = setting(CorpusFormat.auto, renamed_from="layout")
    # of all files; auto: what the ending of each says, .txt where it says nothing
    document_unit: DocumentUnit = setting(DocumentUnit.file, renamed_from="document")
    # of .txt files: one document a file, parted by blank lines, or one a line
    encoding: str = "utf8"
    # utf8, cp949 (also for EUC-KR), johab, utf16, utf16le or utf16be; usual spellings such as
    # UTF-8 and euc-kr are accepted, and a byte-order mark at the start of a file comes first
    text_column: str = "text"
    # of tables and JSON: the column or key that holds the text. A number counts columns from 1 in a
    # file without a header; in JSON, data.doc.text is a path of keys through objects and lists
    document_column: str = ""
    # of tables and JSON: rows with the same value here are one document; empty: each row is one (in
    # .json each item of the outermost list on the path of the text)
    separator: Separator = Separator.auto
    # of the columns of .tsv and .csv: tab, comma, semicolon or pipe; auto: the one that finds the
    # named columns in the header, else what the ending says
    quoting: Quoting = Quoting.auto
    # csv: a cell in double quotes may hold separators, line ends and doubled quotes; none: a quote
    # is text; auto: csv for .csv, and for .tsv if the whole file can only be read so
    skip_without_text: bool = False
    # leave out rows of JSON without a string as their text (null, number, list, no such key)
    # instead of refusing the file; how many is reported

    def __post_init__(self) -> None:
        self.encoding = self._encoding().value
        if not self.text_column:
            self._fail("text_column", "must name a column, a key or a number from 1")

    def _encoding(self) -> Encoding:
        name = "".join(c for c in self.encoding.lower() if c.isalnum())
        try:
            return _ENCODINGS[codecs.lookup(self.encoding.replace("windows-", "cp")).name]
        except (LookupError, ValueError):
            known = {encoding.value: encoding for encoding in Encoding}
            if name in known:
                return known[name]
            self._fail("encoding", f"must be {', '.join(known)}, or another name of one of them")
            raise


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
    valid_fraction: float = setting(0.1, renamed_from="valid_share")
    # share of the documents of `files` that go to valid
    test_fraction: float = setting(0.1, renamed_from="test_share")
    # share of the documents of `files` that go to test
    unicode: Unicode = Unicode.nfc
    # what tokenizers see of a line: nfc, or nfkc (full-width letters and ligatures become plain
    # ones, and ㅋ a conjoining letter), both without invisible characters (U+200B, U+FEFF, soft
    # hyphens, marks of direction, variation selectors); none: the line as it is. Commands that use
    # a trained model read every text as the model's own was read
    source: str = ""
    # where the text can be had; told when a file is missing

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("valid_fraction", "test_fraction")
        if self.valid_fraction + self.test_fraction >= 1:
            self._fail(
                "valid_fraction",
                f"leaves nothing for train beside test_fraction={self.test_fraction}",
            )
        if not self.name or any(c in self.name for c in "/\\ \t\n"):
            self._fail("name", "must be a word without blanks or slashes")
        if not (self.files or self.train):
            where = f" ({self.source})" if self.source else ""
            example = (
                "give 'corpus.files=[FILE,FOLDER,GLOB]' or 'corpus.train=[...]' "
                "'corpus.valid=[...]'"
            )
            raise ConfigError(f"corpus.files=[]: no text was named{where}; {example}")

    def without_effect(self) -> dict[str, str]:
        """See ``Group.without_effect``."""
        reason = "it deals the documents of corpus.files, which is empty"
        return {} if self.files else dict.fromkeys(("valid_fraction", "test_fraction"), reason)


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
    line_timeout_s: float = setting(10.0, renamed_from="seconds_per_line")
    # of a line or a part of it; one that takes longer costs its worker a restart and is parted.
    # Without effect on Kkma's fast engine, which counts its steps instead
    cache_size_mb: int = setting(2048, renamed_from="cache_mb")
    # size of outputs/cache, which keeps what became of each line for other corpora; 0: no cache

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "workers", "threads")
        self._at_most(256, "workers", "threads")
        self._above(0, "line_timeout_s")
        self._at_least(0, "cache_size_mb")


@dataclass
class JavaConfig(WorkerConfig):
    """KoNLPy's Okt, Komoran and Hannanum, written in Java: each child process owns one JVM."""

    _names: ClassVar[tuple[str, ...]] = ("okt", "komoran", "hannanum")

    heap_mb: int | None = setting(None, renamed_from="heap")
    # largest heap of each JVM in MB; null: 768 and 128 for each thread

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(512, "heap_mb")
        self._at_most(1 << 20, "heap_mb")


@dataclass
class KkmaConfig(JavaConfig):
    """KoNLPy's Kkma; its dictionary takes 0.3 GB of each JVM."""

    _names: ClassVar[tuple[str, ...]] = ("kkma",)

    engine: Engine = Engine.fast
    # konlpy: KoNLPy's own, five to ten times slower; same tokens wherever it comes to an end
    limit_work: bool = setting(True, renamed_from="guard")
    # cut words that have too many readings (ㄷ forty times) into pieces; false: leave them whole.
    # Either way the fast engine bounds the work on each word, and line_timeout_s KoNLPy's


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
    lowercase: bool = setting(False, renamed_from="lower")
    # lower-case all tokens
    normalize_numbers: bool = setting(False, renamed_from="numbers")
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
