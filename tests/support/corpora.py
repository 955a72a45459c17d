"""Prepared corpora that the tests of this station share."""

import random
from collections.abc import Sequence
from pathlib import Path

from korlm.config import ClusterConfig, CorpusConfig, TokenizerConfig, VocabConfig
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared


def made(
    folder: Path, vocab: VocabConfig | None = None, piece_mb: float = 64, **splits: Sequence[str]
) -> Prepared:
    """The prepared corpus of these lines, each eojeol a token."""
    places = {}
    for split, lines in splits.items():
        path = folder / f"{split}.txt"
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        places[split] = [str(path)]
    corpus = CorpusConfig(name="made", **places)
    vocab = vocab or VocabConfig()
    eojeol, pieces = TokenizerConfig(name="eojeol"), ClusterConfig(piece_mb=piece_mb)
    return prepare(corpus, eojeol, vocab, folder / "outputs", False, pieces)


def random_lines(seed: int, count: int) -> list[str]:
    """Lines in which words and whole lines come again, some of them blank."""
    dice = random.Random(seed)
    words = ["가", "나는", "KBS", "kbs", "Kbs", "12", "3.5", "<eos>", "<num>", "😀", "e\u0301"]
    words += [f"말{int(1.02 ** dice.randrange(400))}" for _ in range(200)]
    lines: list[str] = []
    for _ in range(count):
        fresh = " ".join(dice.choices(words, k=dice.randrange(12)))
        lines.append(dice.choice(lines) if lines and dice.random() < 0.1 else fresh)
    return lines
