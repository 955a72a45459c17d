"""Versions of optional packages, and the folder of konlpy's texts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from korlm.utils.errors import TokenizerError, install_command


def konlpy_folder() -> Path:
    """Return the folder of konlpy, with its texts and Kkma's jar, without importing jpype."""
    package = importlib.util.find_spec("konlpy")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent


def version_of(package: str, tokenizer: str) -> str:
    """Return the installed version of a package without importing it.

    Args:
        package: its name on PyPI.
        tokenizer: the tokenizer that needs it, for the message.

    Raises:
        TokenizerError: the package is not installed.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise TokenizerError(
            f"tokenizer={tokenizer}: {package} is not installed: {install_command(package)}"
        ) from None
