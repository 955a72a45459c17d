"""The text of a shard on its way to a worker, and what the worker makes room for."""

import dataclasses

import pytest

from korlm.config import KkmaConfig, TokenizerConfig, Unicode
from korlm.corpus.lines import LineBlock
from korlm.dataset.cluster.task import BESIDE_HEAP, LEAST_HEAP, ShardText, fit_to_memory, versions
from korlm.dataset.text_batches import Batch
from korlm.utils.errors import TokenizerError


def test_text_comes_back_as_it_was() -> None:
    batches = [
        Batch("train", 3, False, [LineBlock("train", "가#1", 1, ["나는", "", "e\u0301 😀"])]),
        Batch("train", 3, False, [LineBlock("train", "b", 7, ["\ud800", ""])]),
        Batch("train", 3, True, []),
    ]
    assert ShardText.of(batches).batches() == batches
    assert ShardText.of(batches[2:]).batches() == batches[2:]
    plain = [Batch("train", 0, True, [LineBlock("train", "a", 1, ["Ａ"])], Unicode.nfkc)]
    assert ShardText.of(plain).batches()[0].normal == ["A"]


def test_a_heap_that_fits() -> None:
    kkma = KkmaConfig(name="kkma")
    free = fit_to_memory(kkma, 4, None)
    assert (free.workers, free.threads, free.heap) == (1, 4, 768 + 4 * 128)
    assert fit_to_memory(kkma, 4, BESIDE_HEAP + 600).heap_mb == 600
    assert fit_to_memory(dataclasses.replace(kkma, threads=2, heap_mb=700), 4, None).heap_mb == 700
    with pytest.raises(TokenizerError, match=r"no room for a JVM.*prepare\.memory_gb"):
        fit_to_memory(kkma, 4, BESIDE_HEAP + LEAST_HEAP - 1)
    light = TokenizerConfig(name="eojeol")
    assert fit_to_memory(light, 4, 1) is light


def test_versions_know_the_tokenizer() -> None:
    assert set(versions(TokenizerConfig(name="eojeol"))) == {"korlm", "Python", "pyarrow", "eojeol"}
