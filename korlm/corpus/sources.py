"""Finds the input files of a corpus and computes their digest."""

from __future__ import annotations

import collections
import dataclasses
import glob
import hashlib
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from korlm.config import CorpusConfig
from korlm.config.objective import SPLITS
from korlm.corpus.files import (
    PACKED,
    STDIN,
    SUFFIXES,
    kind_of,
)
from korlm.utils.errors import CorpusError
from korlm.utils.packages import konlpy_folder

logger = logging.getLogger(__name__)


INPUT = "input"  # the one split of a text that is read as it is


@dataclass(frozen=True)
class Source:
    """One file of a corpus: where it is, how documents name it, and the split it was given to."""

    path: Path
    name: str
    split: str | None
    size: int


def find_sources(config: CorpusConfig) -> list[Source]:
    """The files that the settings name, in a fixed order.

    Raises:
        CorpusError: a file or pattern that matches nothing, an empty or unreadable file, or a file
            named for two splits.
    """
    sources = _sources_at(config.files, "corpus.files", None, config.source)
    for split in SPLITS:
        places: list[str] = getattr(config, split)
        sources += _sources_at(places, f"corpus.{split}", split, config.source)
    return _deduplicate(sources)


def find_inputs(places: Sequence[str], key: str) -> list[Source]:
    """The files of a text that is no corpus of its own, all in one split, in the order given.

    Args:
        places: files, folders or globs; ``-`` is standard input.
        key: the setting that names them.

    Raises:
        CorpusError: as ``find_sources``.
    """
    sources: list[Source] = []
    for place in places:
        if place == "-":
            sources.append(Source(STDIN, "stdin", INPUT, 0))
        else:
            sources += _sources_at([place], key, INPUT)
    return _deduplicate(sources)


def _sources_at(
    places: Sequence[str], key: str, split: str | None, origin: str = ""
) -> list[Source]:
    """The files at some places, in a fixed order.

    Args:
        places: files, folders or globs.
        key: the setting that names them.
        split: that they belong to; None: their documents are dealt.
        origin: where the text can be had; told when a file is missing.

    Raises:
        CorpusError: a file or pattern that matches nothing, an empty or unreadable file.
    """
    sources: list[Source] = []
    for place in places:
        try:
            found = _expand(place, key, origin)
        except OSError as error:  # a folder that may not be searched, a name that is too long
            raise CorpusError(f"{key}: {place} cannot be read ({error.strerror})") from error
        sources += [_source(path, name, split) for path, name in found]
    return sources


def _deduplicate(sources: list[Source]) -> list[Source]:
    """Each file once, each with a name of its own."""
    seen: dict[Path, str | None] = {}
    for source in sources:
        real = source.path.resolve()
        if real in seen and seen[real] != source.split:
            both = f"{seen[real] or 'files'} and {source.split or 'files'}"
            raise CorpusError(f"{source.path}: named in {both} of the corpus; name it once")
        seen[real] = source.split
    named = list({source.path.resolve(): source for source in sources}.values())
    return _disambiguate_names(named)


def _disambiguate_names(sources: list[Source]) -> list[Source]:
    """Puts as many folders before equal names as it takes: a corpus that moves keeps its names."""
    while True:
        names = collections.Counter(source.name for source in sources)
        longer = []
        for source in sources:
            parts = source.path.resolve().parts
            size = source.name.count("/") + 2
            if names[source.name] > 1 and size <= len(parts):
                name = "/".join(parts[-size:])
                source = dataclasses.replace(source, name=_readable(name))
            longer.append(source)
        if longer == sources:
            return sources
        sources = longer


def _readable(name: str) -> str:
    """A file's name as UTF-8 files can hold it: old archives unpack to names in cp949."""
    return name.encode("utf-8", "backslashreplace").decode()


def _expand(place: str, key: str, origin: str) -> list[tuple[Path, str]]:
    if place.startswith("konlpy:"):
        relative = place.removeprefix("konlpy:")
        return [(konlpy_folder() / "data" / "corpus" / relative, relative)]
    path = Path(place).expanduser()
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        found = [p for p in inside if kind_of(p) in SUFFIXES]
        if not found:
            endings = " ".join(SUFFIXES)
            raise CorpusError(
                f"{key}: the folder {place} holds no text file ({endings}, plain or "
                f"{' or '.join(PACKED)})"
            )
        _log_left_out(key, place, inside)
        return [(p, p.relative_to(path).as_posix()) for p in found]
    if path.exists():
        return [(path, path.name)]
    found = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]
    if not found:
        hint = f"; fetch it from {origin}" if origin else ""
        raise CorpusError(f"{key}: {place} is neither a file, a folder nor a glob of files{hint}")
    # A glob names files from its last fixed folder on, whatever it matches: names must not change
    # when files are added.
    base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    return [(p, p.relative_to(base).as_posix()) for p in found]


def _log_left_out(key: str, place: str, inside: Sequence[Path]) -> None:
    """Says which files of a folder are not read; nothing of hidden ones."""
    kinds = collections.Counter(
        "".join(p.suffixes[-2:]) or "no ending"
        for p in inside
        if kind_of(p) not in SUFFIXES and not p.name.startswith(".")
    )
    if kinds:
        most = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(5))
        most += ", ..." * (len(kinds) > 5)
        logger.info(
            "%s: files in %s with other endings, which are not read: %d (%s)",
            *(key, place, kinds.total(), most),
        )


def _source(path: Path, name: str, split: str | None) -> Source:
    try:
        size = path.stat().st_size
    except PermissionError:
        raise CorpusError(f"{path}: may not be read; change its permissions") from None
    except FileNotFoundError:
        raise CorpusError(f"{path}: there is no such file") from None
    if size == 0:
        raise CorpusError(f"{path}: the file is empty; leave it out")
    return Source(path, _readable(name), split, size)


def content_digest(source: Source) -> str:
    """A hash of the bytes of a file (BLAKE2b)."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(source.path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except PermissionError:
        raise CorpusError(f"{source.path}: may not be read; change its permissions") from None
    except OSError as error:
        raise CorpusError(f"{source.path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
