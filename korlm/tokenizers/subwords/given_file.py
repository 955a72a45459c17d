"""Tokenizers that users give as a file: ``tokenizer.file``."""

from __future__ import annotations

from korlm.utils.errors import TokenizerError, reading
from korlm.utils.io.checksums import short_hash

MAX_MB = 256


def read_tokenizer_file(path: str) -> bytes:
    """Return the content of the file of a tokenizer.

    Raises:
        TokenizerError: it cannot be read, is empty or too large.
    """
    where = f"tokenizer.file={path}"
    with (
        reading(where, TokenizerError, "name another file", "cannot be read"),
        open(path, "rb") as file,
    ):
        content = file.read(MAX_MB << 20)
        is_complete = not file.read(1)
    if not content or not is_complete:
        size = f"has more than {MAX_MB} MB" if content else "is empty"
        raise TokenizerError(f"{where}: {size}; name another file")
    return content


def digest_of(content: bytes) -> str:
    """Return a short hash of the file of a tokenizer, for versions."""
    return f"file {short_hash(content)}"
