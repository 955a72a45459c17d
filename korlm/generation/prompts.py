"""Read prompts from the command line, a file, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from korlm.corpus.files import read_lines
from korlm.text.unicode import has_lone_surrogates
from korlm.utils.errors import CorpusError

STDIN = "-"


def read_prompts(prompt: str | None, path: str | None) -> Iterator[str]:
    """Yield prompts in order, those of standard input as soon as their line is complete.

    Args:
        prompt: the only prompt if there is no file; None: an empty one.
        path: file with one prompt on each line, or ``-`` for standard input; spaces at the end of
            a line belong to the prompt.

    Raises:
        CorpusError: the file is missing, empty or not UTF-8, or a line is blank.
    """
    if path is None:
        if has_lone_surrogates(prompt or ""):
            raise CorpusError("prompt: is not UTF-8; set the terminal to UTF-8")
        yield prompt or ""
        return
    lines = _stdin_lines() if path == STDIN else read_lines(Path(path))
    name, number = "standard input" if path == STDIN else path, 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise CorpusError(
                f"{name}: line {number} is blank; remove it (without prompts=, a text starts "
                "without a prompt)"
            )
        yield line
    if number == 0:
        raise CorpusError(f"{name}: is empty; put one prompt on each line")


def _stdin_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"standard input: line {number}, byte {error.start + 1} is not utf-8; convert the "
                "text to UTF-8 first (iconv -t UTF-8)"
            ) from None
