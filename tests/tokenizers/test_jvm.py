"""Options of the JVM."""

import tempfile
from pathlib import Path

import pytest

from korlm.tokenizers.jvm import java_options

NATIVE = "--enable-native-access=ALL-UNNAMED"


@pytest.mark.parametrize(
    ("release", "native"),
    [
        ('IMPLEMENTOR="x"\nJAVA_VERSION="25.0.2"\n', True),
        ('JAVA_VERSION="17"\n', True),
        ('JAVA_VERSION="11.0.2"\n', False),
        ('JAVA_VERSION="1.8.0_402"\n', False),
        ("", False),
        (None, False),
    ],
)
def test_options_that_this_java_supports(
    release: str | None, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    if release is not None:
        (tmp_path / "release").write_text(release, encoding="utf-8")
    options = java_options()
    assert (NATIVE in options) == native
    (log,) = (o.partition("=")[2] for o in options if o.startswith("-XX:ErrorFile="))
    assert Path(log).parent == Path(tempfile.gettempdir())
