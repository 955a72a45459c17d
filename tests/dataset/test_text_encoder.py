"""Any text is encoded like the training text: the same ids, counts and spelling costs."""

from pathlib import Path

import numpy as np
import pytest

from korlm.config import CorpusConfig, DocumentUnit, TokenizerConfig, UnicodeForm, VocabConfig
from korlm.corpus.normalization import normalize
from korlm.corpus.reader import read_corpus
from korlm.corpus.records import LineBlock
from korlm.corpus.sources import find_sources
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared
from korlm.dataset.text_encoder import EncodedText, TextEncoder, read_prepared
from korlm.dataset.vocab import EOS_ID, UNK_ID

TEXT = "나는 학교에 간다\n\n너도 간다\n우리는 \u1100\u1161\u11ab다\n봄이 온다\n" * 40
OTHER = "나는 집에 간다\n \n뷁도  온다\n"


def prepared_in(folder: Path, tokenizer: str = "eojeol") -> tuple[Prepared, CorpusConfig]:
    (folder / "train.txt").write_text(TEXT, encoding="utf-8")
    (folder / "valid.txt").write_text(OTHER * 3, encoding="utf-8")
    corpus = CorpusConfig(
        name="t", train=[str(folder / "train.txt")], valid=[str(folder / "valid.txt")]
    )
    corpus.document_unit = DocumentUnit.line
    vocab = VocabConfig(min_freq=1)
    return prepare(corpus, TokenizerConfig(tokenizer), vocab, folder, progress=False), corpus


def joined(readings: list[EncodedText], name: str) -> np.ndarray:
    return np.concatenate([getattr(reading, name) for reading in readings])


@pytest.mark.parametrize("tokenizer", ["eojeol", "syllable", "jamo"])
def test_reading_text_equals_reading_shards(tmp_path: Path, tokenizer: str) -> None:
    prepared, corpus = prepared_in(tmp_path, tokenizer)
    shards = list(read_prepared(prepared.folder, "valid", prepared.vocab, prepared.spelling))
    lines = (part for part in read_corpus(corpus, find_sources(corpus)) if part.split == "valid")
    with TextEncoder(TokenizerConfig(tokenizer), prepared.vocab, prepared.spelling) as text_encoder:
        anew = list(text_encoder.read(lines))
    for name in ("ids", "spelling_nats", "lengths", "num_eojeol", "num_chars"):
        assert joined(shards, name).tolist() == joined(anew, name).tolist()
    assert [r.table.to_pylist() for r in shards] == [r.table.to_pylist() for r in anew]
    stats = prepared.stats["valid"]
    assert joined(anew, "ids").tolist() == prepared.ids("valid").tolist()
    assert joined(anew, "spelling_nats").sum() == pytest.approx(stats.spelling_nats)
    assert joined(anew, "num_eojeol").sum() == stats.num_eojeol
    assert joined(anew, "num_chars").sum() == stats.num_chars


@pytest.mark.parametrize("unicode", UnicodeForm)
@pytest.mark.parametrize("tokenizer", ["eojeol", "syllable"])
def test_text_is_normalized_as_the_corpus_was(
    tmp_path: Path, tokenizer: str, unicode: UnicodeForm
) -> None:
    lines = ["\ufeffＡ나는 ¨ 가\u200b다", "\u200b", "\u1112\u1161\u11ab ①"]
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text("\n".join(["가", *lines]), encoding="utf-8")
    files = {split: [str(tmp_path / f"{split}.txt")] for split in ("train", "valid")}
    corpus = CorpusConfig(name="t", **files, unicode=unicode)
    config = TokenizerConfig(tokenizer)
    prepared = prepare(corpus, config, VocabConfig(min_freq=1), tmp_path, progress=False)
    known = prepared.vocab, prepared.spelling
    (shard,) = read_prepared(prepared.folder, "valid", *known, unicode)
    with TextEncoder(config, *known, unicode=unicode) as text_encoder:
        anew = text_encoder.read_texts(["가", *lines])
    for name in ("ids", "lengths", "num_eojeol", "num_chars"):
        assert getattr(shard, name).tolist() == getattr(anew, name).tolist()
    stats = prepared.stats["valid"]
    assert anew.num_eojeol.sum() == stats.num_eojeol and anew.num_chars.sum() == stats.num_chars
    assert anew.unicode is shard.unicode is EncodedText.concatenate([anew, anew]).unicode is unicode
    assert anew.table["text"].to_pylist()[1:] == lines
    # The eojeols of tokens are those of the normalized lines.
    rows = anew.table.to_pylist()
    for row, count in zip(rows, anew.num_eojeol.tolist(), strict=True):
        last = max(row["eojeol"], default=-1)
        assert last + 1 == count == len(normalize(row["text"], unicode).split())


def test_a_few_lines(tmp_path: Path) -> None:
    prepared, _ = prepared_in(tmp_path)
    with TextEncoder(TokenizerConfig("eojeol"), prepared.vocab, prepared.spelling) as text_encoder:
        result = text_encoder.read_texts(["나는 뷁", "", " 간다"], "d")
        nothing = text_encoder.read_texts([])
    known, late = prepared.vocab.encode(["나는", "간다"])
    assert result.ids.tolist() == [known, UNK_ID, EOS_ID, late, EOS_ID]
    assert result.lengths.tolist() == [3, 0, 2]
    assert result.num_eojeol.tolist() == [2, 0, 1]
    assert result.num_chars.tolist() == [5, 0, 4]
    assert (result.spelling_nats > 0).tolist() == [False, True, False, False, False]
    assert result.spelling_nats[1] == pytest.approx(prepared.spelling.nats(["뷁"])[0])
    assert result.table["doc_id"].to_pylist() == ["d"] * 3
    assert result.table["line"].to_pylist() == [1, 2, 3]
    assert len(nothing.ids) == len(nothing.lengths) == 0


def test_long_texts_come_in_parts(tmp_path: Path) -> None:
    prepared, _ = prepared_in(tmp_path)
    texts = ["나는 간다"] * 10_000
    with TextEncoder(TokenizerConfig("eojeol"), prepared.vocab, prepared.spelling) as text_encoder:
        parts = list(text_encoder.read([LineBlock("text", "d", 1, texts)]))
    assert len(parts) > 1
    assert joined(parts, "lengths").tolist() == [3] * len(texts)
    assert [n for part in parts for n in part.table["line"].to_pylist()] == list(
        range(1, len(texts) + 1)
    )
