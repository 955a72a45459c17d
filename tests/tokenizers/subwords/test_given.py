"""Tokenizers that are given as a file: their tokens, versions, copies in runs, and mistakes."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import sentences
from tiny_runs import finish, make_settings, prepare_tiny

import korlm
from korlm.config import HuggingFaceConfig, SentencePieceConfig, TokenizerConfig
from korlm.exporting.export_run import export_run
from korlm.tokenizers.analysis import EMPTY
from korlm.tokenizers.registry import build_inprocess, tokenizer_version, train_tokenizer
from korlm.utils.errors import TokenizerError

TEXT = [
    *sentences(200, 1),
    "나는 집에 간다.",
    "너는 밥을 먹는다.",
    "우리는 잔다. 책을 본다. 봄이 온다.",
]


def spm_of(kind: str) -> bytes:
    """A sentencepiece model with the usual normalization, which korlm's own has not."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=model,
        model_type=kind,
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def json_of(kind: str) -> bytes:
    """The tokenizer.json of each usual kind: WordPiece, byte-level BPE, unigram."""
    # Without the package, ``import tokenizers`` would find the folder of these tests.
    pytest.importorskip("tokenizers.models")
    import tokenizers

    models, trainers = tokenizers.models, tokenizers.trainers
    pre, decoders = tokenizers.pre_tokenizers, tokenizers.decoders
    built: Any
    if kind == "wordpiece":
        built = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        built.pre_tokenizer, built.decoder = pre.BertPreTokenizer(), decoders.WordPiece()
        specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        trainer = trainers.WordPieceTrainer(
            vocab_size=120, special_tokens=specials, show_progress=False
        )
    elif kind == "bytes":
        built = tokenizers.Tokenizer(models.BPE())
        built.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
        built.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False
        )
    else:
        built = tokenizers.Tokenizer(models.Unigram())
        built.pre_tokenizer, built.decoder = pre.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        )
    built.train_from_iterator(TEXT, trainer)
    content: str = built.to_str()
    return content.encode()


KINDS = ["wordpiece", "bytes", "unigram"]


def config_of(path: Path, content: bytes) -> TokenizerConfig:
    path.write_bytes(content)
    if path.suffix == ".json":
        return HuggingFaceConfig(name="huggingface", file=str(path))
    return SentencePieceConfig(name="sentencepiece", file=str(path))


def tokenizer_of(config: TokenizerConfig) -> Any:
    return build_inprocess(config, train_tokenizer(config, []))


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_hugging_face(tmp_path: Path, kind: str) -> None:
    content = json_of(kind)
    from tokenizers import Tokenizer

    tokenizer = tokenizer_of(config_of(tmp_path / "tokenizer.json", content))
    text = "나는 어제 학교에 갔다."
    expected = Tokenizer.from_str(content.decode()).encode(text, add_special_tokens=False)
    found = tokenizer.analyze("나는  어제\t학교에 갔다. ")
    assert found.morphs == expected.tokens
    assert found.eojeol == sorted(found.eojeol) and set(found.eojeol) == {0, 1, 2, 3}
    assert found.status == "ok"
    assert tokenizer.analyze(" \t") == EMPTY


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_hugging_face(tmp_path: Path, kind: str) -> None:
    from korlm.detokenizers.base import StreamingDetokenizer
    from korlm.detokenizers.registry import build_detokenizer

    config = config_of(tmp_path / "tokenizer.json", json_of(kind))
    tokens = tokenizer_of(config).tokenize("나는 어제 학교에 갔다.")
    detokenizer = build_detokenizer("huggingface", (), train_tokenizer(config, []))
    assert detokenizer.detokenize([*tokens, "<eos>"]) == "나는 어제 학교에 갔다."
    stream = StreamingDetokenizer(detokenizer)
    assert ("".join(map(stream.add, tokens)) + stream.end()).strip() == "나는 어제 학교에 갔다."


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_unknown_text_is_a_token_as_written(tmp_path: Path, kind: str) -> None:
    tokenizer = tokenizer_of(config_of(tmp_path / "tokenizer.json", json_of(kind)))
    found = tokenizer.analyze("나는 뷁뷁")
    assert "뷁뷁" in found.morphs and not {"[UNK]", "<unk>"} & {*found.morphs}


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_tokens_of_sentencepiece(tmp_path: Path, kind: str) -> None:
    tokenizer = tokenizer_of(config_of(tmp_path / "m.model", spm_of(kind)))
    found = tokenizer.analyze("나는  ＫＢＳ 뷁")
    assert "".join(found.morphs) == "▁나는▁KBS▁뷁"
    assert found.eojeol == sorted(found.eojeol) and set(found.eojeol) == {0, 1, 2}
    ends = ["".join(m for m, e in zip(*found[:3:2], strict=True) if e == n) for n in range(3)]
    assert ends[2].endswith("뷁") and "KBS" in ends[1]


@pytest.mark.parametrize(
    ("name", "content"), [("tokenizer.json", json_of), ("m.model", spm_of)], ids=["json", "model"]
)
def test_the_version_has_the_digest(tmp_path: Path, name: str, content: Any) -> None:
    one, other = content("unigram"), content("wordpiece" if "json" in name else "bpe")
    config = config_of(tmp_path / name, one)
    version = tokenizer_version(config)
    assert re.search(r", file [0-9a-f]{12}$", version)
    (tmp_path / name).write_bytes(other)
    assert tokenizer_version(config) != version
    (tmp_path / name).unlink()
    assert tokenizer_version(config, one) == version


@pytest.mark.parametrize("name", ["tokenizer.json", "m.model"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; name another file"),
        (b"{}", "damaged, or a file of another kind"),
        (b"\xff\xfe", "damaged, or a file of another kind"),
        (b'{"model": {"type": "WordPiece", "vocab": {}}}', "damaged, or a file of another kind"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    pytest.importorskip("tokenizers.models" if "json" in name else "sentencepiece")
    with pytest.raises(TokenizerError, match=words) as caught:
        train_tokenizer(config_of(tmp_path / name, content), [])
    assert "\n" not in str(caught.value)


def test_missing_files() -> None:
    pytest.importorskip("tokenizers.models")
    with pytest.raises(TokenizerError, match=r"give tokenizer\.file=tokenizer\.json"):
        tokenizer_version(HuggingFaceConfig(name="huggingface"))
    for config in (
        HuggingFaceConfig(name="huggingface", file="nowhere"),
        SentencePieceConfig(name="sentencepiece", file="nowhere"),
    ):
        with pytest.raises(TokenizerError, match=r"tokenizer\.file=nowhere: No such file"):
            tokenizer_version(config)


def test_settings_without_effect() -> None:
    config = SentencePieceConfig(name="sentencepiece", file="m.model")
    assert set(config.without_effect()) == {"vocab_size", "character_coverage", "byte_fallback"}


@pytest.mark.parametrize("name", ["tokenizer.json", "m.model"])
def test_runs_and_exports_keep_a_copy(tmp_path: Path, name: str) -> None:
    content = json_of("unigram") if "json" in name else spm_of("bpe")
    config = config_of(tmp_path / name, content)
    prepared = prepare_tiny(tmp_path, min_freq=1, tokenizer=config)
    (tmp_path / name).unlink()
    torch.set_num_threads(1)
    finish(make_settings(prepared, {"epochs": 1}, tokenizer=config), prepared, tmp_path / "run")
    run: Any = korlm.load(tmp_path / "run")
    export_run(run, tmp_path / "export")
    kept = tmp_path / "export" / (name if "json" in name else "tokenizer.model")
    assert kept.read_bytes() == content
    exported: Any = korlm.load(tmp_path / "export")
    assert exported.score(["나는 잔다."]) == run.score(["나는 잔다."])
    assert exported.generate("나는", seed=1) == run.generate("나는", seed=1)
