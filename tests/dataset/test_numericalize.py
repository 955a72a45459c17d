"""Token shards to ids, computed by hand and by a loop."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import Line, packed

from korlm.config import VocabConfig
from korlm.dataset import text_batches
from korlm.dataset.numericalize import EncodedShard, encode_shard
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.storage import piece_writer
from korlm.dataset.storage.piece_files import TOKEN_COUNTS, piece_path
from korlm.dataset.storage.piece_writer import PieceWriter
from korlm.dataset.storage.shards import split_counts
from korlm.dataset.storage.token_counts import iterate_counts
from korlm.dataset.text_batches import TextBatch, batch_lines
from korlm.dataset.vocab import EOS_ID, Vocab
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.columns import to_record_batch
from korlm.tokenizers.text_units import EojeolTokenizer


def write(folder: Path, texts: list[str]) -> Counter[str]:
    """Write a piece of lines, split at spaces; return the counts of its tokens."""
    lines = (Line("train", "doc", number, text) for number, text in enumerate(texts, 1))
    with PieceWriter(folder, 0) as writer:
        for batch in batch_lines(packed(lines)):
            writer.write(batch, EojeolTokenizer().analyze_batch(batch.texts))
        writer.finish("key")
    return Counter(dict(iterate_counts(pq.read_table(piece_path(folder, TOKEN_COUNTS, 0)))))


def encode(folder: Path, vocab: Vocab) -> tuple[np.ndarray, EncodedShard]:  # type: ignore[type-arg]
    target, shard = folder / "ids.npy", folder / "tokens" / "train-00000.parquet"
    sums = encode_shard(shard, target, vocab, CharNgramModel.train(["가"]))
    return np.load(target), sums


def cost(tokens: dict[str, int]) -> float:
    """Return the spelling cost of tokens after 가, in nats."""
    model = CharNgramModel.train(["가"])
    return sum(count * float(model.nats([token])[0]) for token, count in tokens.items())


def test_by_hand(tmp_path: Path) -> None:
    counts = write(tmp_path, ["나는 간다", "", "너는 나는 <eos>", " \t", "\0", "없는 나는"])
    assert counts == {"나는": 3, "간다": 1, "너는": 1, "<eos>": 1, "없는": 1}
    vocab = Vocab({"나는": 3, "간다": 2, "너는": 2}, VocabConfig())
    assert vocab.tokens[4:] == ["나는", "간다", "너는"]
    ids, sums = encode(tmp_path, vocab)
    assert ids.tolist() == [4, 5, EOS_ID, 6, 4, 1, EOS_ID, 1, 4, EOS_ID]
    assert ids.dtype == np.uint16
    assert sums.num_unk == 2
    assert sums.spelling_nats == pytest.approx(cost({"<eos>": 1, "없는": 1}))
    total = split_counts(tmp_path / "tokens", "train")
    assert (total.num_lines, total.num_sentences, total.num_tokens) == (6, 3, 10)


def test_lower_and_numbers_leave_something_to_spell(tmp_path: Path) -> None:
    counts = write(tmp_path, ["KBS kbs 12 <num> Kbs KBS 1,000 12"])
    vocab = Vocab(counts, VocabConfig(min_freq=1, lowercase=True, normalize_numbers=True))
    ids, sums = encode(tmp_path, vocab)
    kbs, number = vocab.encode(["kbs", "7"])
    assert ids.tolist() == [kbs, kbs, number, 1, kbs, kbs, number, number, EOS_ID]
    lossy = {"KBS": 2, "Kbs": 1, "12": 2, "1,000": 1, "<num>": 1}
    assert sums.num_unk == 1 and sums.spelling_nats == pytest.approx(cost(lossy))


def test_a_line_without_tokens_that_is_not_blank_ends_too(tmp_path: Path) -> None:
    # An analyzer may return no tokens for a line of text.
    lines = [Line("train", "doc", number, "가") for number in range(1, 4)]
    analyses = [Analysis(["가"], [""], [0]), Analysis([], [], []), Analysis(["가"], [""], [0])]
    batch = TextBatch("train", list(packed(lines)))
    with PieceWriter(tmp_path, 0) as writer:
        writer.write(batch, to_record_batch(analyses))
        writer.finish("key")
    ids, _ = encode(tmp_path, Vocab({"가": 2}, VocabConfig()))
    assert ids.tolist() == [4, EOS_ID, EOS_ID, 4, EOS_ID]


def test_nothing_to_encode(tmp_path: Path) -> None:
    assert write(tmp_path, ["", " "]) == {}
    ids, sums = encode(tmp_path, Vocab({"가": 2}, VocabConfig()))
    assert ids.tolist() == [] and ids.dtype == np.uint16
    assert (sums.num_unk, sums.spelling_nats) == (0, 0.0)


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_plain_loop(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece_writer, "ROW_GROUP_CHARS", 150)
    monkeypatch.setattr(text_batches, "BATCH_CHARS", 60)
    rng = random.Random(seed)
    words = ["가", "나다", "KBS", "kbs", "12", "3.5", "<eos>", "<unk>", "<PAD>", "😀", "a", "\\"]
    texts = [" ".join(rng.choices(words, k=rng.randrange(8))) for _ in range(300)]
    counts = write(tmp_path, texts)
    config = VocabConfig(
        min_freq=rng.randint(1, 60), lowercase=seed % 2 == 0, normalize_numbers=seed % 3 == 0
    )
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
    ids, sums = encode(tmp_path, vocab)
    assert ids.tolist() == expected
    assert sums.num_unk == expected.count(1)
    assert sums.spelling_nats == pytest.approx(cost(lossy_tokens))
    assert split_counts(tmp_path / "tokens", "train").num_tokens == len(expected)


@pytest.mark.parametrize(("kinds", "dtype"), [(65_532, np.uint16), (65_533, np.uint32)])
def test_ids_are_as_small_as_the_vocabulary_allows(tmp_path: Path, kinds: int, dtype: type) -> None:
    tokens = [f"t{number:05}" for number in range(kinds)]
    vocab = Vocab(dict.fromkeys(tokens, 1), VocabConfig(min_freq=1))
    write(tmp_path, [f"{tokens[0]} {tokens[-1]}"])
    ids, _ = encode(tmp_path, vocab)
    assert ids.dtype == dtype
    assert ids.tolist() == [4, kinds + 3, EOS_ID]
