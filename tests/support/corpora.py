"""Small prepared corpora."""

import random
from collections.abc import Sequence
from pathlib import Path

from korlm.config import ClusterConfig, CorpusConfig, TokenizerConfig, VocabConfig
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared


def prepare_corpus(
    folder: Path, vocab: VocabConfig | None = None, piece_mb: float = 64, **splits: Sequence[str]
) -> Prepared:
    """Return a prepared corpus of lines by split; every eojeol is a token."""
    files = {}
    for split, lines in splits.items():
        path = folder / f"{split}.txt"
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        files[split] = [str(path)]
    corpus = CorpusConfig(name="made", **files)
    vocab = vocab or VocabConfig()
    eojeol, pieces = TokenizerConfig(name="eojeol"), ClusterConfig(piece_mb=piece_mb)
    return prepare(corpus, eojeol, vocab, folder / "outputs", False, pieces)


def random_lines(seed: int, count: int) -> list[str]:
    """Return lines with repeated words and repeated lines, some of them blank."""
    rng = random.Random(seed)
    words = ["가", "나는", "KBS", "kbs", "Kbs", "12", "3.5", "<eos>", "<num>", "😀", "e\u0301"]
    words += [f"말{int(1.02 ** rng.randrange(400))}" for _ in range(200)]
    lines: list[str] = []
    for _ in range(count):
        new = " ".join(rng.choices(words, k=rng.randrange(12)))
        lines.append(rng.choice(lines) if lines and rng.random() < 0.1 else new)
    return lines
