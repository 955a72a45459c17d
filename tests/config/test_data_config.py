"""Settings of the text: names of encodings, and values that are refused."""

import pytest

from korlm.config import Encoding, TextConfig
from korlm.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        (Encoding.utf8, ["utf8", "utf-8", "UTF-8", "utf_8", "utf-8-sig", "ascii"]),
        (Encoding.cp949, ["cp949", "CP949", "949", "ms949", "uhc", "windows-949"]),
        (Encoding.cp949, ["euc-kr", "EUC_KR", "euckr", "ks_c_5601-1987", "ksc5601"]),
        (Encoding.johab, ["johab", "cp1361"]),
        (Encoding.utf16, ["utf16", "utf-16", "UTF-16"]),
        (Encoding.utf16le, ["utf16le", "utf-16le", "UTF-16-LE"]),
        (Encoding.utf16be, ["utf16be", "utf-16be"]),
    ],
)
def test_names_of_encodings(encoding: Encoding, names: list[str]) -> None:
    for name in names:
        assert TextConfig(encoding=name).encoding == encoding.value


@pytest.mark.parametrize("name", ["", "latin1", "korea", "hex", "utf-32", "a b"])
def test_other_encodings_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^corpus\.encoding=.*must be utf8, cp949"):
        TextConfig(encoding=name)


def test_a_column_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"^corpus\.text_column="):
        TextConfig(text_column="")
