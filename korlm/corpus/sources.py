"""Find the files of a corpus."""

from __future__ import annotations

import collections
import dataclasses
import glob
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from korlm.config import CorpusConfig
from korlm.config.metrics import SPLITS
from korlm.corpus.archives import file_version, is_archive, is_hidden, members_of
from korlm.corpus.containers import PACKED, STDIN, file_errors
from korlm.corpus.files import SUFFIXES, kind_of
from korlm.utils.errors import CorpusError
from korlm.utils.io.urls import is_url, to_path, url_errors
from korlm.utils.packages import konlpy_folder

logger = logging.getLogger(__name__)

_DATASET_FILES = ("dataset_info.json", "dataset_dict.json", "state.json")
INPUT = "input"  # name of the split of a text that is not a corpus


@dataclass(frozen=True)
class Source:
    """A file of a corpus."""

    path: Path  # may lead into a zip archive (``korlm.corpus.archives``)
    name: str  # part of the names of its documents
    split: str | None  # that the settings assign the file to; None: its documents are divided
    size: int  # in bytes
    version: str = ""  # differs after the file has been changed


def find_sources(config: CorpusConfig) -> list[Source]:
    """Return the files that the settings name, in a fixed order.

    Raises:
        CorpusError: a path matches nothing, a file is empty or unreadable, or is in two splits.
    """
    sources = _find(config.files, "corpus.files", None, config.source)
    for split in SPLITS:
        paths: list[str] = getattr(config, split)
        sources += _find(paths, f"corpus.{split}", split, config.source)
    return _deduplicate(sources)


def find_inputs(paths: Sequence[str], key: str) -> list[Source]:
    """Return the files of a text that is not a corpus, all in one split, in the given order.

    ``-`` is standard input. ``key`` is the setting that names the paths.

    Raises:
        CorpusError: see ``find_sources``.
    """
    sources: list[Source] = []
    for path in paths:
        if path == "-":
            sources.append(Source(STDIN, "stdin", INPUT, 0))
        else:
            sources += _find([path], key, INPUT)
    return _deduplicate(sources)


def _find(patterns: Sequence[str], key: str, split: str | None, origin: str = "") -> list[Source]:
    """Return the files of some paths, in a fixed order.

    Args:
        patterns: files, folders or globs.
        key: the setting that names them, for messages.
        split: the split of the files; None: their documents are divided.
        origin: URL where the text can be downloaded, for messages.
    """
    sources: list[Source] = []
    for pattern in patterns:
        try:
            with url_errors(pattern, CorpusError):
                files = _expand(pattern, key, origin)
        except OSError as error:  # no permission to list a folder, or the name is too long
            raise CorpusError(f"{key}: {pattern} cannot be read ({error.strerror})") from error
        for path, name in files:
            if not is_archive(path):
                sources.append(_source(path, name, split))
                continue
            with file_errors(path):
                members = [member for member in members_of(path) if kind_of(member) in SUFFIXES]
            if not members:
                raise CorpusError(
                    f"{key}: the archive {path} holds no text file ({' '.join(SUFFIXES)})"
                )
            for member in members:
                member_name = f"{name}/{member.relative_to(path).as_posix()}"
                sources.append(_source(member, member_name, split))
    return sources


def _deduplicate(sources: list[Source]) -> list[Source]:
    """Return each file once, with a unique name; raise an error if it is in two splits."""
    unique: dict[Path, Source] = {}
    for source in sources:
        path = source.path.resolve()
        if path in unique and unique[path].split != source.split:
            both = f"{unique[path].split or 'files'} and {source.split or 'files'}"
            raise CorpusError(f"{source.path}: named in {both} of the corpus; name it once")
        unique[path] = source
    return _disambiguate_names(list(unique.values()))


def _disambiguate_names(sources: list[Source]) -> list[Source]:
    """Prepend folders to equal names, as few as possible: a move of the corpus changes no name."""
    while True:
        names = collections.Counter(source.name for source in sources)
        renamed = []
        for source in sources:
            parts = source.path.resolve().parts
            size = source.name.count("/") + 2
            if names[source.name] > 1 and size <= len(parts):
                name = "/".join(parts[-size:])
                source = dataclasses.replace(source, name=_readable(name))
            renamed.append(source)
        if renamed == sources:
            return sources
        sources = renamed


def _readable(name: str) -> str:
    """Return a file name that UTF-8 can encode; old archives contain names in cp949."""
    return name.encode("utf-8", "backslashreplace").decode()


def _expand(pattern: str, key: str, origin: str) -> list[tuple[Path, str]]:
    """Return the files of a path, folder or glob with their names."""
    if pattern.startswith("konlpy:"):
        relative = pattern.removeprefix("konlpy:")
        return [(konlpy_folder() / "data" / "corpus" / relative, relative)]
    if is_url(pattern):
        return _expand_url(pattern, key, origin)
    path = Path(pattern).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return _files_of_folder(path, files, pattern, key)
    if path.exists():
        return [(path, path.name)]
    if inside := _inside_archive(path):
        return inside
    files = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]
    # Names are relative to the last folder without wildcards, so that they do not change when files
    # are added.
    base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    return _files_of_glob(base, files, pattern, key, origin)


def _expand_url(pattern: str, key: str, origin: str) -> list[tuple[Path, str]]:
    """Return the files of a URL with their names; an HTTP URL is always a single file."""
    path = to_path(pattern.rstrip("/"), CorpusError)
    fs = path.fs  # type: ignore[attr-defined]
    if glob.has_magic(pattern) and fs.protocol != ("http", "https"):
        matches = fs.glob(path.path, detail=True)  # type: ignore[attr-defined]
        names = sorted(name for name, info in matches.items() if info["type"] == "file")
        base = "/".join(itertools.takewhile(lambda p: not glob.has_magic(p), pattern.split("/")))
        files = [to_path(fs.unstrip_protocol(name), CorpusError) for name in names]
        return _files_of_glob(to_path(base, CorpusError), files, pattern, key, origin)
    try:
        is_folder = fs.info(path.path)["type"] == "directory"  # type: ignore[attr-defined]
    except FileNotFoundError:
        if inside := _inside_archive(path):
            return inside
        raise
    if is_folder:
        names = sorted(fs.find(path.path))  # type: ignore[attr-defined]
        files = [to_path(fs.unstrip_protocol(name), CorpusError) for name in names]
        return _files_of_folder(path, files, pattern, key)
    return [(path, path.name)]


def _inside_archive(path: Path) -> list[tuple[Path, str]]:
    """Return a file in an archive, or the files of a folder in one, with their names."""
    names = ((p, p.relative_to(path).as_posix()) for p in members_of(path))
    return [(p, path.name if p == path else name) for p, name in names]


def _files_of_folder(
    folder: Path, files: list[Path], pattern: str, key: str
) -> list[tuple[Path, str]]:
    """Return the text files of a folder with their names; hidden ones are left out."""
    files = [p for p in files if not is_hidden(p.relative_to(folder))]
    texts = [p for p in files if _is_text(p)]
    if not texts:
        endings = " ".join(SUFFIXES)
        raise CorpusError(
            f"{key}: the folder {pattern} holds no text file ({endings}, plain, "
            f"{' or '.join(PACKED)}, or in .zip)"
        )
    _log_skipped(key, pattern, sorted(set(files).difference(texts)))
    return [(p, p.relative_to(folder).as_posix()) for p in texts]


def _files_of_glob(
    base: Path, files: list[Path], pattern: str, key: str, origin: str
) -> list[tuple[Path, str]]:
    """Return files with their names, relative to a folder."""
    if not files:
        hint = f"; fetch it from {origin}" if origin else ""
        raise CorpusError(f"{key}: {pattern} is neither a file, a folder nor a glob of files{hint}")
    return [(p, p.relative_to(base).as_posix()) for p in files]


def _is_text(path: Path) -> bool:
    """Return True if a file in a folder is a text of the corpus.

    Datasets that the package ``datasets`` has saved also contain metadata in JSON, and caches.
    """
    if path.name in _DATASET_FILES and any(path.parent.rglob("*.arrow")):
        return False
    is_cache = path.name.startswith("cache-") and path.suffix == ".arrow"
    return (kind_of(path) in SUFFIXES and not is_cache) or is_archive(path)


def _log_skipped(key: str, folder: str, skipped: Sequence[Path]) -> None:
    """Log how many files of a folder are not read."""
    kinds = collections.Counter("".join(p.suffixes[-2:]) or "no ending" for p in skipped)
    if kinds:
        top = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(5))
        top += ", ..." * (len(kinds) > 5)
        logger.info(
            "%s: files in %s with other endings, which are not read: %d (%s)",
            *(key, folder, kinds.total(), top),
        )


def _source(path: Path, name: str, split: str | None) -> Source:
    """Return a file as a ``Source``; raise ``CorpusError`` if it is empty or unreadable."""
    with file_errors(path):
        size, version = file_version(path)
    if size == 0:
        raise CorpusError(f"{path}: the file is empty; leave it out")
    return Source(path, _readable(name), split, size, version)
