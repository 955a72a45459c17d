"""Settings of the text: corpus, tokenizer, vocabulary, batches."""

from __future__ import annotations

import codecs
import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.registry import register
from korlm.config.validation import MISSING, Group, NamedGroup, fraction, setting
from korlm.utils.errors import ConfigError


class DocumentUnit(enum.Enum):
    """Documents of a text file."""

    file = "file"
    blank_line = "blank_line"
    line = "line"


class CorpusFormat(enum.Enum):
    """Formats of text files."""

    auto = "auto"
    txt = "txt"
    tsv = "tsv"
    csv = "csv"
    jsonl = "jsonl"
    json = "json"
    parquet = "parquet"
    arrow = "arrow"
    conll = "conll"
    conllu = "conllu"


class Encoding(enum.Enum):
    """Encodings of Korean text files."""

    utf8 = "utf8"
    cp949 = "cp949"
    johab = "johab"
    utf16 = "utf16"
    utf16le = "utf16le"
    utf16be = "utf16be"


# Names of Python's codecs; EUC-KR files of Windows programs also hold characters of cp949.
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
    """Separators of the columns of a table."""

    auto = "auto"
    tab = "tab"
    comma = "comma"
    semicolon = "semicolon"
    pipe = "pipe"


class Quoting(enum.Enum):
    """Meanings of a double quote in a table."""

    auto = "auto"
    csv = "csv"
    none = "none"


class UnicodeForm(enum.Enum):
    """Normalizations of lines before tokenizing."""

    nfc = "nfc"
    nfkc = "nfkc"
    none = "none"


class Mode(enum.Enum):
    """Ways to cut token ids into batches."""

    stream = "stream"
    sentence = "sentence"


class KkmaEngine(enum.Enum):
    """Implementations of Kkma."""

    fast = "fast"
    konlpy = "konlpy"


@dataclass
class TextConfig(Group):
    """Format of text files, and what a document is."""

    _group: ClassVar[str] = "corpus"
    kept_is_optional: ClassVar[bool] = False  # whether JSON objects may lack a kept key

    format: CorpusFormat = setting(
        CorpusFormat.auto,
        "Format of all files; auto: by file name extension, txt if it is unknown.",
        renamed_from="layout",
    )
    document_unit: DocumentUnit = setting(
        DocumentUnit.file,
        "Documents of .txt files: files, blocks between blank lines, or lines.",
        renamed_from="document",
    )
    encoding: str = setting(
        "utf8",
        "utf8, cp949 (also for EUC-KR), johab, utf16, utf16le or utf16be, or another name of one "
        "of them; a byte-order mark overrides it.",
    )
    text_column: str = setting(
        "text",
        "Column or JSON key of the text. A number counts columns from 1 in a file without a "
        "header; in JSON, data.doc.text is a path of keys through objects and lists.",
    )
    document_column: str = setting(
        "",
        "Column or JSON key of a document's name: rows with the same value are one document; "
        "empty: each row is one, in .json each item of the outermost list on the path of the text.",
    )
    label_column: str = setting(
        "",
        "Column or JSON key of the label, for task=classification and tagging; a number counts "
        "columns from 1 in CoNLL files, which have no header; empty: none.",
    )
    target_column: str = setting(
        "", "Column or JSON key of the target text, for task=seq2seq; empty: none."
    )
    keep_columns: list[str] = setting(
        list,
        "Other columns or JSON keys, such as an id, that the token files keep with each line; of "
        "tables, JSON, Parquet and Arrow.",
    )
    separator: Separator = setting(
        Separator.auto,
        "Separator of columns; auto: the one that yields the named columns in the header, else by "
        "file name extension.",
    )
    quoting: Quoting = setting(
        Quoting.auto,
        "csv: a cell in double quotes may hold separators, line ends and doubled quotes; none: "
        "quotes are text; auto: csv for .csv, and for .tsv if the file cannot be read otherwise.",
    )
    skip_without_text: bool = setting(
        False, "Skip and count JSON rows whose text is not a string, instead of refusing the file."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.encoding = self._encoding().value
        if not self.text_column:
            self._fail("text_column", "must name a column, a key or a number from 1")
        if self.label_column and self.target_column:
            self._fail("target_column", "a row has a label or a target text; leave one out")
        self._check_kept()

    def _check_kept(self) -> None:
        names = self.keep_columns
        if not all(names) or "*" in names or len(set(names)) < len(names):
            self._fail("keep_columns", "must name columns or keys, each once")

    @property
    def annotation_key(self) -> str:
        """Return label_column or target_column, whichever is set, else an empty string."""
        if self.label_column:
            return "label_column"
        return "target_column" if self.target_column else ""

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Return the columns to read: setting and name, in the order of ``Record``."""
        keys = ["text_column"]
        keys += ["document_column"] if self.document_column else []
        keys += [self.annotation_key] if self.annotation_key else []
        columns = [(key, getattr(self, key)) for key in keys]
        return columns + [("keep_columns", name) for name in self.keep_columns]

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


@register("corpus", "text")
@dataclass
class CorpusConfig(TextConfig):
    """Texts, and the assignment of their documents to train, valid and test."""

    name: str = setting(MISSING, "Name of the corpus, part of the name of the prepared folder.")
    files: list[str] = setting(
        list,
        "Files, folders or globs whose documents a stable hash assigns to train, valid and test; "
        "also URLs such as s3://BUCKET/FOLDER/*.txt, hdfs://, hf://, https://HOST/FILE.",
        is_path=True,
    )
    train: list[str] = setting(list, "Files, folders or globs of train only.", is_path=True)
    valid: list[str] = setting(list, "Files, folders or globs of valid only.", is_path=True)
    test: list[str] = setting(list, "Files, folders or globs of test only.", is_path=True)
    valid_fraction: float = fraction(
        0.1, "Fraction of the documents of files assigned to valid.", renamed_from="valid_share"
    )
    test_fraction: float = fraction(
        0.1, "Fraction of the documents of files assigned to test.", renamed_from="test_share"
    )
    unicode: UnicodeForm = setting(
        UnicodeForm.nfc,
        "Normalization before tokenizing: nfc, or nfkc (full-width letters and ligatures become "
        "plain, ㅋ a conjoining letter), both without invisible characters (U+200B, U+FEFF, soft "
        "hyphens, direction marks, variation selectors); none: unchanged. Trained models apply the "
        "same to every text.",
    )
    reverse: bool = setting(
        False,
        "Reverse the tokens of each line: for a backward language model, which init= of another "
        "run combines with a forward one.",
    )
    source: str = setting("", "Where the text is available, for the message about a missing file.")

    def __post_init__(self) -> None:
        super().__post_init__()
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
        reason = "it applies to the documents of corpus.files, which is empty"
        return {} if self.files else dict.fromkeys(("valid_fraction", "test_fraction"), reason)


@register("corpus", "nsmc")
@dataclass
class NsmcConfig(CorpusConfig):
    """Naver sentiment movie corpus (Park 2015): 200,000 film reviews in two files."""

    path: str = setting(
        "", "Folder of ratings_train.txt and ratings_test.txt; required.", is_path=True
    )

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError(
                "corpus.path is empty: fetch ratings_train.txt and ratings_test.txt from "
                f"{self.source} and give corpus.path=FOLDER"
            )
        super().__post_init__()


@register(
    "tokenizer",
    "eojeol",
    builds="korlm.tokenizers.whitespace:EojeolTokenizer",
    detokenizer="korlm.detokenizers.base:EojeolDetokenizer",
)
@register(
    "tokenizer",
    "syllable",
    builds="korlm.tokenizers.characters:SyllableTokenizer",
    detokenizer="korlm.detokenizers.base:SyllableDetokenizer",
)
@register(
    "tokenizer",
    "jamo",
    builds="korlm.tokenizers.characters:JamoTokenizer",
    detokenizer="korlm.detokenizers.base:JamoDetokenizer",
)
@dataclass
class TokenizerConfig(NamedGroup):
    """Tokenizers without settings."""

    _group: ClassVar[str] = "tokenizer"


@register("tokenizer", "kiwi", builds="korlm.tokenizers.kiwi:Kiwi")
@register("tokenizer", "mecab", builds="korlm.tokenizers.mecab:Mecab")
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


@register("batches", "batches")
@dataclass
class BatchesConfig(Group):
    """Batches of token ids."""

    _group: ClassVar[str] = "batches"

    mode: Mode = setting(MISSING, "stream: columns of one long text; sentence: padded lines.")
    batch_size: int = setting(20, "Columns of the stream, or sentences.", min=1, max=1_000_000)
    eval_batch_size: int = setting(
        10,
        "batch_size of validation and test, where each column starts with the initial state.",
        min=1,
        max=1_000_000,
    )
    bptt_length: int = setting(
        35,
        "stream: tokens of truncated backpropagation through time; sentence: longer sentences are "
        "cut.",
        unit="tokens",
        min=1,
        max=1_000_000,
    )
    random_start: bool = setting(
        False,
        "stream: in training, begin each column at a random token in each epoch; its beginning "
        "follows its end (Press 2019).",
    )
    max_tokens: int = setting(
        16_384,
        "Tokens with padding that are computed at a time, of sources and of targets each, which "
        "bounds memory; the gradients of the parts of a larger batch are summed. Not for "
        "task=language_modeling, see bptt_length.",
        unit="tokens",
        min=1,
        max=1_000_000_000,
    )
