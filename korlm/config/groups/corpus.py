"""Settings of corpora: files, formats, documents, splits."""

from __future__ import annotations

import codecs
import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.registry import register
from korlm.config.validation import MISSING, Group, fraction, setting
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
