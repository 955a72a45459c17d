"""N-best lists of speech recognisers in the order that language models would have them.

>>> from korlm.rescoring import ScoreWeights, Hypothesis, NBest, LMScorer, rescore
"""

from korlm.rescoring.lm_scorer import LMScorer
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.rescoring.rescore import Rescored, ScoreWeights, rescore

__all__ = ["Hypothesis", "LMScorer", "NBest", "Rescored", "ScoreWeights", "rescore"]
