"""Versions of optional packages, and the folder of konlpy's texts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from korlm.utils.errors import TokenizerError, install_command


def konlpy_folder() -> Path:
    """Where konlpy lies with its texts and Kkma's jar; not imported: it would import jpype."""
    package = importlib.util.find_spec("konlpy")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent


def version_of(package: str, tokenizer: str) -> str:
    """The installed version of a package, which is not imported.

    Args:
        package: its name on PyPI.
        tokenizer: that needs it.

    Raises:
        TokenizerError: it is not there.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise TokenizerError(
            f"tokenizer={tokenizer}: {package} is not installed: {install_command(package)}"
        ) from None
