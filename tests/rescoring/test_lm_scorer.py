"""Log-probabilities equal those of single texts, of mixtures and of open vocabularies."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from tiny_runs import korean_lines

import korlm
from korlm.config import TokenizerConfig, UnicodeForm, VocabConfig
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.vocab import Vocab
from korlm.rescoring import LMScorer
from korlm.rescoring.encoded_texts import EncodedTexts, encode_ahead, same_vocab
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import ConfigError, CorpusError

TEXTS = [*korean_lines(6, 5), "나는 집에 간다.", "봄비가 뷁 온다.", "", "나는  집에 간다. ", "뷁"]


@pytest.fixture
def runs(tiny_run: Callable[[str], TrainedRun]) -> dict[str, TrainedRun]:
    return {name: tiny_run(name) for name in ("lstm", "gru", "ngram", "foreign")}


def token_nats(run: TrainedRun, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return token_nll and spelling_nats of a text on its own."""
    with run.text_encoder() as text_encoder:
        encoded = text_encoder.read_texts([" ".join(text.split())])
    ids, spelling = (encoded.ids, encoded.spelling_nats) if text.strip() else (np.array([3]), 0.0)
    targets = torch.tensor(ids.astype(np.int64))[None]
    inputs = torch.cat([torch.tensor([[run.start_id]]), targets[:, :-1]], 1)
    with torch.no_grad():
        return run.model.token_nll(inputs, targets)[0][0].double().numpy(), np.asarray(spelling)


@pytest.mark.parametrize("name", ["lstm", "gru", "ngram", "foreign"])
@pytest.mark.parametrize("open_vocabulary", [True, False])
def test_equals_single_texts(runs: dict[str, TrainedRun], name: str, open_vocabulary: bool) -> None:
    with LMScorer([runs[name]], linear=True, open_vocabulary=open_vocabulary) as scorer:
        actual = scorer.score(TEXTS)
    for at, text in enumerate(TEXTS):
        nats, spelling = token_nats(runs[name], text)
        expected = -nats.sum() - spelling.sum() * open_vocabulary
        assert actual.log_probs[0, at] == pytest.approx(expected, abs=1e-4)
        assert actual.num_tokens[at] == len(nats)


def test_unknown_words_pay_for_their_spelling(runs: dict[str, TrainedRun]) -> None:
    with LMScorer([runs["lstm"]], open_vocabulary=True) as scorer:
        paid = scorer.score(["뷁", "나는"]).log_probs[0]
    with LMScorer([runs["lstm"]], open_vocabulary=False) as scorer:
        cheap = scorer.score(["뷁", "나는"]).log_probs[0]
    assert paid[0] < cheap[0] - 1
    assert paid[1] == cheap[1]


def test_a_linear_mixture_mixes_probabilities(runs: dict[str, TrainedRun]) -> None:
    names, weights = ["lstm", "gru", "ngram"], [0.5, 0.2, 0.3]
    with LMScorer([runs[n] for n in names], linear=True, mixture_weights=weights) as scorer:
        actual = scorer.score(TEXTS).log_probs
    assert actual.shape == (1, len(TEXTS))
    for at, text in enumerate(TEXTS):
        rows = [token_nats(runs[name], text) for name in names]
        probs = sum(w * np.exp(-nats) for w, (nats, _) in zip(weights, rows, strict=True))
        expected = np.log(probs).sum() - rows[0][1].sum()
        assert actual[0, at] == pytest.approx(expected, abs=1e-4)


def test_runs_of_different_vocabularies(runs: dict[str, TrainedRun]) -> None:
    names = ["lstm", "foreign", "ngram"]
    with LMScorer([runs[n] for n in names]) as scorer:
        actual = scorer.score(TEXTS)
    for row, name in enumerate(names):
        with LMScorer([runs[name]]) as alone:
            expected = alone.score(TEXTS).log_probs[0]
        assert actual.log_probs[row] == pytest.approx(expected, abs=1e-4)


def lowercased(run: TrainedRun) -> TrainedRun:
    vocab = Vocab.restore(run.vocab.tokens, run.vocab.counts, VocabConfig(lowercase=True))
    return dataclasses.replace(run, vocab=vocab)


def with_settings(run: TrainedRun, **settings: object) -> TrainedRun:
    return dataclasses.replace(run, settings=dataclasses.replace(run.settings, **settings))


def test_runs_that_encode_text_alike(runs: dict[str, TrainedRun]) -> None:
    run = runs["lstm"]
    assert same_vocab(run, runs["ngram"])
    corpus = dataclasses.replace(run.settings.corpus, unicode=UnicodeForm.nfkc)
    for other in (
        runs["foreign"],
        lowercased(run),
        with_settings(run, corpus=corpus),
        with_settings(run, tokenizer=TokenizerConfig(name="jamo")),
    ):
        assert not same_vocab(run, other)
        with pytest.raises(ConfigError, match="encode text differently"):
            LMScorer([run, other], linear=True)


def test_each_run_has_its_own_spelling_model(runs: dict[str, TrainedRun]) -> None:
    """Runs with the same vocabulary file may be trained on different texts."""
    spelling = CharNgramModel.train(["뷁", "뷁뷁"])
    chosen = [runs["gru"], dataclasses.replace(runs["ngram"], spelling=spelling)]
    alone = []
    for run in chosen:
        with LMScorer([run]) as scorer:
            alone.append(scorer.score(TEXTS).log_probs[0])
    mixed = []
    for order in ([0, 1], [1, 0]):
        with LMScorer([chosen[index] for index in order]) as scorer:
            log_probs = scorer.score(TEXTS).log_probs
            assert log_probs == pytest.approx(np.stack(alone)[order], abs=1e-4)
        with LMScorer([chosen[index] for index in order], linear=True) as scorer:
            mixed.append(scorer.score(TEXTS).log_probs)
    assert mixed[0] == pytest.approx(mixed[1], abs=1e-9)


def test_batch_size_does_not_matter(runs: dict[str, TrainedRun]) -> None:
    texts = korean_lines(700, 9)  # more characters than one batch of the encoder
    with LMScorer([runs["lstm"], runs["foreign"]]) as scorer:
        whole = scorer.score(texts).log_probs
        parts = [scorer.score(texts[at : at + 33]) for at in range(0, 700, 33)]
    assert len(parts) == 22
    joined = np.concatenate([part.log_probs for part in parts], 1)
    assert joined == pytest.approx(whole, abs=1e-4)


def test_mixture_weights_are_fitted(runs: dict[str, TrainedRun]) -> None:
    texts = korean_lines(20, 11)
    chosen = [runs["gru"], runs["ngram"]]
    with LMScorer(chosen, linear=True) as scorer:
        equal = scorer.score(texts).log_probs.sum()
        scorer.fit_mixture_weights(texts)
        fitted = scorer.score(texts).log_probs.sum()
        assert scorer.mixture_weights.sum() == pytest.approx(1, abs=1e-9)
    alone = []
    for run in chosen:
        with LMScorer([run]) as scorer:
            alone.append(scorer.score(texts).log_probs.sum())
    assert fitted >= max(equal, *alone) - 0.01


def test_repeated_texts_count_in_the_fit(
    runs: dict[str, TrainedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, rare = korean_lines(20, 11), "뷁뷁 뷁."
    fitted = []
    for batch_size in (1000, 7):
        monkeypatch.setattr("korlm.rescoring.lm_scorer.FIT_BATCH", batch_size)
        with LMScorer([runs["gru"], runs["ngram"]], linear=True) as scorer:
            scorer.fit_mixture_weights([*texts, *[rare] * 200])
            fitted.append(scorer.mixture_weights)
            scorer.fit_mixture_weights([*texts, rare])
            assert abs(scorer.mixture_weights - fitted[-1]).max() > 0.01
    assert fitted[0] == pytest.approx(fitted[1], abs=2e-4)


def impossible(run: TrainedRun) -> TrainedRun:
    """Return an n-gram run that assigns probability 0 to every token."""
    broken = dataclasses.replace(run, model=korlm.load(run.folder).model)
    for order in (1, 2, 3):
        broken.model.get_buffer(f"log_probs_{order}").fill_(-torch.inf)
    return broken


def test_probability_0_is_an_error(runs: dict[str, TrainedRun]) -> None:
    broken, folder = impossible(runs["ngram"]), runs["ngram"].folder
    with (
        LMScorer([broken]) as scorer,
        pytest.raises(ConfigError, match=f"^run {folder}: ln p of '나는 간다' is -inf"),
    ):
        scorer.score(["나는 간다"])
    chosen = [runs["gru"], broken]
    with LMScorer(chosen, linear=True, mixture_weights=[1, 0]) as scorer:
        scorer.score(["나는 간다"])
    with (
        LMScorer(chosen, linear=True, mixture_weights=[0, 1]) as scorer,
        pytest.raises(ConfigError, match=f"mixture of {runs['gru'].folder}, {folder}: .* positive"),
    ):
        scorer.score(["나는 간다"])


def test_wrong_arguments(runs: dict[str, TrainedRun]) -> None:
    chosen = [runs["gru"], runs["ngram"]]
    with pytest.raises(ConfigError, match="at least one run"):
        LMScorer([])
    for weights in ([0.2, 0.3, 0.5], [1, 1], [1.5, -0.5], [np.nan, 1]):
        with pytest.raises(ConfigError, match=r"mixture_weights=\[.*: must be 2 numbers"):
            LMScorer(chosen, linear=True, mixture_weights=weights)
    weights = np.array([0.4, 0.6])
    with LMScorer(chosen, linear=True, mixture_weights=weights) as scorer:
        for contexts in ([[]], [["나"], []], [[], ["나"]]):
            with pytest.raises(CorpusError, match="a batch is empty"):
                scorer.encode(contexts)
        with pytest.raises(CorpusError, match="lone surrogate"):
            scorer.score(["\ud800"])
        assert scorer.score("나는").log_probs.shape == (1, 1)
        encoded = scorer.encode([["나", "나"], ["나"]])
    assert (encoded.texts, encoded.indices.tolist()) == (["나", "나"], [0, 0, 1])
    assert encoded.contexts.tolist() == [0, 1]


def test_one_batch_is_encoded_ahead() -> None:
    taken, hangs = [], threading.Event()

    def batches() -> Iterator[int]:
        for number in range(5):
            taken.append(number)
            yield number

    def encode(number: int) -> EncodedTexts:
        if number == 2:
            hangs.wait()
        return EncodedTexts([str(number)], np.zeros(1, int), np.zeros(1, int), [])

    ahead = encode_ahead(encode, batches())
    for number in range(2):
        batch, encoded = next(ahead)
        assert (batch, encoded.texts, taken) == (number, [str(number)], [*range(number + 2)])
    ahead.close()  # as after Ctrl-C: does not wait for batch 2
    hangs.set()
    assert [batch for batch, _ in encode_ahead(encode, [1, 2])] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        list(encode_ahead(lambda number: 1 // number, [1, 0]))  # type: ignore[arg-type,return-value]
