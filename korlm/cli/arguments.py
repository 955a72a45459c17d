"""Check the command line, and convert it to Hydra's grammar."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Collection, Mapping, Sequence

from korlm.config import registry
from korlm.config.keys import choices
from korlm.config.paths import expand_home, path_value, quote_string
from korlm.utils import dist_env
from korlm.utils.errors import ConfigError


def check_groups(command: str, arguments: list[str]) -> None:
    """Check the choices of groups, about which Hydra's own errors are unclear.

    Args:
        command: the command whose settings are given.
        arguments: as typed.

    Raises:
        ConfigError: a choice is not a name, or a key belongs to an optional group that is not
            selected.
    """
    fields = dataclasses.fields(registry.schemas("")[command])
    groups = {f.name for f in fields} & set(registry.groups())
    optional = {f.name for f in fields if f.default is None} & groups
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        group = key.split(".")[0]
        if key in groups - optional and re.fullmatch(r"|null|[\d.+-]+|\[.*\]", value, re.I | re.S):
            raise ConfigError(f"{argument}: must be one of {', '.join(choices(group))}")
        chosen = any(other.startswith(f"{group}=") for other in arguments)
        if group in optional and (value.startswith("{") or not chosen):
            names = "|".join(choices(group))
            raise ConfigError(f"{argument}: choose the group as well: {group}={names}")


_HYDRA_FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p"),
    *("--run", "-r", "--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp"),
    *("--config-name", "-cn", "--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}

_FOLDER_FLAGS = {"--config-path", "-cp", "--config-dir", "-cd"}

_VALUE_FLAGS = {
    *_FOLDER_FLAGS,
    *("--config-name", "-cn", "--cfg", "-c", "--package", "-p", "--experimental-rerun"),
}

IMPORTS = "imports"

_PRINTS, _PRINTABLE = ("--cfg", "-c"), ("job", "hydra", "all")

# Paths of a sweep as a whole: commas in their values are part of the path.
_SWEEP_PATHS = {"outputs", "resume", "hydra.run.dir", "hydra.sweep.dir"}

_KEY = re.compile(r"(\+{0,2}|~)[\w$][\w$./@:-]*")

_PRINTING_FLAGS = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"}


def key_of(override: str) -> str:
    """Return the key of an override, without the signs before it.

    >>> key_of("+experiment=smoke"), key_of("~schedule")
    ('experiment', 'schedule')
    """
    return override.lstrip("+~").partition("=")[0]


def quote_hangul(override: str) -> str:
    """Quote the words of an override with letters outside ASCII, as Hydra's grammar requires.

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
    r"""Quote a text so that Hydra and OmegaConf return it unchanged.

    A backslash is an escape character only before a quote (Hydra) and before ``${`` (OmegaConf).

    >>> print(quote_literal("나는, '너'는 ${그}"))
    '나는, \'너\'는 \${그}'
    """
    return quote_string(re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text))


def join_literals(arguments: Sequence[str], literal: Collection[str]) -> list[str]:
    """Join the words of unquoted texts, which the shell has split.

    Args:
        arguments: the command line.
        literal: keys whose values are texts that extend to the next setting or flag.

    >>> join_literals(["prompt=나는", "학교에", "top_k=3"], {"prompt"})
    ['prompt=나는 학교에', 'top_k=3']
    """
    joined: list[str] = []
    for argument in arguments:
        in_text = joined and joined[-1].partition("=")[0] in literal
        if in_text and "=" not in argument and argument not in _HYDRA_FLAGS:
            joined[-1] += f" {argument}"
        else:
            joined.append(argument)
    return joined


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with flags first: Hydra needs settings without flags in between.

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


def config_flags(arguments: Sequence[str]) -> list[str]:
    """Return the flags that choose other YAML files, for the jobs of a sweep.

    >>> config_flags(["-m", "--config-dir", "mine", "-cn=other", "seed=1,2"])
    ['--config-dir', 'mine', '-cn=other']
    """
    chosen = {*_FOLDER_FLAGS, "--config-name", "-cn"}
    flags: list[str] = []
    for before, word in itertools.pairwise(["", *arguments]):
        if word.partition("=")[0] in chosen or before in chosen:
            flags.append(word)
    return flags


def typed_imports(arguments: Sequence[str]) -> list[str]:
    """Return the modules that ``imports=`` names, which must be imported before Hydra composes.

    Raises:
        ConfigError: one is not the name of a module.

    >>> typed_imports(["imports=[my_package,other.models]", "seed=1"])
    ['my_package', 'other.models']
    """
    names: list[str] = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key.lstrip("+") == IMPORTS:
            names += [name for name in re.split(r"[\s,\[\]'\"]+", value) if name]
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"imports=[{name}]: must be names of Python modules, such as a.b")
    return names


def to_hydra_grammar(
    arguments: Sequence[str],
    literal: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
    paths: Mapping[str, bool] | None = None,
) -> list[str]:
    """Return the arguments of a command in Hydra's grammar.

    Args:
        arguments: from ``join_literals`` and ``flags_first``.
        literal: keys whose values are texts.
        renamed: key as typed -> key of the settings.
        paths: keys of paths -> whether they hold a list; see ``korlm.config.paths.path_value``.
            With -m, commas outside quotes separate the values of a sweep, except in paths of the
            sweep itself.

    Raises:
        ConfigError: a path is empty, or its home folder does not exist.
    """
    sweeps = is_multirun(arguments)
    converted = []
    for word in arguments:
        key, equals, value = word.partition("=")
        key = (renamed or {}).get(key, key)
        name = key.lstrip("+")
        if key in _FOLDER_FLAGS and equals:
            own = f"{key}={expand_home(value, key)}"
        elif not equals or key.startswith("-"):
            own = word
        elif name == IMPORTS:
            own = f"{key}=[{','.join(typed_imports([word]))}]"
        elif key in literal:
            own = f"{key}={quote_literal(value)}"
        elif paths and name in paths:
            separates = sweeps and name not in _SWEEP_PATHS
            typed = word.partition("=")[0]
            own = f"{key}={path_value(value, typed, paths[name], separates)}"
        else:
            own = quote_hangul(f"{key}={value}")
        converted.append(own)
    return converted


def is_multirun(words: Collection[str]) -> bool:
    """Return whether the arguments start a sweep."""
    return not {"-m", "--multirun", "hydra.mode=MULTIRUN"}.isdisjoint(words)


def check_arguments(command: str, words: Sequence[str]) -> None:
    """Check flags and keys, which Hydra would misinterpret or report unclearly.

    Args:
        command: the command.
        words: its arguments, flags first.

    Raises:
        ConfigError: a flag is unknown, an argument is not ``key=value``, or a sweep is
            not possible.
    """
    before = ""
    for word in words:
        key, equals, value = word.partition("=")
        written = "settings are written key=value, such as trainer.epochs=3"
        if word.startswith("-"):
            if key not in _HYDRA_FLAGS:
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
        raise ConfigError(f"{before}: its value is missing")
    is_alone, is_sweep = dist_env.current_rank().is_alone, is_multirun(words)
    if command != "train" and not is_alone:
        raise ConfigError(f"korlm.{command} runs in one process: start it without torchrun")
    if is_sweep and not is_alone:
        raise ConfigError(
            "-m: a sweep starts its jobs itself, but torchrun has started processes for one: leave "
            "it out, or start the sweep without torchrun; with hydra/launcher=submitit_local "
            "hydra.launcher.tasks_per_node=2 each of its jobs has two processes"
        )
    if is_sweep or not _PRINTING_FLAGS.isdisjoint(word.split("=")[0] for word in words):
        return
    for word in words:
        if command == "train" and re.match(r"sweep=(?!null$)", word):
            raise ConfigError(
                f"{word}: a search runs many jobs: python -m korlm.train -m {shlex.join(words)}"
            )
        if word.startswith("hydra/launcher="):
            raise ConfigError(f"{word}: starts the jobs of a sweep: add -m")
