"""Rescore n-best lists of speech recognizers with language models.

>>> from korlm.rescoring import Hypothesis, LMScorer, NBest, ScoreWeights, rescore
"""

from korlm.rescoring.features import ScoreWeights
from korlm.rescoring.lm_scorer import LMScorer
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.rescoring.rescore import Rescored, rescore

__all__ = ["Hypothesis", "LMScorer", "NBest", "Rescored", "ScoreWeights", "rescore"]
