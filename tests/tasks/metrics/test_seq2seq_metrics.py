"""Metrics of generated texts, by hand and against sacrebleu."""

from __future__ import annotations

import math
import random
import unicodedata

import numpy as np
import pytest

from korlm.tasks.metrics.seq2seq import NUM_COUNTS, count_pairs, metrics_of

REFERENCES = [
    "나는 오늘 학교에 갔다.",
    "하루가 또 가네요.",
    "위로해 드립니다",
    "가격은 1,234.5원 (10-20% 할인), 배송비는 무료입니다.",
    "뉴욕",
    "감사합니다!",
    "A&B는 &quot;좋은&quot; 회사다",
]
HYPOTHESES = [
    "나는 오늘 학교에 갔다.",
    "하루가 가네요",
    "위로 해 드립니다",
    "가격은 1,234.5원 (10-20% 할인), 배송은 무료.",
    "뉴우욕",
    "",
    "A&B는 좋은 회사다",
]


def evaluate(hypotheses: list[str], references: list[str]) -> dict[str, float]:
    return metrics_of(count_pairs(hypotheses, references).sum(0))


def test_by_hand() -> None:
    metrics = evaluate(["가나다", "가 나"], ["가나다", "가나라마"])
    assert metrics["exact_match"] == 0.5
    assert metrics["cer"] == 3 / 7  # 가 나 -> 가나라마: three edits
    assert evaluate(["가나다라"], ["가나다라"])["chrf"] == 100
    # Unigrams: 2 of 2, of 3; bigrams: 1 of 1, of 2; no trigram in the hypothesis.
    metrics = evaluate(["가나"], ["가나다"])
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    assert metrics["chrf"] == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))
    metrics = evaluate(["a b c d e"], ["a b c d f"])
    assert metrics["bleu"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    metrics = evaluate(["a b c d"], ["a b c d e"])
    assert metrics["bleu"] == pytest.approx(100 * math.exp(1 - 5 / 4))


def test_texts_are_compared_after_nfc_with_single_spaces() -> None:
    decomposed = unicodedata.normalize("NFD", "학교에  갔다 ")
    assert evaluate([decomposed], ["학교에 갔다"])["exact_match"] == 1
    assert evaluate([decomposed], ["학교에 갔다"])["cer"] == 0


def test_nothing() -> None:
    assert count_pairs([], []).shape == (0, NUM_COUNTS)
    metrics = evaluate([], [])
    assert math.isnan(metrics["exact_match"]) and math.isnan(metrics["cer"])
    assert (metrics["chrf"], metrics["bleu"]) == (0, 0)
    assert evaluate([""], ["가"]) == {"exact_match": 0, "cer": 1, "chrf": 0, "bleu": 0}


def test_counts_add_up() -> None:
    counts = count_pairs(HYPOTHESES, REFERENCES)
    parts = [count_pairs(HYPOTHESES[i::2], REFERENCES[i::2]).sum(0) for i in range(2)]
    np.testing.assert_array_equal(counts.sum(0), parts[0] + parts[1])


def noisy(texts: list[str], generator: random.Random) -> list[str]:
    """Return texts with some characters replaced, dropped or doubled."""
    pool = "".join(texts)

    def change(char: str) -> str:
        draw = generator.random()
        return char if draw > 0.15 else generator.choice([char * 2, "", generator.choice(pool)])

    return ["".join(map(change, text)) for text in texts]


def test_equal_to_sacrebleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    generator = random.Random(1)
    cases = [
        (HYPOTHESES, REFERENCES),
        (REFERENCES, HYPOTHESES),
        (["뉴욕"], ["뉴욕 시"]),
        ([""], ["가"]),
    ]
    for _ in range(30):
        references = [generator.choice(REFERENCES) for _ in range(generator.randint(1, 6))]
        cases.append((noisy(references, generator), references))
    for hypotheses, references in cases:
        metrics = evaluate(hypotheses, references)
        expected = sacrebleu.corpus_chrf(hypotheses, [references]).score
        assert metrics["chrf"] == pytest.approx(expected, abs=1e-9)
        expected = sacrebleu.corpus_bleu(hypotheses, [references]).score
        assert metrics["bleu"] == pytest.approx(expected, abs=1e-9)
