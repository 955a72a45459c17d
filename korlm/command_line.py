"""What was typed: put into Hydra's grammar, and refused where it cannot be meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence

from korlm import torchrun
from korlm.errors import ConfigError

HYDRA_FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p"),
    *("--run", "-r", "--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp"),
    *("--config-name", "-cn", "--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}
_QUESTIONS = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"}


def quote_hangul(override: str) -> str:
    """Quotes the words of an override that hold letters outside ASCII.

    Hydra's grammar takes such letters only in quotes, and file names in Korea are Korean.

    >>> quote_hangul("corpus.files=[자료/글.txt,b.txt]")
    "corpus.files=['자료/글.txt',b.txt]"
    >>> quote_hangul("name='실험 1'")
    "name='실험 1'"
    """
    key, equals, value = override.partition("=")
    if not equals or value.isascii():
        return override
    pieces = re.split(r"""('[^']*'|"[^"]*")""", value)
    word = re.compile(r"""[^\s\[\]{}(),:='"]*[^\x00-\x7f][^\s\[\]{}(),:='"]*""")
    pieces[::2] = [word.sub(lambda match: f"'{match.group()}'", piece) for piece in pieces[::2]]
    return key + equals + "".join(pieces)


def quote_literal(text: str) -> str:
    r"""Quotes a text so that Hydra and OmegaConf give it back to the letter.

    A backslash has a meaning of its own before a quote (Hydra) and before ``${`` (OmegaConf) alone.

    >>> print(quote_literal("나는, '너'는 ${그}"))
    '나는, \'너\'는 \${그}'
    """
    text = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)
    text = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)
    return "'" + re.sub(r"\\+\Z", lambda match: match[0] * 2, text) + "'"


def quoted(argument: str, literal: Collection[str] = ()) -> str:
    """An argument of the command line in Hydra's grammar.

    Args:
        argument: as it was typed.
        literal: keys behind whose equal sign everything is text.
    """
    key, equals, value = argument.partition("=")
    if equals and key in literal:
        return f"{key}={quote_literal(value)}"
    return quote_hangul(argument)


def whole(arguments: Sequence[str], literal: Collection[str]) -> list[str]:
    """Arguments with the words of a text together again that the shell took apart.

    Args:
        arguments: as the shell gave them.
        literal: keys behind whose equal sign everything is text, up to the next setting.

    >>> whole(["prompt=나는", "학교에", "k=3"], {"prompt"})
    ['prompt=나는 학교에', 'k=3']
    """
    joined: list[str] = []
    for argument in arguments:
        goes_on = joined and joined[-1].partition("=")[0] in literal
        if goes_on and "=" not in argument and argument not in HYDRA_FLAGS:
            joined[-1] += f" {argument}"
        else:
            joined.append(argument)
    return joined


def in_hydras_grammar(
    arguments: Sequence[str], literal: Collection[str], renamed: Mapping[str, str]
) -> list[str]:
    """The arguments of a command as Hydra takes them.

    Args:
        arguments: as the shell gave them.
        literal: keys behind whose equal sign everything is text.
        renamed: key as typed -> key of the settings.
    """
    words = whole(arguments, literal)
    for key, own in renamed.items():
        words = [re.sub(f"^{key}=", f"{own}=", word) for word in words]
    return [quoted(word, literal) for word in words]


def is_multirun(words: Collection[str]) -> bool:
    """Whether several jobs are asked for."""
    return not {"-m", "--multirun", "hydra.mode=MULTIRUN"}.isdisjoint(words)


def check_words(command: str, words: Sequence[str]) -> None:
    """Refuses what Hydra would take for something else, or hang over.

    Args:
        command: that was typed.
        words: in Hydra's grammar.

    Raises:
        ConfigError: a flag that there is none of, or a sweep where there can be none.
    """
    for word in words:
        flag = word.split("=")[0]
        if flag.startswith("-") and flag not in HYDRA_FLAGS:
            raise ConfigError(f"{flag}: settings are written key=value, such as trainer.epochs=3")
    is_alone, is_sweep = torchrun.place().is_alone, is_multirun(words)
    if command != "train" and not is_alone:
        raise ConfigError(f"korlm.{command} runs in one process: start it without torchrun")
    if is_sweep and not is_alone:
        raise ConfigError(
            "-m: a sweep starts its jobs itself, but torchrun has started processes for one: leave "
            "it out, or start the sweep without torchrun; with hydra/launcher=submitit_local "
            "hydra.launcher.tasks_per_node=2 each of its jobs has two processes"
        )
    if is_sweep or not _QUESTIONS.isdisjoint(word.split("=")[0] for word in words):
        return
    for word in words:
        if command == "train" and re.match(r"sweep=(?!null$)", word):
            raise ConfigError(
                f"{word}: a search runs many jobs: python -m korlm.train -m {shlex.join(words)}"
            )
        if word.startswith("hydra/launcher="):
            raise ConfigError(f"{word}: starts the jobs of a sweep: add -m")
