"""``korlm``, or ``python -m korlm``: lists the commands, or runs one: ``korlm train model=gru``."""

from __future__ import annotations

import importlib
import inspect
import os
import runpy
import sys

from korlm._version import __version__
from korlm.config import registry
from korlm.utils.errors import not_a_choice

SHELL_COMPLETION = ("--shell-completion", "-sc")  # Hydra's flags


def complete(commands: list[str]) -> None:
    """Complete the name of a command, or let Hydra complete its settings.

    The shell gives the typed line as COMP_LINE, without which Hydra installs the completion.
    """
    program, *typed = os.environ.get("COMP_LINE", "korlm").split(" ")
    if len(typed) == 1:
        print(" ".join(commands))
        return
    if typed:
        os.environ["COMP_LINE"] = " ".join([program, *typed[1:]])
    command = typed[0] if typed and typed[0] in commands else "train"
    importlib.import_module(f"korlm.{command}").main()  # keeps the name of the program


def main() -> None:
    """Run the command that is the first argument, or print help."""
    commands = registry.schemas("")
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        print(f"korlm {__version__}")
    elif name in ("--help", "-h"):
        first_lines = {
            cmd: (inspect.getdoc(c) or "").splitlines()[0] for cmd, c in commands.items()
        }
        print(
            "korlm COMMAND [key=value ...], or python -m korlm.COMMAND [key=value ...]:\n",
            *(f"  {command:10} {line}" for command, line in first_lines.items()),
            "\nCOMMAND --help lists the settings of a command; --version prints the version.\n"
            'eval "$(korlm -sc install=bash)" completes commands and settings in the shell.',
            sep="\n",
        )
    elif name in SHELL_COMPLETION:
        complete(list(commands))
    elif name in commands:
        del sys.argv[1]
        runpy.run_module(f"korlm.{name}", run_name="__main__", alter_sys=True)
    else:
        sys.exit("korlm: " + not_a_choice(f"command {name}", name, commands))


if __name__ == "__main__":
    main()
