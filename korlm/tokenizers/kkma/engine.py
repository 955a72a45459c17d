"""Run KoNLPy's Kkma in a worker, and return the version of both engines of ``tokenizer=kkma``.

``engine=konlpy`` is built here; ``engine=fast`` runs in a Java process of its own (``process.py``).
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable
from typing import Any

from korlm.config import KkmaConfig, KkmaEngine, WorkerConfig
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.jvm import java_exceptions, java_home, java_options
from korlm.tokenizers.kkma.process import SELF_TEST, check_self_test
from korlm.tokenizers.kkma.user_dictionary import digest_of, read_user_dictionary
from korlm.tokenizers.offsets import eojeol_of_visible, status_and_dropped
from korlm.tokenizers.workers.external import LineAnalyzer
from korlm.utils.errors import TokenizerError
from korlm.utils.packages import package_version

FAST_VERSION = 2  # version of the fast engine's results; part of fingerprints and cache keys


class KonlpyKkma(LineAnalyzer):
    """KoNLPy's Kkma, for comparison; ``morphs`` are ``Kkma().morphs(text)`` if that returns.

    The objects of a process share the JVM and its dictionary.

    Raises:
        TokenizerError: Java does not start, or Kkma's dictionary is incomplete.
    """

    def __init__(self, config: KkmaConfig) -> None:
        super().__init__(config)
        os.environ["JAVA_HOME"] = str(java_home())
        # konlpy starts Java itself, without options.
        given = os.environ.get("JAVA_TOOL_OPTIONS", "")
        options = [option for o in java_options() if (option := f'"{o}"') not in given]
        os.environ["JAVA_TOOL_OPTIONS"] = " ".join(filter(None, [given, *options]))
        from konlpy.tag import Kkma

        try:
            self._kkma: Any = Kkma(max_heap_size=config.heap_mb)
        except Exception as error:
            raise TokenizerError(f"Java did not start: {' '.join(str(error).split())}") from error
        self.exceptions = java_exceptions()
        results = [self.analyze_part(text) for text in SELF_TEST]
        check_self_test([r if isinstance(r, str) else r.morphs for r in results], config)

    def analyze_line(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        morphs: list[str] = []
        tags: list[str] = []
        eojeol: list[int] = []
        eojeol_at = eojeol_of_visible(text)
        position = 0
        surfaces: list[str] = []
        # The surfaces of Kkma's units are the line without white space, in order (1,391 of 1,391
        # lines of docs-lm and nsmc-lm); a unit is often smaller than an eojeol.
        for sentence in self._kkma.jki.morphAnalyzer(text) or ():
            for unit in sentence:
                index = eojeol_at[min(position, len(eojeol_at) - 1)]
                for morpheme in unit:
                    morphs.append(str(morpheme.getString()))
                    tags.append(str(morpheme.getTag()))
                    eojeol.append(index)
                surfaces.append("".join(str(unit.getExp()).split()))
                position += len(surfaces[-1])
        lost = collections.Counter("".join(text.split()))
        lost.subtract("".join(surfaces))
        return Analysis(morphs, tags, eojeol, *status_and_dropped(lost.elements()))

    @classmethod
    def train(cls, config: WorkerConfig, lines: Iterable[str]) -> bytes | None:
        """Return the words of the user dictionary, which are stored like a trained model."""
        assert isinstance(config, KkmaConfig)
        if config.user_dictionary is None:
            return None
        return read_user_dictionary(config.user_dictionary) or None

    @classmethod
    def version_of(cls, config: WorkerConfig, learned: bytes | None = None) -> str:
        """Return the version of the engine with its limits and user words.

        ``version`` is not a part of it: existing fingerprints lack it.
        """
        assert isinstance(config, KkmaConfig)
        words = learned or cls.train(config, [])
        version = f"konlpy {package_version('konlpy', config.name)}"
        if config.engine is KkmaEngine.fast:
            version += f", fast {FAST_VERSION}"
        if config.limit_work:
            version += ", guard"
        if config.engine is KkmaEngine.konlpy:
            version += f", {config.line_timeout_s:g} s"  # the time limit decides which lines fail
        return version + (f", user dictionary {digest_of(words)}" if words else "")
