"""From token shards to ids: by hand, and against a plain loop."""

import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fakes import Line, packed
from korlm.dataset.storage.shard_writer import ShardWriter

from korlm.config import VocabConfig
from korlm.dataset import text_batches
from korlm.dataset.numericalize import count_tokens, encode_split, spelling_nats
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.storage import shard_writer
from korlm.dataset.storage.shards import shard_paths, split_counts
from korlm.dataset.text_batches import TextBatch, batch_lines
from korlm.dataset.vocab import EOS_ID, Vocab
from korlm.tokenizers.analysis import Analysis, to_record_batch
from korlm.tokenizers.whitespace import EojeolTokenizer


def write(folder: Path, texts: list[str], split: str = "train") -> None:
    """Shards of lines, parted at blanks."""
    lines = (Line(split, "doc", number, text) for number, text in enumerate(texts, 1))
    with ShardWriter(folder) as writer:
        for batch in batch_lines(packed(lines)):
            writer.write(batch, EojeolTokenizer().analyze_batch(batch.texts))


def encode(folder: Path, vocab: Vocab, split: str = "train") -> tuple[np.ndarray, Counter[str]]:  # type: ignore[type-arg]
    lossy_tokens = encode_split(folder, split, vocab, folder / f"{split}.npy")
    return np.load(folder / f"{split}.npy"), lossy_tokens


def test_by_hand(tmp_path: Path) -> None:
    write(tmp_path, ["나는 간다", "", "너는 나는 <eos>", " \t", "\0", "없는 나는"])
    counts = count_tokens(tmp_path, "train")
    assert counts == {"나는": 3, "간다": 1, "너는": 1, "<eos>": 1, "없는": 1}
    vocab = Vocab({"나는": 3, "간다": 2, "너는": 2}, VocabConfig())
    assert vocab.tokens[4:] == ["나는", "간다", "너는"]
    ids, lossy_tokens = encode(tmp_path, vocab)
    assert ids.tolist() == [4, 5, EOS_ID, 6, 4, 1, EOS_ID, 1, 4, EOS_ID]
    assert ids.dtype == np.uint16
    assert lossy_tokens == {"<eos>": 1, "없는": 1}
    total = split_counts(tmp_path, "train")
    assert (total.num_lines, total.num_sentences, total.num_tokens) == (6, 3, 10)


def test_lower_and_numbers_leave_something_to_spell(tmp_path: Path) -> None:
    write(tmp_path, ["KBS kbs 12 <num> Kbs KBS 1,000 12"])
    counts = count_tokens(tmp_path, "train")
    vocab = Vocab(counts, VocabConfig(min_freq=1, lowercase=True, normalize_numbers=True))
    ids, lossy_tokens = encode(tmp_path, vocab)
    kbs, number = vocab.encode(["kbs", "7"])
    assert ids.tolist() == [kbs, kbs, number, 1, kbs, kbs, number, number, EOS_ID]
    assert lossy_tokens == {"KBS": 2, "Kbs": 1, "12": 2, "1,000": 1, "<num>": 1}


def test_a_line_without_tokens_that_is_not_blank_ends_too(tmp_path: Path) -> None:
    # An analyzer may find nothing in a line of text.
    lines = [Line("train", "doc", number, "가") for number in range(1, 4)]
    analyses = [Analysis(["가"], [""], [0]), Analysis([], [], []), Analysis(["가"], [""], [0])]
    batch = TextBatch("train", 0, True, list(packed(lines)))
    with ShardWriter(tmp_path) as writer:
        writer.write(batch, to_record_batch(analyses))
    ids, _ = encode(tmp_path, Vocab({"가": 2}, VocabConfig()))
    assert ids.tolist() == [4, EOS_ID, EOS_ID, 4, EOS_ID]


@pytest.mark.parametrize("texts", [["", " "], []])
def test_nothing_to_encode(tmp_path: Path, texts: list[str]) -> None:
    write(tmp_path, texts, "test")
    ids, lossy_tokens = encode(tmp_path, Vocab({"가": 2}, VocabConfig()), "test")
    assert ids.tolist() == [] and ids.dtype == np.uint16
    assert lossy_tokens == {} and count_tokens(tmp_path, "test") == {}


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_plain_loop(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_batches, "SHARD_CHARS", 400)
    monkeypatch.setattr(shard_writer, "ROW_GROUP_CHARS", 150)
    monkeypatch.setattr(text_batches, "BATCH_CHARS", 60)
    dice = random.Random(seed)
    words = ["가", "나다", "KBS", "kbs", "12", "3.5", "<eos>", "<unk>", "<PAD>", "😀", "a", "\\"]
    texts = [" ".join(dice.choices(words, k=dice.randrange(8))) for _ in range(300)]
    write(tmp_path, texts)
    write(tmp_path, ["다른 말"] * 9, "valid")
    assert len(shard_paths(tmp_path, "train")) > 3
    config = VocabConfig(
        min_freq=dice.randint(1, 60), lowercase=seed % 2 == 0, normalize_numbers=seed % 3 == 0
    )
    counts = count_tokens(tmp_path, "train")
    assert counts == Counter(token for text in texts for token in text.split())
    vocab = Vocab(counts, config)
    expected, lossy_tokens = [], Counter[str]()
    for text in texts:
        for token in text.split():
            (token_id,) = vocab.encode([token]).tolist()
            expected.append(token_id)
            if token_id == 1 or vocab.tokens[token_id] != token:
                lossy_tokens[token] += 1
        expected += [EOS_ID] * bool(text.split())
    ids, found = encode(tmp_path, vocab)
    assert ids.tolist() == expected
    assert found == lossy_tokens
    assert split_counts(tmp_path, "train").num_tokens == len(expected)


@pytest.mark.parametrize(("kinds", "dtype"), [(65_532, np.uint16), (65_533, np.uint32)])
def test_ids_are_as_small_as_the_vocabulary_allows(tmp_path: Path, kinds: int, dtype: type) -> None:
    tokens = [f"t{number:05}" for number in range(kinds)]
    vocab = Vocab(dict.fromkeys(tokens, 1), VocabConfig(min_freq=1))
    write(tmp_path, [f"{tokens[0]} {tokens[-1]}"])
    ids, _ = encode(tmp_path, vocab)
    assert ids.dtype == dtype
    assert ids.tolist() == [4, kinds + 3, EOS_ID]


def test_spelling_nats_by_hand() -> None:
    model = CharNgramModel.train(["가", "나"])
    one, other = model.nats(["가", "다"])
    total = spelling_nats(model, Counter({"다": 3, "가": 2}))
    assert total == pytest.approx(2 * one + 3 * other)
    assert spelling_nats(model, Counter()) == 0.0
    assert math.isfinite(total) and total > 0
