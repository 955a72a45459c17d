"""A missing package is reported in one line."""

import importlib.metadata

import pytest

from korlm.utils.errors import TokenizerError, install_command
from korlm.utils.packages import package_version


def test_versions() -> None:
    assert package_version("pyarrow", "x") == importlib.metadata.version("pyarrow")
    with pytest.raises(TokenizerError) as caught:
        package_version("no-such-package", "kiwi")
    assert str(caught.value) == (
        f"tokenizer=kiwi: no-such-package is not installed: {install_command('no-such-package')}"
    )
