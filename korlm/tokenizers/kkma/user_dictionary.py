"""Read words to add to Kkma's dictionary: one word on each line, in one of two formats.

    word<TAB>tag[,tag ...]
    word/tag[/C][;conditions]     as in Kkma's own dictionary files (dic/noun.dic in its jar)

Blank lines and lines that begin with // are skipped. In the second format, ``C`` marks a compound
noun, ``$(part+part)`` lists its parts for ``nouns``, and ``#(tag,...)``, ``&(...)``, ``@(...)`` and
``￢(...)`` are tags and conditions that the word requires, has or excludes, as in Kkma's files.
"""

from __future__ import annotations

import hashlib
import logging
import re
import unicodedata
from pathlib import Path

from korlm.utils.errors import TokenizerError

logger = logging.getLogger(__name__)

TAGS = (
    *("NNG", "NNP", "NNB", "NNM", "NR", "NP", "VV", "VA", "VXV", "VXA", "VCP", "VCN", "MDN"),
    *("MDT", "MAG", "MAC", "IC", "JKS", "JKC", "JKG", "JKO", "JKM", "JKI", "JKQ", "JX", "JC"),
    *("EPH", "EPT", "EPP", "EFN", "EFQ", "EFO", "EFA", "EFI", "EFR", "ECE", "ECD", "ECS"),
    *("ETN", "ETD", "XPN", "XPV", "XSN", "XSV", "XSA", "XSM", "XSO", "XR", "SY", "SF", "SP"),
    *("SS", "SE", "SO", "SW", "UN", "UV", "UE", "OL", "OH", "ON", "EMO"),
)
# Classes of tags, which Kkma's files use instead of tags.
CLASSES = [
    *("N", "NN", "NNA", "V", "VP", "VC", "VX", "M", "MD", "MA", "J", "JK", "E", "EP", "EM"),
    *("EF", "EC", "ET", "XP", "XS", "S", "O"),
]
CONDITIONS = [
    *("ㅣ겹", "모음", "자음", "양성", "음성", "사오", "사옵", "시오", "오", "으라", "으리", "으시"),
    *("아", "었", "겠", "려", "ㄴ", "ㄹ", "ㅁ", "ㅂ", "-ㅂ", "-ㄹ", "-ㅎ", "-ㅅ", "하", "가다"),
    *("오다", "ENG", "체언", "관형어", "부사어", "서술어", "EC", "F", "생략"),
]

MAX_WORDS = 200_000
MAX_LENGTH = 50  # largest number of characters of a word; Kkma counts them in a byte

_CONDITION = re.compile(r"([#&@￢$])\(([^()]*)\)")
_SEPARATORS = re.compile(r"[/+;]")
_HANGUL = re.compile(r"[가-힣ㄱ-ㆎ]+")


def read_user_dictionary(path: str | Path) -> bytes:
    """Read the words of a file, and return them as lines in Kkma's format.

    Files with the same words give the same bytes.

    Raises:
        TokenizerError: the file cannot be read, or a line is not a word with known tags.
    """
    where = f"tokenizer.user_dictionary={path}"
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TokenizerError(f"{where}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 (byte {error.start}); convert it to UTF-8"
        raise TokenizerError(f"{where}: {problem}") from error
    words: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = unicodedata.normalize("NFC", line).strip(" \r\ufeff")
        if line.strip() and not line.startswith("//"):
            try:
                words.update(dict.fromkeys(_parse(line)))
            except ValueError as error:
                raise TokenizerError(f"{where}: line {number}: {error}") from None
    if len(words) > MAX_WORDS:
        raise TokenizerError(f"{where}: {len(words):,} words; at most {MAX_WORDS:,} are possible")
    split = [word for word in words if not _HANGUL.fullmatch(word.partition("/")[0])]
    if split:
        logger.warning(
            "%s: Kkma looks up Hangul only and splits words at other characters: %d words such as "
            "%s have no effect on most texts",
            *(where, len(split), split[0].partition("/")[0]),
        )
    return "".join(f"{word}\n" for word in words).encode()


def _parse(line: str) -> list[str]:
    """Return the words of one line, each as a line in Kkma's format.

    Raises:
        ValueError: the line is not valid; the message says why.
    """
    if "\t" in line:
        word, _, tags = line.partition("\t")
        if match := _SEPARATORS.search(word):
            raise ValueError(
                f"{word!r} contains {match[0]}, which separates parts of Kkma's format"
            )
        names = [name.strip() for name in tags.split(",")]
        for name in names:
            _check_tag(name)
        _check_word(word)
        return [f"{word}/{name}" for name in names]
    morpheme, _, conditions = line.partition(";")
    word, *rest = (part.strip() if at else part for at, part in enumerate(morpheme.split("/")))
    if not rest:
        raise ValueError(f"{line!r:.60} has no tag; give word<TAB>tag or word/tag")
    if len(rest) > 2 or "+" in morpheme or (len(rest) == 2 and rest[1] not in ("C", "S")):
        raise ValueError(f"{line!r:.60} must be word/tag, word/tag/C or word<TAB>tag")
    _check_word(word)
    _check_tag(rest[0])
    if _CONDITION.sub("", conditions).strip():
        raise ValueError(f"{conditions!r:.60} must be #(tags), &(...), @(...), ￢(...) or $(a+b)")
    groups = _CONDITION.findall(conditions)
    for sign, names in groups:
        known = [*TAGS, *CLASSES] if sign == "#" else CONDITIONS
        for name in names.split("+" if sign == "$" else ","):
            if not name or (sign != "$" and name not in known):
                raise ValueError(f"{sign}({names}): {name or 'nothing'} is not known to Kkma")
    ending = "".join(f"{sign}({names})" for sign, names in groups)
    return ["/".join([word, *rest]) + (f";{ending}" if ending else "")]


def _check_word(word: str) -> None:
    if any(char.isspace() for char in word):
        raise ValueError(f"{word!r} contains a space; Kkma's words have none")
    if not word or not word.isprintable():
        raise ValueError(f"{word!r} is not a word")
    if len(word) > MAX_LENGTH:
        raise ValueError(f"{word!r:.20}... has {len(word)} characters; at most {MAX_LENGTH}")


def _check_tag(tag: str) -> None:
    if tag not in TAGS:
        raise ValueError(f"{tag!r} is not a tag of Kkma; tags are {' '.join(TAGS)}")


def digest_of(words: bytes) -> str:
    """Return a short hash of the result of ``read_user_dictionary``, for versions."""
    return hashlib.sha256(words).hexdigest()[:16]
