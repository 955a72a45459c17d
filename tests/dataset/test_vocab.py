"""Ids of tokens, and the vocabulary file."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from one_line import error_of
from torchtext.vocab import Vocab as TorchtextVocab

from korlm.config import VocabConfig
from korlm.dataset.vocab import (
    BOS_ID,
    EOS_ID,
    NUMBER,
    PAD_ID,
    SPECIALS,
    UNK_ID,
    Vocab,
    id_dtype,
    normalize_token,
)
from korlm.utils.errors import VocabError

ALL = VocabConfig(min_freq=1)
ODD_TOKENS = ["\t", "\n", "\r", "\\", "\\t", "\\\\n", "a\tb", " ", "", "\x85", "\u2028", "😀", "\0"]


def random_counts(seed: int) -> Counter[str]:
    rng = random.Random(seed)
    letters = "가나다라abAB1.😀\u1112"
    tokens = ["".join(rng.choices(letters, k=rng.randint(1, 4))) for _ in range(200)]
    return Counter({token: rng.randint(1, 9) for token in tokens})


def test_specials_come_first() -> None:
    assert (PAD_ID, UNK_ID, BOS_ID, EOS_ID) == (0, 1, 2, 3)
    vocab = Vocab({"가": 1}, ALL)
    assert vocab.tokens == ["<pad>", "<unk>", "<bos>", "<eos>", "가"]
    assert vocab.counts == [0, 0, 0, 0, 1]
    assert len(vocab) == 5


@pytest.mark.parametrize(
    ("min_freq", "max_size"), [(1, None), (2, None), (5, None), (1, 10), (3, 40), (1, 10_000)]
)
def test_order_equals_that_of_torchtext(min_freq: int, max_size: int | None) -> None:
    counts = random_counts(1)
    oracle = TorchtextVocab(
        counts, min_freq=min_freq, max_size=max_size, specials=["<pad>", "<unk>", "<bos>", "<eos>"]
    )
    vocab = Vocab(counts, VocabConfig(min_freq=min_freq, max_size=max_size))
    assert vocab.tokens == oracle.itos
    tokens = [*counts, "없는 말"]
    expected = [oracle.stoi[token] for token in tokens]
    assert vocab.encode(tokens).tolist() == expected
    assert vocab.counts[4:] == [counts[token] for token in oracle.itos[4:]]
    assert sum(vocab.counts) == sum(counts.values())


def test_order_min_freq_and_max_size_by_hand() -> None:
    counts = {"나": 2, "가": 3, "다": 1, "라": 2}
    assert Vocab(counts, ALL).tokens[4:] == ["가", "나", "라", "다"]
    assert Vocab(counts, VocabConfig()).tokens[4:] == ["가", "나", "라"]
    cut = Vocab(counts, VocabConfig(max_size=2))
    assert cut.tokens[4:] == ["가", "나"]
    assert cut.counts[UNK_ID] == 1 + 2


@pytest.mark.parametrize("counts", [{}, {"가": 2, "나": 1}, {"<unk>": 9}])
def test_no_token_is_frequent_enough(counts: dict[str, int]) -> None:
    error_of(lambda: Vocab(counts, VocabConfig(min_freq=3)), "vocab.min_freq=3", kind=VocabError)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("numbers", [False, True])
def test_a_token_that_looks_like_a_special_is_none(lower: bool, numbers: bool) -> None:
    config = VocabConfig(min_freq=1, lowercase=lower, normalize_numbers=numbers)
    looks = [*SPECIALS, NUMBER]
    looks += [token.upper() for token in looks] if lower else []
    vocab = Vocab({"가": 2, **dict.fromkeys(looks, 5)}, config)
    assert vocab.tokens == [*SPECIALS, "가"]
    assert vocab.encode(looks).tolist() == [UNK_ID] * len(looks)
    assert vocab.counts == [0, 5 * len(looks), 0, 0, 2]
    assert not vocab.is_lossless(looks, vocab.encode(looks)).any()


def test_upper_case_specials_are_plain_tokens_unless_lowered() -> None:
    vocab = Vocab({"<EOS>": 2}, ALL)
    assert vocab.encode(["<EOS>", "<eos>"]).tolist() == [4, UNK_ID]


def test_normalized_tokens() -> None:
    for number in ("1", "2024", "1,234.5", "１２"):
        assert normalize_token(number, lowercase=False, normalize_numbers=True) == NUMBER
        assert normalize_token(number, lowercase=False, normalize_numbers=False) == number
    for token in ("1.", ",5", "1a", "-1", "일", "1\n", "", "KBS방송"):
        assert normalize_token(token, lowercase=False, normalize_numbers=True) == token
    assert normalize_token("KBS방송", lowercase=True, normalize_numbers=False) == "kbs방송"


def test_normalized_tokens_share_an_id() -> None:
    config = VocabConfig(min_freq=3, lowercase=True, normalize_numbers=True)
    vocab = Vocab({"KBS": 1, "kbs": 1, "Kbs": 1, "12": 2, "3,000": 4, "가": 2}, config)
    assert vocab.tokens[4:] == ["<num>", "kbs"]
    assert vocab.counts[4:] == [6, 3] and vocab.counts[UNK_ID] == 2
    assert vocab.encode(["kBS", "77", "가", "KBS", "<num>"]).tolist() == [5, 4, 1, 5, 1]
    assert vocab.decode([4, 5, 1, 3]) == ["<num>", "kbs", "<unk>", "<eos>"]


def test_are_spelt() -> None:
    vocab = Vocab(
        {"kbs": 1, "12": 2}, VocabConfig(min_freq=1, lowercase=True, normalize_numbers=True)
    )
    tokens = ["kbs", "KBS", "12", "없는 말"]
    spelt = vocab.is_lossless(tokens, vocab.encode(tokens)).tolist()
    assert spelt == [True, False, False, False]


def test_encode_inserts_nothing() -> None:
    vocab = Vocab({"가": 1}, ALL)
    for _ in range(2):
        assert vocab.encode(["나", "가", "나"]).tolist() == [UNK_ID, 4, UNK_ID]
    assert len(vocab) == len(vocab.tokens) == 5
    assert len(vocab._vocab.stoi) == 5  # looking up stoi[token] would have grown it


def test_encode_and_decode() -> None:
    counts = random_counts(2)
    vocab = Vocab(counts, ALL)
    tokens = list(counts)
    ids = vocab.encode(tokens)
    assert ids.dtype == np.int64
    assert vocab.decode(ids) == tokens
    assert vocab.encode([]).tolist() == [] and vocab.encode([]).dtype == np.int64


@pytest.mark.parametrize("lower", [False, True])
def test_saved_and_loaded(tmp_path: Path, lower: bool) -> None:
    counts = Counter({token: 2 + number for number, token in enumerate(ODD_TOKENS)})
    config = VocabConfig(min_freq=1, lowercase=lower)
    vocab = Vocab(counts + random_counts(3), config)
    vocab.save(tmp_path / "vocab.tsv")
    loaded = Vocab.load(tmp_path / "vocab.tsv", config)
    assert loaded.tokens == vocab.tokens
    assert loaded.counts == vocab.counts
    tokens = [*ODD_TOKENS, "KBS", *counts, "없는 말", "<eos>"]
    assert loaded.encode(tokens).tolist() == vocab.encode(tokens).tolist()
    assert len(loaded.tokens) == len(vocab.tokens)


def test_the_file_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "vocab.tsv"
    Vocab({"가": 3, "\t": 2, "\\n": 2, "x": 1}, VocabConfig()).save(path)
    assert path.read_bytes().decode() == (
        "<pad>\t0\n<unk>\t1\n<bos>\t0\n<eos>\t0\n가\t3\n\\t\t2\n\\\\n\t2\n"
    )


GOOD = "<pad>\t0\n<unk>\t1\n<bos>\t0\n<eos>\t2\n가\t3\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing of the kind\n",
        GOOD.replace("<bos>", "<eos>").encode(),
        GOOD.replace("가\t3", "가").encode(),
        GOOD.replace("가\t3", "가\tmany").encode(),
        (GOOD + "가\t1\n").encode(),
        GOOD.encode().replace("가".encode(), b"\xb0\xa1"),
        GOOD[:20].encode(),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vocab.tsv"
    path.write_bytes(GOOD.encode())
    assert Vocab.load(path, ALL).tokens == [*SPECIALS, "가"]
    path.write_bytes(content)
    for file in (path, tmp_path / "missing.tsv"):
        with pytest.raises((OSError, ValueError)):
            Vocab.load(file, ALL)


def test_restored_from_a_checkpoint() -> None:
    vocab = Vocab({"가": 3, "kbs": 2}, VocabConfig(lowercase=True))
    restored = Vocab.restore(vocab.tokens, vocab.counts, VocabConfig(lowercase=True))
    assert restored.encode(["KBS", "나"]).tolist() == [5, UNK_ID]
    with pytest.raises(ValueError, match="<pad>"):
        Vocab.restore(["가"], [1], ALL)
    with pytest.raises(ValueError, match="duplicate"):
        Vocab.restore([*SPECIALS, "가", "가"], [0] * 6, ALL)


@pytest.mark.parametrize(
    ("size", "dtype"), [(5, np.uint16), (65_536, np.uint16), (65_537, np.uint32)]
)
def test_id_dtype(size: int, dtype: type) -> None:
    assert id_dtype(size) == dtype
    assert size - 1 <= np.iinfo(dtype).max
