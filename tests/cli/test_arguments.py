"""Arguments are passed to Hydra as intended, or refused in one line."""

import random

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from korlm.cli.arguments import (
    check_arguments,
    check_groups,
    flags_first,
    join_literals,
    quote_hangul,
    to_hydra_grammar,
)
from korlm.config import store_schemas
from korlm.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [
        ("name=실험", "name='실험'"),
        ("a=b", "a=b"),
        ("a=[가,b,'다 라']", "a=['가',b,'다 라']"),
        ("a={b:가}", "a={b:'가'}"),
        ("a=리뷰 본문", "a='리뷰 본문'"),
        ("a=리뷰 본문,b c", "a='리뷰 본문',b c"),
        ("a=[리뷰 본문, b]", "a=['리뷰 본문', b]"),
        (r"a='it\'s 한'", r"a='it\'s 한'"),
        ("a=제목(원문)", "a='제목(원문)'"),
        ("a=내용:1", "a='내용:1'"),
        ("a=glob(가*)", "a=glob('가*')"),
        ("--help", "--help"),
    ],
)
def test_quote_hangul(argument: str, quoted: str) -> None:
    assert quote_hangul(argument) == quoted


def test_words_of_a_text_are_joined() -> None:
    words = ["run=x", "prompt=모든", "국민은", "-", "top_k=3", "-m", "법"]
    assert join_literals(words, {"prompt"}) == [
        "run=x",
        "prompt=모든 국민은 -",
        "top_k=3",
        "-m",
        "법",
    ]
    assert join_literals(["prompt=가", "--help"], {"prompt"}) == ["prompt=가", "--help"]
    assert join_literals(words, ()) == words
    assert join_literals([], {"prompt"}) == []


def test_literal_values_are_unchanged() -> None:
    parser, rng = OverridesParser.create(), random.Random(1)
    letters = "ab가 \\\\\\'\"${}:,=[]()#\n\t?~+-ㅋ"
    for _ in range(1000):
        text = "".join(rng.choices(letters, k=rng.randrange(9)))
        (word,) = to_hydra_grammar([f"prompt={text}"], {"prompt"})
        override = parser.parse_override(word)
        tree = OmegaConf.create({"prompt": override.value()})
        assert tree.prompt == text or text == "???", override
    assert to_hydra_grammar(["name=가"], {"prompt"}) == [quote_hangul("name=가")]


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("train", ["--epochs=3"], "--epochs: settings are written key=value"),
        ("train", ["sweep=lstm_small"], "python -m korlm.train -m sweep=lstm_small"),
        ("train", ["hydra/launcher=parallel"], "add -m"),
        ("train", ["--multirun=true"], "--multirun=true: this flag has no value: write --multirun"),
        ("train", ["-m=1"], "-m=1: this flag has no value: write -m"),
        ("train", ["--info=foo"], "--info=foo: must be one of all, config, defaults"),
        ("train", ["모델=gru"], "모델=gru: '모델' is not the name of a setting"),
    ],
)
def test_refused_words(command: str, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_arguments(command, words)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", ["sweep=lstm_small", "-m"]),
        ("train", ["sweep=lstm_small", "--cfg", "job"]),
        ("train", ["sweep=null"]),
        ("report", ["sweep_dir=x"]),
        ("train", ["--config-dir", "a-(b)=c"]),
        ("train", ["hydra/launcher=parallel", "hydra.mode=MULTIRUN"]),
    ],
)
def test_accepted_words(command: str, words: list[str]) -> None:
    check_arguments(command, words)


@pytest.mark.parametrize(
    ("typed", "flags"),
    [
        (["seed=1", "--info", "defaults"], ["--info", "defaults"]),
        (["-i", "seed=1", "-m"], ["-i", "all", "-m"]),
        (["seed=1", "--info=config"], ["--info=config"]),
    ],
)
def test_the_optional_value_of_info(typed: list[str], flags: list[str]) -> None:
    assert flags_first(typed) == [*flags, "seed=1"]
    check_arguments("train", flags_first(typed))


@pytest.mark.parametrize("typed", [["model=gru", "-cn"], ["seed=1", "--config-dir"], ["--cfg"]])
def test_the_value_of_a_last_flag_is_missing(typed: list[str]) -> None:
    with pytest.raises(ConfigError, match=f"{typed[-1]}: its value is missing"):
        flags_first(typed)


def test_a_dict_is_no_choice_of_a_group() -> None:
    store_schemas()
    check_groups("evaluate", ["corpus=text", "corpus.columns={a:1}"])
    for words in (
        ["corpus.columns={a:1}"],
        ["corpus={files:[x]}"],
        ["corpus=", "corpus.files=[x]"],
    ):
        with pytest.raises(ConfigError, match="choose the group as well: corpus=konlpy"):
            check_groups("evaluate", words)
