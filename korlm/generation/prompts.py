"""Prompts: one from the command line, or one on each line of a file or of standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from korlm.corpus.files import read_lines
from korlm.text.unicode import has_lone_surrogates
from korlm.utils.errors import CorpusError

STDIN = "-"


def read_prompts(prompt: str | None, file: str | None) -> Iterator[str]:
    """The prompts in their order; those of standard input as soon as their line has ended.

    Args:
        prompt: the only one; None with no file: an empty one.
        file: a path, or ``-`` for standard input; blanks at the end of a line are part of it.

    Raises:
        CorpusError: the file is missing or no text; a line is blank, or there is none.
    """
    if file is None:
        if has_lone_surrogates(prompt or ""):
            raise CorpusError("prompt: is not UTF-8; set the terminal to it")
        yield prompt or ""
        return
    lines = _stdin_lines() if file == STDIN else read_lines(Path(file))
    name, number = "standard input" if file == STDIN else file, 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise CorpusError(
                f"{name}: line {number} is blank, and a prompt must not be: leave the line out (a "
                "text without a prompt is written without prompts=)"
            )
        yield line
    if number == 0:
        raise CorpusError(f"{name}: is empty; put a prompt on each line")


def _stdin_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"standard input: line {number}, byte {error.start + 1} is not utf-8; turn the "
                "text into UTF-8 first (iconv -t UTF-8)"
            ) from None
