"""Find optional packages and their versions, and the texts of konlpy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from korlm.utils.errors import MissingPackageError, TokenizerError, install_command


def folder_of(package: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def konlpy_folder() -> Path:
    """Return the folder of konlpy, with its texts and Kkma's jar, without importing jpype."""
    return folder_of("konlpy")


def package_version(package: str, tokenizer: str) -> str:
    """Return the version of a package of a tokenizer without importing it.

    Raises:
        TokenizerError: the package is not installed.
    """
    import importlib.metadata  # takes 0.03 s of CPU time

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise TokenizerError(
            f"tokenizer={tokenizer}: {package} is not installed: {install_command(package)}"
        ) from None


def check_installed(package: str, key: str) -> None:
    """Raise a ``MissingPackageError`` if a package is not installed, without importing it."""
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(f"{key}: {package} is not installed: {install_command(package)}")
