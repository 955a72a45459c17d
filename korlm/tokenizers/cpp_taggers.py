"""Tokenize with Kiwi, by kiwipiepy, and with MeCab-ko, by python-mecab-ko; both are written in C++.

They run in child processes like the tokenizers in Java: a crash costs a worker and not the run, and
the memory of Kiwi's model (0.4 GB) is released before training.
"""

from __future__ import annotations

from typing import Any, ClassVar

from korlm.config import WorkerConfig
from korlm.tokenizers.analysis import Analysis, Span
from korlm.tokenizers.offsets import analysis_of, find_spans
from korlm.tokenizers.workers.external import LineAnalyzer


class Kiwi(LineAnalyzer):
    """Forms and tags of ``Kiwi().tokenize(line)``; the threads of a process share the model."""

    exceptions = (RuntimeError, ValueError)
    packages = ("kiwipiepy", "kiwipiepy-model")
    _shared: ClassVar[Any] = None

    def __init__(self, config: WorkerConfig) -> None:
        super().__init__(config)
        import kiwipiepy

        if Kiwi._shared is None:
            Kiwi._shared = kiwipiepy.Kiwi(num_workers=config.threads)

    def analyze_line(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        # With a list, unlike with a string, Kiwi releases the GIL for other threads.
        (tokens,) = self._shared.tokenize([text])
        spans = [Span(token.start, token.start + token.len) for token in tokens]
        return analysis_of(text, [t.form for t in tokens], [str(t.tag) for t in tokens], spans)


class Mecab(LineAnalyzer):
    """Surfaces and tags of ``MeCab().pos(line)`` of python-mecab-ko, with mecab-ko-dic."""

    exceptions = (RuntimeError, ValueError)
    packages = ("python-mecab-ko", "python-mecab-ko-dic")

    def __init__(self, config: WorkerConfig) -> None:
        super().__init__(config)
        import mecab

        self._mecab = mecab.MeCab()

    def analyze_line(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        tokens = self._mecab.pos(text)
        morphs = [morph for morph, _ in tokens]
        # Its own spans (version 1.3.7) do not count leading blanks of a line.
        return analysis_of(text, morphs, [tag for _, tag in tokens], find_spans(text, morphs))
