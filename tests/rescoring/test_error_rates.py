"""Error rates by hand."""

from __future__ import annotations

import numpy as np

from korlm.config import ErrorRate
from korlm.rescoring.error_rates import ErrorTally, count_errors
from korlm.rescoring.nbest import Hypothesis, NBest

CER, NO_BLANKS, WER = ErrorRate.cer, ErrorRate.cer_no_blanks, ErrorRate.wer
REFERENCES = {"a": "나는 집에 간다", "b": "", "c": "\u1112\u1161\u11ab"}  # 한 as three jamo


def nbest(utt: str, *texts: str) -> NBest:
    return NBest(utt, [Hypothesis(text, 0.0) for text in texts])


def test_counts() -> None:
    batch = [
        nbest("a", "나는 집에 간다", "나는 집 에  갔다", "", "나는집에간다"),
        nbest("b", "", "응 응"),
        nbest("c", "한"),
    ]
    errors, lengths = count_errors(batch, REFERENCES)
    assert errors[CER].tolist() == [0, 2, 8, 2, 0, 3, 0]
    assert errors[NO_BLANKS].tolist() == [0, 1, 6, 0, 0, 2, 0]
    assert errors[WER].tolist() == [0, 3, 3, 3, 0, 2, 0]
    assert lengths[CER].tolist() == [8, 0, 1]
    assert lengths[NO_BLANKS].tolist() == [6, 0, 1]
    assert lengths[WER].tolist() == [3, 0, 1]


def test_rates_are_ratios_of_sums() -> None:
    batch = [nbest("a", "너는 집에 간다", "나는 집에 간다"), nbest("c", "한 줄", "줄")]
    errors, lengths = count_errors(batch, REFERENCES)
    tally = ErrorTally()
    tally.add(errors, lengths, np.array([2, 2]), np.array([1, 2]))
    assert tally.rate("before", WER) == 2 / 4
    assert tally.rate("after", CER) == 2 / 9
    assert tally.rate("oracle", CER) == 1 / 9
    tally.add(errors, lengths, np.array([2, 2]), np.array([1, 2]))
    assert tally.rate("after", CER) == 2 / 9
    lines = tally.table().splitlines()
    assert lines[0] == "4 utterances, 2.0 hypotheses each"
    assert lines[2].split() == ["before", "33.33", "%", "28.57", "%", "50.00", "%"]
