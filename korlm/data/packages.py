"""Packages that only some tokenizers need."""

from __future__ import annotations

import importlib.metadata

from korlm.errors import TokenizerError, install_command


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
