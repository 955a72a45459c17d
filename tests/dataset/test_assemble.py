"""The vocabulary of token counts that are added up on workers."""

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from korlm.config import VocabConfig
from korlm.dataset.assemble import _merge_counts, build_vocab
from korlm.dataset.executors.base import Executor
from korlm.dataset.storage.piece_files import TOKEN_COUNTS, PieceRecord, TokenizedPieces, piece_path
from korlm.dataset.storage.token_counts import add_up_counts, iterate_counts, write_token_counts
from korlm.dataset.vocab import NUMBER, SPECIALS, Vocab
from korlm.utils.errors import PreparedError, VocabError


@pytest.mark.parametrize(
    "config",
    [
        VocabConfig(min_freq=1),
        VocabConfig(min_freq=3),
        VocabConfig(min_freq=1, max_size=4),
        VocabConfig(min_freq=2, max_size=7),
        VocabConfig(min_freq=2, max_size=9, lowercase=True),
        VocabConfig(min_freq=3, normalize_numbers=True),
    ],
)
def test_rare_tokens_are_left_out(config: VocabConfig) -> None:
    dice = random.Random(1)
    words = [*SPECIALS, NUMBER, *"AaBb", "KBS", "kbs", "가", "각", "\U00020000", "\ufb01", *"1234"]
    counts = {word: dice.randint(1, 4) for word in words} | dict.fromkeys(SPECIALS, 9)
    table = pa.table([list(counts), list(counts.values())], names=["token", "count"])
    built, expected = build_vocab(table, config), Vocab(counts, config)
    assert (built.tokens, built.counts) == (expected.tokens, expected.counts)


def test_no_token_is_frequent_enough() -> None:
    for values in ({}, {"가": 1}, {"<unk>": 5}):
        table = pa.table(
            [pa.array(values, pa.string()), pa.array(values.values(), pa.int64())],
            names=["token", "count"],
        )
        with pytest.raises(VocabError, match="no token occurs 2 times in train"):
            build_vocab(table, VocabConfig(min_freq=2))


def test_counts_of_many_pieces_are_added_up(tmp_path: Path) -> None:
    dice = random.Random(1)
    counts = [Counter(dice.choices("가나다라마바사", k=3)) for _ in range(70)]
    for number, counter in enumerate(counts):
        write_token_counts(piece_path(tmp_path, TOKEN_COUNTS, number), counter)
    records = [PieceRecord("", {}, {TOKEN_COUNTS: ""}) for _ in counts]
    left = _merge_counts(TokenizedPieces(tmp_path, records), tmp_path / "merged", Executor())
    assert len(left) == 2  # 70 -> 9 -> 2
    total = dict(iterate_counts(add_up_counts(left)))
    assert total == sum(counts, Counter()) and list(total) == sorted(total)
    with pytest.raises(PreparedError, match=r"none.parquet: damaged or missing"):
        add_up_counts([tmp_path / "none.parquet"])
