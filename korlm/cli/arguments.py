"""What was typed: put into Hydra's grammar, and refused where it cannot be meant."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Collection, Mapping, Sequence

from korlm import config
from korlm.config.keys import _choices
from korlm.config.paths import expand_home, path_value, quote_string
from korlm.utils import dist_env
from korlm.utils.errors import ConfigError


def check_groups(command: str, arguments: list[str]) -> None:
    """Refuses what Hydra would break down over: choices of a group that are none.

    Keys of a group that may be left out, and was, are such as well.

    Args:
        command: whose settings were given.
        arguments: as they were typed.

    Raises:
        ConfigError: naming the key, and how to choose the group.
    """
    fields = dataclasses.fields(config.SCHEMAS[""][f"{command}_schema"])
    groups = {f.name for f in fields} & set(config.SCHEMAS)
    optional = {f.name for f in fields if f.default is None} & groups
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        group = key.split(".")[0]
        if key in groups - optional and re.fullmatch(r"|null|[\d.+-]+|\[.*\]", value, re.I | re.S):
            raise ConfigError(f"{argument}: must be one of {', '.join(_choices(group))}")
        chosen = any(other.startswith(f"{group}=") for other in arguments)
        if group in optional and (value.startswith("{") or not chosen):
            names = "|".join(_choices(group))
            raise ConfigError(f"{argument}: choose the group as well: {group}={names}")


HYDRA_FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p"),
    *("--run", "-r", "--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp"),
    *("--config-name", "-cn", "--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}


_FOLDER_FLAGS = {"--config-path", "-cp", "--config-dir", "-cd"}


_VALUE_FLAGS = {
    *_FOLDER_FLAGS,
    *("--config-name", "-cn", "--cfg", "-c", "--package", "-p", "--experimental-rerun"),
}


_PRINTS, _PRINTABLE = ("--cfg", "-c"), ("job", "hydra", "all")


# What names one folder for all jobs of a sweep.
_OF_THE_SWEEP = {"outputs", "resume", "hydra.run.dir", "hydra.sweep.dir"}


_KEY = re.compile(r"(\+{0,2}|~)[\w$][\w$./@:-]*")


_QUESTIONS = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"}


def key_of(override: str) -> str:
    """The key of an override, without the signs before it.

    >>> key_of("+experiment=smoke"), key_of("~schedule")
    ('experiment', 'schedule')
    """
    return override.lstrip("+~").partition("=")[0]


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
    return quote_string(re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text))


def whole(arguments: Sequence[str], literal: Collection[str]) -> list[str]:
    """Arguments with the words of a text together again that the shell took apart.

    Args:
        arguments: as the shell gave them.
        literal: keys behind whose equal sign everything is text, up to the next setting.

    >>> whole(["prompt=나는", "학교에", "top_k=3"], {"prompt"})
    ['prompt=나는 학교에', 'top_k=3']
    """
    joined: list[str] = []
    for argument in arguments:
        goes_on = joined and joined[-1].partition("=")[0] in literal
        if goes_on and "=" not in argument and argument not in HYDRA_FLAGS:
            joined[-1] += f" {argument}"
        else:
            joined.append(argument)
    return joined


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with flags before settings: Hydra wants settings to stand together.

    >>> flags_first(["seed=1,2", "-m", "model=gru", "--config-dir", "mine"])
    ['-m', '--config-dir', 'mine', 'seed=1,2', 'model=gru']
    """
    flags: list[str] = []
    settings: list[str] = []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            settings.append(word)
            continue
        flags.append(word)
        if word in _VALUE_FLAGS and (value := next(words, None)) is not None:
            flags.append(value)
    return flags + settings


def in_hydras_grammar(
    arguments: Sequence[str],
    literal: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
    paths: Mapping[str, bool] | None = None,
) -> list[str]:
    """Return the arguments of a command as Hydra takes them.

    Args:
        arguments: whole texts, flags first.
        literal: keys behind whose equal sign everything is text.
        renamed: key as typed -> key of the settings.
        paths: keys of paths -> whether they hold a list; see
            ``korlm.config.paths.path_value``. With -m a
            comma outside quotes separates the values of a sweep, except for the folder of the
            sweep itself.

    Raises:
        ConfigError: a path is empty, or begins with the name of no home folder.
    """
    sweeps = is_multirun(arguments)
    found = []
    for word in arguments:
        key, equals, value = word.partition("=")
        key = (renamed or {}).get(key, key)
        name = key.lstrip("+")
        if key in _FOLDER_FLAGS and equals:
            own = f"{key}={expand_home(value, key)}"
        elif not equals or key.startswith("-"):
            own = word
        elif key in literal:
            own = f"{key}={quote_literal(value)}"
        elif paths and name in paths:
            separates = sweeps and name not in _OF_THE_SWEEP
            typed = word.partition("=")[0]
            own = f"{key}={path_value(value, typed, paths[name], separates)}"
        else:
            own = quote_hangul(f"{key}={value}")
        found.append(own)
    return found


def is_multirun(words: Collection[str]) -> bool:
    """Whether several jobs are asked for."""
    return not {"-m", "--multirun", "hydra.mode=MULTIRUN"}.isdisjoint(words)


def check_words(command: str, words: Sequence[str]) -> None:
    """Refuses what Hydra would take for something else, or hang over.

    Args:
        command: that was typed.
        words: as they were typed, flags first.

    Raises:
        ConfigError: a flag that there is none of, or a sweep where there can be none.
    """
    before = ""
    for word in words:
        key, equals, value = word.partition("=")
        written = "settings are written key=value, such as trainer.epochs=3"
        if word.startswith("-"):
            if key not in HYDRA_FLAGS:
                raise ConfigError(f"{key}: {written}")
            if key in _PRINTS and equals and value not in _PRINTABLE:
                raise ConfigError(f"{word}: must be one of {', '.join(_PRINTABLE)}")
        elif before in _PRINTS and word not in _PRINTABLE:
            raise ConfigError(f"{before} {word}: must be one of {', '.join(_PRINTABLE)}")
        elif not (equals or word.startswith("~")) and before not in {*_VALUE_FLAGS, "--info", "-i"}:
            joined = f"; if it belongs to {before}, quote both: '{before} {word}'"
            raise ConfigError(f"{word}: {written}{joined * ('=' in before)}")
        elif equals and not _KEY.fullmatch(key):
            raise ConfigError(f"{word}: {key!r} is not the name of a setting; {written}")
        before = word
    if before in _VALUE_FLAGS:
        raise ConfigError(f"{before}: a value is missing behind it")
    is_alone, is_sweep = dist_env.place().is_alone, is_multirun(words)
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
