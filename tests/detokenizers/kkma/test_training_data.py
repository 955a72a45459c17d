"""Tokens aligned with written eojeols."""

import shutil
from pathlib import Path

from analysed import LINES, analysis, samples, write_prepared

from korlm.detokenizers.kkma.training_data import MAX_SHARDS, read_aligned_tokens


def test_read_aligned_tokens(tmp_path: Path) -> None:
    read = samples(tmp_path)
    assert " ".join(read.eojeols) == " ".join(text for text, _ in LINES * 20)
    tokens = [morph for _, eojeols in LINES * 20 for morph in analysis(eojeols).morphs]
    assert [read.morphs[number] for number in read.morph_ids] == tokens
    tags = [tag for _, eojeols in LINES * 20 for tag in analysis(eojeols).tags]
    assert [read.tags[number] for number in read.tag_ids] == tags


def test_eojeols_are_counted(tmp_path: Path) -> None:
    counts = samples(tmp_path).count_eojeols()
    assert counts[("가", "었", "다", "."), ("VV", "EPT", "EFN", "SF"), "갔다."] == 20
    assert sum(counts.values()) == 20 * sum(len(text.split()) for text, _ in LINES)


def test_the_limit_reads_lines_of_the_whole_split(tmp_path: Path) -> None:
    whole = samples(tmp_path / "whole")
    half = samples(tmp_path / "half", limit=len(whole.morph_ids) // 2 + 1)
    assert 0 < len(half.morph_ids) <= len(whole.morph_ids) * 0.6
    assert half.line_ids[-1] == len(LINES * 20) // 2 - 1


def test_the_limit_reads_a_part_of_many_shards(tmp_path: Path) -> None:
    tokens = write_prepared(tmp_path, copies=1) / "tokens"
    num_shards = 2 * MAX_SHARDS
    for number in range(1, num_shards):
        shutil.copy(tokens / "train-00000.parquet", tokens / f"train-{number:05d}.parquet")
    for number in range(1, num_shards, 2):  # damaged, but not read
        (tokens / f"train-{number:05d}.parquet").write_bytes(b"")
    read = read_aligned_tokens(tmp_path, max_tokens=10**6)
    assert read.line_ids[-1] + 1 == MAX_SHARDS * len(LINES)
