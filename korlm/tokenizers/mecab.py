"""Tokenize with MeCab-ko, by python-mecab-ko."""

from __future__ import annotations

from korlm.config import WorkerConfig
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.offsets import analysis_of, find_spans
from korlm.tokenizers.workers.external import LineAnalyzer


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
