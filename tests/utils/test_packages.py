"""A missing package is reported in one line."""

import importlib.metadata

import pytest

from korlm.utils.errors import TokenizerError, install_command
from korlm.utils.packages import version_of


def test_versions() -> None:
    assert version_of("pyarrow", "x") == importlib.metadata.version("pyarrow")
    with pytest.raises(TokenizerError) as caught:
        version_of("no-such-package", "kiwi")
    assert str(caught.value) == (
        f"tokenizer=kiwi: no-such-package is not installed: {install_command('no-such-package')}"
    )
