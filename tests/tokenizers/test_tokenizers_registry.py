"""Each name of conf/tokenizer gives its tokenizer, and a version that starts nothing."""

from korlm.config import KkmaConfig, TokenizerConfig
from korlm.tokenizers.characters import JamoTokenizer, SyllableTokenizer
from korlm.tokenizers.registry import build_inprocess, tokenizer_version
from korlm.tokenizers.whitespace import EojeolTokenizer


def test_light_tokenizers_by_name() -> None:
    kinds = {"eojeol": EojeolTokenizer, "syllable": SyllableTokenizer, "jamo": JamoTokenizer}
    for name, kind in kinds.items():
        made = build_inprocess(TokenizerConfig(name=name))
        assert isinstance(made, kind) and made.name == name
        assert tokenizer_version(TokenizerConfig(name=name)) == made.version
    assert build_inprocess(KkmaConfig(name="kkma")) is None
