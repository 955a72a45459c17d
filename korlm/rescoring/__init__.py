"""N-best lists of speech recognisers in the order that language models would have them.

>>> from korlm.rescoring import Combination, Hypothesis, NBest, Scorer, rescore
"""

from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.rescoring.reorder import Combination, Rescored, rescore
from korlm.rescoring.scorer import Scorer

__all__ = ["Combination", "Hypothesis", "NBest", "Rescored", "Scorer", "rescore"]
