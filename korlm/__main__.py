"""``python -m korlm``: lists the commands, or runs one: ``python -m korlm train model=gru``."""

from __future__ import annotations

import inspect
import runpy
import sys

from korlm._version import __version__
from korlm.config import registry
from korlm.utils.errors import not_a_choice


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
            "python -m korlm COMMAND [key=value ...], or python -m korlm.COMMAND:\n",
            *(f"  {command:10} {line}" for command, line in first_lines.items()),
            "\nCOMMAND --help lists the settings of a command; --version prints the version.",
            sep="\n",
        )
    elif name in commands:
        del sys.argv[1]
        runpy.run_module(f"korlm.{name}", run_name="__main__", alter_sys=True)
    else:
        sys.exit("korlm: " + not_a_choice(f"command {name}", name, commands))


if __name__ == "__main__":
    main()
