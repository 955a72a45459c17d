"""The tokenizer of the settings, and what tells two versions of it apart."""

from __future__ import annotations

from collections.abc import Callable

from korlm.config import KkmaConfig, TokenizerConfig, WorkerConfig
from korlm.data.kkma import KkmaTokenizer, kkma_version
from korlm.data.slow import SlowTokenizer
from korlm.data.tokenizer import EojeolTokenizer, JamoTokenizer, SyllableTokenizer, Tokenizer

_LIGHT: dict[str, Callable[[], Tokenizer]] = {
    "eojeol": EojeolTokenizer,
    "syllable": SyllableTokenizer,
    "jamo": JamoTokenizer,
}


def build_light(config: TokenizerConfig) -> Tokenizer | None:
    """The tokenizer of the settings, if it needs no process of its own."""
    make = _LIGHT.get(config.name)
    return make() if make else None


def build_slow(config: WorkerConfig) -> SlowTokenizer:
    """The tokenizer of the settings for one thread of a worker process.

    Raises:
        TokenizerError: it does not start.
    """
    assert isinstance(config, KkmaConfig)
    return KkmaTokenizer(config)


def tokenizer_version(config: TokenizerConfig) -> str:
    """What tells two versions of a tokenizer apart, for fingerprints; starts nothing."""
    light = build_light(config)
    if light is None:
        assert isinstance(config, KkmaConfig)
        return kkma_version(config)
    return light.version
