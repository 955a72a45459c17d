"""Make the standard streams usable: open, and able to show any text."""

from __future__ import annotations

import codecs
import os
import sys


def set_up_streams() -> None:
    r"""Open the standard streams that are closed, and escape what they cannot encode.

    A daemon or a cron job may start a command with closed streams. A file that is opened later
    would then get the descriptor 1 or 2, and a library's warning would be written into it. A
    terminal or pipe in cp949, euc-kr or ascii shows a character that it lacks as ``\U0001f44d``.
    """
    _open_descriptors()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and stream.errors in ("strict", "surrogateescape"):
            reconfigure(errors="backslashreplace")


def is_non_utf8_terminal() -> bool:
    """Return True if standard output is a terminal with another encoding than UTF-8.

    Then data is written in that encoding, so that it is readable; to a file or a pipe it is written
    as UTF-8.
    """
    return sys.stdout.isatty() and codecs.lookup(sys.stdout.encoding).name != "utf-8"


class TerminalBytes:
    """A binary file object that writes UTF-8 to a terminal with another encoding."""

    def write(self, data: bytes) -> int:
        """Write bytes that are whole characters."""
        sys.stdout.write(bytes(data).decode("utf-8"))
        return len(data)

    def flush(self) -> None:
        """Flush standard output."""
        sys.stdout.flush()


def _open_descriptors() -> None:
    """Point closed descriptors 0, 1 and 2 to the null device."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            os.set_inheritable(descriptor, True)
