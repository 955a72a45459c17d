"""The context of a recording equals a loop over its utterances, one hypothesis at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import korean_lines

from korlm.config import RECORDING_PATTERN, LengthUnit, Normalize
from korlm.rescoring import Hypothesis, LMScorer, NBest, ScoreWeights, rescore
from korlm.rescoring.recordings import RecordingNames, recordings_of
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import NbestError

NAMES = RecordingNames(RECORDING_PATTERN)


@pytest.fixture
def runs(tiny_run: Callable[[str], TrainedRun]) -> dict[str, TrainedRun]:
    return {name: tiny_run(name) for name in ("lstm", "gru", "transformer", "ngram", "foreign")}


def lists_of(seed: int = 3) -> list[NBest]:
    """Return lists of three recordings of different lengths, not in order."""
    random = np.random.default_rng(seed)
    lines = itertools.cycle(korean_lines(90, seed))
    lists = []
    for recording, length in (("a", 3), ("b_1", 1), ("c-x", 4)):
        for number in range(length):
            texts = [next(lines) for _ in range(int(random.integers(1, 4)))]
            texts += ["", texts[0] + " 뷁"][: number % 3]
            scores = random.normal(scale=2, size=len(texts)).tolist()
            hyps = [Hypothesis(*pair) for pair in zip(texts, scores, strict=True)]
            lists.append(NBest(f"{recording}-{90 + 5 * number}-{94 + 5 * number}", hyps))
    return [lists[index] for index in random.permutation(len(lists))]


@torch.no_grad()
def naive(runs: list[TrainedRun], lists: list[NBest], weights: ScoreWeights) -> dict[str, Any]:
    """Rescore one hypothesis at a time: utterance -> totals; the models mix log-linearly."""
    totals: dict[str, list[float]] = {}
    states: dict[str, list[Any]] = {}
    for nbest in sorted(lists, key=lambda nbest: int(nbest.utt.rsplit("-", 2)[1])):
        recording = nbest.utt.rsplit("-", 2)[0]
        before = states.get(recording, [run.model.initial_state(1) for run in runs])
        totals[nbest.utt], after = [], []
        for hyp in nbest.hyps:
            log_probs, hyp_states = [], []
            for run, state in zip(runs, before, strict=True):
                with run.text_encoder() as text_encoder:
                    encoded = text_encoder.read_texts([hyp.text])
                ids = encoded.ids if hyp.text else np.array([3])
                targets = torch.from_numpy(ids)[None]
                inputs = torch.cat([torch.tensor([[run.start_id]]), targets[:, :-1]], 1)
                nats, new_state = run.model.token_nll(inputs, targets, state)
                log_probs.append(-float(nats.sum()) - float(encoded.spelling_nats.sum()))
                hyp_states.append(new_state)
            totals[nbest.utt].append(hyp.score + weights.lm_weight * float(np.mean(log_probs)))
            after.append(hyp_states)
        states[recording] = after[int(np.argmax(totals[nbest.utt]))]
    return totals


@pytest.mark.parametrize(
    "names", [["lstm"], ["gru"], ["transformer"], ["ngram"], ["foreign", "ngram", "gru"]]
)
def test_equals_a_loop(runs: dict[str, TrainedRun], names: list[str]) -> None:
    chosen, lists, weights = [runs[name] for name in names], lists_of(), ScoreWeights(0.8)
    expected = naive(chosen, lists, weights)
    for batch_size in (1, 10, 1000):
        with LMScorer(chosen) as scorer:
            rescored = list(rescore(lists, scorer, weights, batch_size, NAMES))
        assert [nbest for nbest, _ in rescored] == lists
        for nbest, hyps in rescored:
            order = [nbest.hyps.index(hyp.hypothesis) for hyp in hyps]
            totals = [expected[nbest.utt][index] for index in order]
            assert [hyp.total for hyp in hyps] == pytest.approx(totals, abs=1e-4)


def test_single_utterances_have_no_context(runs: dict[str, TrainedRun]) -> None:
    lists = [NBest(f"r{n}-0-1", nbest.hyps) for n, nbest in enumerate(lists_of())]
    weights = ScoreWeights(0.8, 0.1, (), LengthUnit.eojeol, Normalize.token)
    with LMScorer([runs["lstm"], runs["ngram"]], linear=True) as scorer:
        alone = list(rescore(lists, scorer, weights))
        rescored = list(rescore(lists, scorer, weights, recordings=NAMES))
        in_context = list(rescore(lists_of(), scorer, weights, recordings=NAMES))
    for (_, hyps), (_, other) in zip(alone, rescored, strict=True):
        assert [h.total for h in hyps] == pytest.approx([h.total for h in other], abs=1e-5)
    assert any(
        abs(hyps[0].total - other[0].total) > 1e-3
        for (_, hyps), (_, other) in zip(alone, in_context, strict=True)
    )


def nbest_of(utt: str, **fields: Any) -> NBest:
    return NBest(utt, [Hypothesis("가", 0.0, fields=fields)], "n.txt:1")


def test_recordings_in_time() -> None:
    utts = ["r_x-100-120", "s_0000.5_0001", "r_x-90-100", "r_y-0-1", "s_0000.25_0000.5"]
    assert recordings_of(list(map(nbest_of, utts)), NAMES) == [[2, 0], [4, 1], [3]]
    by_name = RecordingNames(r"(.)\d+")  # without times: as in the file
    assert recordings_of([nbest_of(utt) for utt in ("a2", "b1", "a1")], by_name) == [[0, 2], [1]]
    by_field = RecordingNames(RECORDING_PATTERN, "rec")
    lists = [nbest_of("x-7-8", rec=1), nbest_of("y-5-6", rec=1), nbest_of("z", rec=2)]
    assert recordings_of(lists, by_field) == [[1, 0], [2]]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NAMES, "n.txt:1: the name of utterance u1 is not recording-begin-end; set recording_pat"),
        (RecordingNames(".*", "rec"), "n.txt:1: utterance u1 has no 'rec' .there is by.; set rec"),
        (RecordingNames("()(u)1"), "n.txt:1: 'u' in utterance u1 is not a number; the second gro"),
    ],
)
def test_mistakes(names: RecordingNames, message: str) -> None:
    with pytest.raises(NbestError, match=message):
        recordings_of([nbest_of("u1", by="x")], names)
