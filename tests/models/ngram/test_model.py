"""The n-gram model against KenLM."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import VOCAB_SIZE, random_text
from torch import Tensor

from korlm.config import NgramConfig, Smoothing
from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID, SPECIALS, UNK_ID
from korlm.models.ngram.arpa import read_arpa
from korlm.models.ngram.columns import FileColumn
from korlm.models.ngram.model import NgramLM
from korlm.models.registry import build_model
from korlm.utils.errors import ConfigError, OutputError

LMPLZ = Path(__file__).parent / "lmplz"  # see its README


class Oracle:
    """KenLM's ARPA file, parsed with minimal code, and its training text."""

    def __init__(self) -> None:
        text = (LMPLZ / "train.txt").read_text(encoding="utf-8")
        self.sentences = [line.split() for line in text.splitlines()]
        self.tokens = [*SPECIALS, *sorted({word for s in self.sentences for word in s})]
        self.id_of = {token: number for number, token in enumerate(self.tokens)}
        self.entries: dict[tuple[str, ...], tuple[float, float]] = {}
        for line in (LMPLZ / "order3.arpa").read_text(encoding="utf-8").splitlines():
            if "\t" in line:
                log_prob, gram, *backoff = line.split("\t")
                backoff_value = float(backoff[0]) if backoff else 0.0
                self.entries[tuple(gram.split(" "))] = (float(log_prob), backoff_value)

    def ids(self, *words: str) -> list[int]:
        """Return the ids of words; unknown words are <unk>."""
        return [self.id_of.get(word, UNK_ID) for word in words]

    def stream(self) -> np.ndarray:
        """Return the ids of all sentences, each followed by <eos>."""
        return np.array([i for s in self.sentences for i in [*self.ids(*s), EOS_ID]])

    def score(self, *gram: str) -> float:
        """Return log10 of the probability of the last word after the others, by ARPA's rule."""
        if gram in self.entries:
            return self.entries[gram][0]
        backoff = self.entries.get(gram[:-1], (0.0, 0.0))[1]
        return backoff + self.score(*gram[1:])

    def scores(self, sentence: list[str]) -> list[float]:
        """Return the scores of each word of a sentence and of its end."""
        words = [word if word in self.id_of else "<unk>" for word in sentence]
        padded = ["<s>", *words, "</s>"]
        return [self.score(*padded[max(0, i - 2) : i + 1]) for i in range(1, len(padded))]


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    """Return KenLM's model of order 3."""
    return Oracle()


@pytest.fixture(scope="module")
def model(oracle: Oracle) -> NgramLM:
    """Return korlm's model of the same text."""
    result = NgramLM(NgramConfig(name="ngram", order=3), len(oracle.tokens))
    result.fit(oracle.stream())
    return result


def log10(nats: Tensor) -> list[float]:
    return (-nats.double() / math.log(10)).tolist()


def test_scores_equal_kenlms(oracle: Oracle, model: NgramLM) -> None:
    """Known sentences, new sentences and unknown words, as one stream."""
    assert model.num_grams == len(oracle.entries) + 1  # korlm: <pad> and <bos>, KenLM: <s>
    known = oracle.sentences[:20]
    turned = [sentence[::-1] for sentence in known]
    strange = [["좌빨", *sentence[1:], "좌빨"] for sentence in known]
    sentences = known + turned + strange
    targets = [i for s in sentences for i in [*oracle.ids(*s), EOS_ID]]
    inputs = torch.tensor([[EOS_ID, *targets[:-1]]])
    expected = [score for s in sentences for score in oracle.scores(s)]
    nats, _ = model.token_nll(inputs, torch.tensor([targets]))
    assert log10(nats[0]) == pytest.approx(expected, abs=2e-6)
    log_probs, _ = model.log_probs(inputs)
    picked = log_probs[0].gather(1, torch.tensor(targets)[:, None])[:, 0]
    assert log10(-picked) == pytest.approx(expected, abs=2e-6)


def buffers(model: NgramLM) -> dict[str, list[float]]:
    """Return all numbers of a model."""
    return {name: buffer.tolist() for name, buffer in model.named_buffers()}


@pytest.mark.parametrize("memory_gb", [None, 1e-5])
def test_pruned_model_equals_lmplz(oracle: Oracle, memory_gb: float | None) -> None:
    """The file is lmplz's."""
    config = NgramConfig(name="ngram", order=3, prune=[0, 1], memory_gb=memory_gb)
    model = NgramLM(config, len(oracle.tokens))
    model.fit(oracle.stream())
    expected = read_arpa(LMPLZ / "order3_pruned.arpa", oracle.tokens, 3)
    for found, table in zip(model.tables(), expected, strict=True):
        assert found.keys.tolist() == table.keys.tolist()
        np.testing.assert_allclose(found.log_probs, table.log_probs, atol=3e-6)
        np.testing.assert_allclose(found.backoffs, table.backoffs, atol=3e-6)


@pytest.mark.parametrize("prune", [[0, 0, 1], [0, 1, 1, 3]])
def test_pruned_probabilities_sum_to_one(prune: list[int]) -> None:
    model = NgramLM(NgramConfig(name="ngram", order=4, prune=prune), VOCAB_SIZE)
    model.fit(random_text(500, seed=1))
    log_probs, _ = model.log_probs(torch.tensor(random_text(60, seed=2))[None])
    torch.testing.assert_close(log_probs.exp().sum(2), torch.ones(1, 60), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"prune": []},
        {"prune": [0, 1]},
        {"smoothing": Smoothing.maximum_likelihood},
        {"smoothing": Smoothing.add_k},
    ],
    ids=str,
)
def test_little_memory_makes_the_same_model(options: dict[str, object]) -> None:
    models = []
    for memory_gb in (None, 1e-6, 1e-5, 1e-3):
        config = NgramConfig(name="ngram", order=4, memory_gb=memory_gb, **options)
        models.append(NgramLM(config, VOCAB_SIZE))
        models[-1].fit(random_text(1000, seed=1))
    assert all(buffers(model) == buffers(models[0]) for model in models[1:])


def test_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FileColumn, "append", fail)
    model = NgramLM(NgramConfig(name="ngram", order=2, memory_gb=1e-5), VOCAB_SIZE)
    with pytest.raises(OutputError, match=r"the disk is full: .*TMPDIR"):
        model.fit(random_text(100, seed=1))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prune": [1]}, r"model.prune=\[1\]: must begin with 0: use vocab.min_freq"),
        ({"prune": [0, 2, 1]}, "must not decrease"),
        ({"prune": [0] * 4}, "more numbers than model.order=3"),
        ({"prune": [0, 1], "smoothing": Smoothing.add_k}, "needs model.smoothing=kneser_ney"),
        ({"memory_gb": 0}, "model.memory_gb=0: must be above 0"),
    ],
)
def test_settings_that_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NgramConfig(name="ngram", order=3, **config)


@pytest.mark.parametrize("start", [BOS_ID, EOS_ID])
def test_sentences_are_independent(oracle: Oracle, model: NgramLM, start: int) -> None:
    sentence = oracle.sentences[0]
    targets = torch.tensor([[*oracle.ids(*sentence), EOS_ID]])
    inputs = torch.cat([torch.tensor([[start]]), targets[:, :-1]], 1)
    before = oracle.ids(*oracle.sentences[1])
    _, state = model.log_probs(torch.tensor([[start, *before]]))
    for read in (None, state):
        nats, _ = model.token_nll(inputs, targets, read)
        assert log10(nats[0]) == pytest.approx(oracle.scores(sentence), abs=2e-6)


def test_shifted_and_arbitrary_targets_agree() -> None:
    """Targets that equal the next inputs use a faster lookup than others."""
    model = NgramLM(NgramConfig(name="ngram", order=4), VOCAB_SIZE)
    model.fit(random_text(500, seed=1))
    row = torch.tensor(random_text(60, seed=2)).view(3, 20)
    row[1, 12:] = PAD_ID
    inputs, targets = row[:, :-1], row[:, 1:]
    nats, _ = model.token_nll(inputs, targets)
    log_probs, _ = model.log_probs(inputs)
    picked = -log_probs.gather(2, targets[..., None])[..., 0]
    torch.testing.assert_close(nats, torch.where(targets == PAD_ID, 0.0, picked))


def test_bos_is_never_predicted() -> None:
    """<bos> is an alias of <eos> in the input but never a target."""
    model = NgramLM(NgramConfig(name="ngram", order=3), VOCAB_SIZE)
    model.fit(random_text(500, seed=1))
    for inputs in ([[4, BOS_ID]], [[4, 5]]):
        nats, _ = model.token_nll(torch.tensor(inputs), torch.tensor([[BOS_ID, 5]]))
        assert nats[0].isinf().tolist() == [True, False]


def test_the_state_is_the_last_ids() -> None:
    model = NgramLM(NgramConfig(name="ngram", order=4), VOCAB_SIZE)
    (state,) = model.initial_state(2)
    assert state.tolist() == [[PAD_ID] * 3] * 2
    _, (state,) = model.step(torch.tensor([5, BOS_ID]), (state,))
    assert state.dtype == torch.int64
    assert state.tolist() == [[0, 0, 5], [0, 0, EOS_ID]]
    rows = torch.tensor([[6, 7, 8, 9], [6, PAD_ID, PAD_ID, PAD_ID]])
    _, (after,) = model.log_probs(rows, (state,), torch.tensor([4, 1]))
    assert after.tolist() == [[7, 8, 9], [0, EOS_ID, 6]]


def test_order_1_ignores_the_context() -> None:
    model = NgramLM(NgramConfig(name="ngram", order=1), VOCAB_SIZE)
    model.fit(random_text(500, seed=1))
    log_probs, (state,) = model.log_probs(torch.tensor([[4, 5], [6, 7]]))
    assert state.shape == (2, 0)
    assert (log_probs == log_probs[0, 0]).all()
    nats, _ = model.token_nll(torch.tensor([[4, 5]]), torch.tensor([[5, 6]]))
    torch.testing.assert_close(nats[0], -log_probs[0, 0, [5, 6]])


def test_untrained_model_is_uniform() -> None:
    model = build_model(NgramConfig(name="ngram", order=3), VOCAB_SIZE)
    probs = model.log_probs(torch.tensor([[3, 4, 5]]))[0].exp()
    shares = [0 if i in (PAD_ID, BOS_ID) else 1 / (VOCAB_SIZE - 2) for i in range(VOCAB_SIZE)]
    torch.testing.assert_close(probs, torch.tensor(shares).expand(1, 3, -1))


def test_loading_resizes_the_tables() -> None:
    config = NgramConfig(name="ngram", order=3)
    counted = NgramLM(config, VOCAB_SIZE)
    counted.fit(random_text(500, seed=1))
    empty = build_model(config, VOCAB_SIZE)
    empty.load_state_dict(counted.state_dict())
    inputs = torch.tensor(random_text(30, seed=2))[None]
    torch.testing.assert_close(empty.log_probs(inputs)[0], counted.log_probs(inputs)[0])
    for other in (NgramConfig(name="ngram", order=4), NgramConfig(name="ngram", order=2)):
        with pytest.raises(RuntimeError, match="keys_"):
            build_model(other, VOCAB_SIZE).load_state_dict(counted.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        build_model(config, VOCAB_SIZE + 1).load_state_dict(counted.state_dict())


def test_text_shorter_than_the_order() -> None:
    model = NgramLM(NgramConfig(name="ngram", order=5), VOCAB_SIZE)
    with pytest.raises(ConfigError, match=r"^model\.order=5: .*order 4: lower model\.order") as e:
        model.fit(np.array([4, 5, EOS_ID, 4, EOS_ID]))
    assert "\n" not in str(e.value)


def test_maximum_likelihood_gives_zero_probabilities() -> None:
    """The zero-probability problem, which smoothing is for."""
    text, new = random_text(500, seed=1), torch.tensor(random_text(100, seed=2))[None]
    losses = {}
    for smoothing in Smoothing:
        model = NgramLM(NgramConfig(name="ngram", order=3, smoothing=smoothing), VOCAB_SIZE)
        model.fit(text)
        losses[smoothing.value] = float(model.training_loss(new[:, :-1], new[:, 1:]).nll) / 99
    assert math.isinf(losses["maximum_likelihood"])
    assert max(losses["kneser_ney"], losses["add_k"]) < math.log(VOCAB_SIZE - 2)
