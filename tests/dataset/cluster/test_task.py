"""The text of a shard on its way to a worker, and what the worker makes room for."""

import dataclasses

import pytest

from korlm.config import KkmaConfig, TokenizerConfig, UnicodeForm
from korlm.corpus.lines import LineBlock
from korlm.dataset.cluster.task import (
    MEMORY_BESIDE_HEAP,
    MIN_HEAP,
    ShardText,
    fit_to_memory,
    versions,
)
from korlm.dataset.text_batches import TextBatch
from korlm.utils.errors import TokenizerError


def test_text_comes_back_as_it_was() -> None:
    batches = [
        TextBatch("train", 3, False, [LineBlock("train", "가#1", 1, ["나는", "", "e\u0301 😀"])]),
        TextBatch("train", 3, False, [LineBlock("train", "b", 7, ["\ud800", ""])]),
        TextBatch("train", 3, True, []),
    ]
    assert ShardText.pack(batches).unpack() == batches
    assert ShardText.pack(batches[2:]).unpack() == batches[2:]
    plain = [TextBatch("train", 0, True, [LineBlock("train", "a", 1, ["Ａ"])], UnicodeForm.nfkc)]
    assert ShardText.pack(plain).unpack()[0].normalized == ["A"]


def test_a_heap_that_fits() -> None:
    kkma = KkmaConfig(name="kkma")
    free = fit_to_memory(kkma, 4, None)
    assert (free.workers, free.threads, free.heap_mb) == (1, 4, 768 + 4 * 128)
    assert fit_to_memory(kkma, 4, MEMORY_BESIDE_HEAP + 600).heap_mb == 600
    assert fit_to_memory(dataclasses.replace(kkma, threads=2, heap_mb=700), 4, None).heap_mb == 700
    with pytest.raises(TokenizerError, match=r"no room for a JVM.*prepare\.memory_gb"):
        fit_to_memory(kkma, 4, MEMORY_BESIDE_HEAP + MIN_HEAP - 1)
    light = TokenizerConfig(name="eojeol")
    assert fit_to_memory(light, 4, 1) is light


def test_versions_know_the_tokenizer() -> None:
    assert set(versions(TokenizerConfig(name="eojeol"))) == {"korlm", "Python", "pyarrow", "eojeol"}
