"""Define ``korlm.Kkma``: KoNLPy's ``Kkma`` with the fast engine, for use in Python."""

from __future__ import annotations

import collections
import itertools
import json
import logging
import os
import reprlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

from korlm.config import KkmaConfig
from korlm.config.paths import path_of
from korlm.tokenizers.analysis import NORMAL_STATUSES, Analysis
from korlm.tokenizers.kkma.process import SPANS
from korlm.tokenizers.kkma.user_dictionary import digest_of, read_user_dictionary
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import ConfigError, TokenizerError
from korlm.utils.packages import konlpy_folder

logger = logging.getLogger(__name__)

BATCH_LINES, BATCH_CHARS = 256, 16_384  # a batch ends when it has either number

# Kind of a status -> what a warning says about the text.
_LOSSES = {
    "cut": "was analyzed in parts",
    "fallback": "has parts that could not be analyzed; they are single tokens with the tag UN",
    "lost": "has characters that are in no token",
}

Result = TypeVar("Result")


class Token(NamedTuple):
    """A morpheme with its position in the text.

    Attributes:
        morph: the morpheme.
        tag: part-of-speech tag.
        begin: offset of the first character. A pair of surrogates in the text counts as the one
            character that it stands for.
        end: offset after the last character. In a contraction, morphemes share characters.
    """

    morph: str
    tag: str
    begin: int
    end: int


class Kkma:
    """Drop-in replacement of ``konlpy.tag.Kkma``: the same results, many times as fast.

    Each method takes one text and returns what KoNLPy's method returns, or takes an iterable of
    texts and returns an iterator over the results in order. Iterables are processed on all cores,
    and read at most a few batches ahead. Texts that KoNLPy cannot process have results, too: white
    space has no tokens, and words with too many analyses are cut into pieces, with a warning. The
    arguments of KoNLPy's class are accepted by name.

    Java runs in a child process, which starts with the first text and ends with ``close``, with the
    ``with`` block or with the object. Neither JAVA_HOME nor options of Java are needed, and KoNLPy
    can be used in the same process. Several threads may use an object. Objects can be pickled, and
    used in forked processes, each of which starts Java for itself.

    >>> with Kkma() as kkma:  # doctest: +SKIP
    ...     kkma.morphs("공부를 합니다.")
    ...     list(kkma.nouns(open("book.txt")))
    ['공부', '를', '하', 'ㅂ니다', '.']

    Args:
        user_dictionary: file of words to add (``user_dictionary.py`` describes the format). It is
            read only once, by this constructor.
        threads: number of analyzers of each child process; None: one per available core, divided
            among the processes.
        workers: number of child processes.
        heap_mb: maximum heap of each process in MB; None: 768 + 128 per thread, but at most half of
            the memory, divided among the processes.
        limit_work: whether to cut words with too many analyses; False: such a word is one token
            with the tag UN. The work per word is bounded in both cases.
        jvmpath: argument of KoNLPy's class without effect.
        max_heap_size: argument of KoNLPy's class without effect.

    Raises:
        ConfigError: a setting is out of bounds.
        TokenizerError: the user dictionary cannot be read.
    """

    def __init__(
        self,
        user_dictionary: str | Path | None = None,
        *,
        threads: int | None = None,
        workers: int = 1,
        heap_mb: int | None = None,
        limit_work: bool = True,
        jvmpath: str | None = None,
        max_heap_size: int | None = None,
    ) -> None:
        self._settings: dict[str, Any] = {
            "threads": threads,
            "workers": workers,
            "heap_mb": heap_mb,
            "limit_work": limit_work,
        }
        words = b""
        if user_dictionary is not None:
            path = path_of(user_dictionary, "user_dictionary")
            try:
                words = read_user_dictionary(path)
            except TokenizerError as error:
                raise TokenizerError(_without_group(error)) from None
        self._begin(words)

    def _begin(self, words: bytes) -> None:
        try:
            self._config = KkmaConfig(name="kkma", **self._settings)
        except ConfigError as error:
            raise ConfigError(_without_group(error)) from None
        self._words = words
        self._state = _State()
        weakref.finalize(self, _State.close, self._state)

    @overload
    def morphs(self, phrase: str) -> list[str]: ...  # type: ignore[overload-overlap]
    @overload
    def morphs(self, phrase: Iterable[str]) -> Iterator[list[str]]: ...
    def morphs(self, phrase: Any) -> Any:
        """Return the morphemes of a text."""
        return self._analyze(phrase, "tokens", lambda analysis: analysis.morphs)

    @overload
    def pos(  # type: ignore[overload-overlap]
        self, phrase: str, flatten: bool = True, join: bool = False
    ) -> list[Any]: ...
    @overload
    def pos(
        self, phrase: Iterable[str], flatten: bool = True, join: bool = False
    ) -> Iterator[list[Any]]: ...
    def pos(self, phrase: Any, flatten: bool = True, join: bool = False) -> Any:
        """Return the (morpheme, tag) pairs of a text.

        Args:
            phrase: the text, or an iterable of texts.
            flatten: False: return one list of pairs for each eojeol, as Kkma divides the text.
            join: whether to return strings ``morpheme/tag`` instead of pairs.
        """

        def convert(analysis: Analysis) -> list[Any]:
            pairs: list[Any] = list(zip(analysis.morphs, analysis.tags, strict=True))
            if join:
                pairs = ["/".join(pair) for pair in pairs]
            if not flatten:
                eojeols = zip(analysis.eojeol, pairs, strict=True)
                groups = itertools.groupby(eojeols, lambda pair: pair[0])
                pairs = [[pair for _, pair in group] for _, group in groups]
            return pairs

        return self._analyze(phrase, "tokens" if flatten else SPANS, convert)

    @overload
    def nouns(self, phrase: str) -> list[str]: ...  # type: ignore[overload-overlap]
    @overload
    def nouns(self, phrase: Iterable[str]) -> Iterator[list[str]]: ...
    def nouns(self, phrase: Any) -> Any:
        """Return the nouns of a text, each once, with the parts of compounds."""
        return self._analyze(phrase, "nouns", lambda analysis: analysis.morphs)

    @overload
    def sentences(self, phrase: str) -> list[str]: ...  # type: ignore[overload-overlap]
    @overload
    def sentences(self, phrase: Iterable[str]) -> Iterator[list[str]]: ...
    def sentences(self, phrase: Any) -> Any:
        """Return the sentences of a text, spaced as Kkma divides them into eojeols."""
        return self._analyze(phrase, "sentences", lambda analysis: analysis.morphs)

    @overload
    def tokens(self, phrase: str) -> list[Token]: ...  # type: ignore[overload-overlap]
    @overload
    def tokens(self, phrase: Iterable[str]) -> Iterator[list[Token]]: ...
    def tokens(self, phrase: Any) -> Any:
        """Return the morphemes of a text with their tags and positions; not in KoNLPy."""

        def convert(analysis: Analysis) -> list[Token]:
            morphs, tags, spans = analysis.morphs, analysis.tags, analysis.spans
            return list(map(Token, morphs, tags, spans[::2], spans[1::2]))

        return self._analyze(phrase, SPANS, convert)

    @property
    def tagset(self) -> dict[str, str]:
        """The tags and their meanings, from KoNLPy."""
        path = konlpy_folder() / "data" / "tagset" / "kkma.json"
        tags: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return tags

    def _analyze(
        self, phrase: Any, output: str, convert: Callable[[Analysis], Result]
    ) -> Result | Iterator[Result]:
        if isinstance(phrase, str):
            (result,) = self._map([phrase], output, convert)
            return result
        if isinstance(phrase, (bytes, dict)) or not isinstance(phrase, Iterable):
            kind = type(phrase).__name__
            raise TokenizerError(f"Kkma: the text must be a str or an iterable of str, not {kind}")
        return self._map(phrase, output, convert)

    def _map(
        self,
        texts: Iterable[str],
        output: str,
        convert: Callable[[Analysis], Result],
    ) -> Iterator[Result]:
        pool = self._state.pool(self._config, self._words)
        in_flight: collections.deque[list[str]] = collections.deque()

        def batches() -> Iterator[list[str]]:
            for batch in _batches(texts):
                in_flight.append(batch)
                yield batch

        for analyses in pool.map_lists(batches(), output):
            for text, analysis in zip(in_flight.popleft(), analyses, strict=True):
                if analysis.status not in NORMAL_STATUSES:
                    loss = _LOSSES[analysis.status.partition(":")[0]]
                    shown, why = reprlib.repr(text), analysis.status
                    logger.warning("Kkma: the text %s %s (%s)", shown, loss, why)
            yield from map(convert, analyses)

    def close(self) -> None:
        """End the child process; the next text starts another one."""
        self._state.close()

    def __enter__(self) -> Kkma:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> Any:
        return self._settings, self._words

    def __setstate__(self, state: Any) -> None:
        self._settings, words = state
        self._begin(words)

    def __repr__(self) -> str:
        settings = [f"{key}={value!r}" for key, value in self._settings.items()]
        if self._words:
            settings.append(f"words={digest_of(self._words)}")
        return f"{type(self).__name__}({', '.join(settings)})"


def _without_group(error: Exception) -> str:
    """Return a message about a setting of commands, ``tokenizer.NAME``, as one about NAME."""
    return str(error).removeprefix("tokenizer.")


class _State:
    """The pool of this process; a forked process gets a new one."""

    def __init__(self) -> None:
        self._inherited: list[Any] = []  # pools of the parent process, never closed by this one
        self._lock = threading.Lock()
        self._pool: TokenizerPool | None = None
        _states.add(self)

    def after_fork(self) -> None:
        """Leave the pool to the parent process; the lock may be held by one of its threads."""
        self._inherited.append((self._lock, self._pool))
        self._lock, self._pool = threading.Lock(), None

    def pool(self, config: KkmaConfig, words: bytes) -> TokenizerPool:
        """Return the pool, which starts Java with its first text."""
        with self._lock:
            if self._pool is None:
                self._pool = TokenizerPool(config, words or None)
            return self._pool

    def close(self) -> None:
        """End the pool's processes if this process has started them."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.__exit__()


_states: weakref.WeakSet[_State] = weakref.WeakSet()


def _after_fork() -> None:
    for state in list(_states):
        state.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def _batches(texts: Iterable[Any]) -> Iterator[list[str]]:
    """Group texts into batches of limited size."""
    batch: list[str] = []
    num_chars = 0
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            kind = type(text).__name__
            raise TokenizerError(f"Kkma: text {number} (from 0) must be a str, not {kind}")
        batch.append(text)
        num_chars += len(text)
        if len(batch) >= BATCH_LINES or num_chars >= BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch
