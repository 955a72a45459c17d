"""The contract of the registered tokenizers that run in this process; versions of all of them."""

import random

import pytest

from korlm.config import TokenizerConfig, WorkerConfig, registry
from korlm.detokenizers.registry import build_detokenizer
from korlm.tokenizers.analysis import EMPTY
from korlm.tokenizers.base import InProcessTokenizer
from korlm.tokenizers.columns import analyses_of
from korlm.tokenizers.registry import build_inprocess, tokenizer_version, train_tokenizer
from korlm.utils.errors import TokenizerError

SCHEMAS = registry.schemas("tokenizer")
IN_PROCESS = [name for name, schema in SCHEMAS.items() if not issubclass(schema, WorkerConfig)]
# The contract of one that needs a file is tested with its files, in subwords/test_given.py.
WITHOUT_FILE = [name for name in IN_PROCESS if name != "huggingface"]
TEXT = ["나는 학교에 간다.", " 앞뒤  빈칸\t", "ㅋㅋㅋ 3D로 봤는데 10/10점~", "大韓民國 é 😀"] * 5
CHARS = "가나힣 \t\xa0\u3000a▁.😀ㅋ\u0301"


def build(name: str) -> InProcessTokenizer:
    config: TokenizerConfig = SCHEMAS[name](name=name)
    tokenizer = build_inprocess(config, train_tokenizer(config, TEXT))
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize("name", WITHOUT_FILE)
def test_one_row_per_line_for_any_batch(name: str) -> None:
    tokenizer = build(name)
    assert tokenizer.name == name
    rng = random.Random(7)
    texts = ["", " \t", *TEXT, *("".join(rng.choices(CHARS, k=n % 30)) for n in range(100))]
    analyses = analyses_of(tokenizer.analyze_batch(texts))
    assert analyses == [tokenizer.analyze(text) for text in texts]
    assert analyses[:2] == [EMPTY, EMPTY]
    for text, (morphs, tags, eojeol, status, *_) in zip(texts, analyses, strict=True):
        assert len(morphs) == len(tags) == len(eojeol)
        assert morphs == tokenizer.tokenize(text)
        assert (status == "empty") == (not morphs) == (not text.split())
        assert eojeol == sorted(eojeol)
        assert not eojeol or (eojeol[0] >= 0 and eojeol[-1] < len(text.split()))


@pytest.mark.parametrize("name", WITHOUT_FILE)
def test_the_detokenizer_restores_the_text_except_for_blanks(name: str) -> None:
    tokenizer = build(name)
    detokenizer = build_detokenizer(name)
    for text in TEXT:
        assert detokenizer.detokenize(tokenizer.tokenize(text)).split() == text.split()


@pytest.mark.parametrize("name", SCHEMAS)
def test_versions_belong_to_the_settings_and_start_nothing(name: str) -> None:
    config: TokenizerConfig = SCHEMAS[name](name=name)
    if name not in IN_PROCESS:
        assert build_inprocess(config) is None
    try:
        version = tokenizer_version(config)
    except TokenizerError as error:
        pytest.skip(str(error))  # a package is not installed
    assert version == tokenizer_version(SCHEMAS[name](name=name)) and version.isprintable()
