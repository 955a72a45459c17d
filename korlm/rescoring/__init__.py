"""N-best lists of speech recognisers in the order that language models would have them.

>>> from korlm.rescoring import Combination, Hypothesis, NBest, Scorer, rescore
"""

from korlm.rescoring.lm_scorer import Scorer
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.rescoring.rescore import Combination, Rescored, rescore

__all__ = ["Combination", "Hypothesis", "NBest", "Rescored", "Scorer", "rescore"]
