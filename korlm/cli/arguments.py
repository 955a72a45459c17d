"""Check the command line, and convert it to Hydra's grammar."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Collection, Mapping, Sequence

from korlm.config import registry
from korlm.config.keys import choices
from korlm.config.paths import QUOTED, expand_home, path_value, quote_string
from korlm.utils import dist_env
from korlm.utils.errors import ConfigError


def check_groups(command: str, arguments: list[str]) -> None:
    """Raise ``ConfigError`` for a choice of a group for which Hydra's own error is unclear."""
    fields = dataclasses.fields(registry.schemas("")[command])
    groups = {f.name for f in fields} & set(registry.groups())
    optional = {f.name for f in fields if f.default is None} & groups
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        group = key.split(".")[0]
        # Empty, null, a number or a list; Hydra reports any other wrong choice well.
        if key in groups - optional and re.fullmatch(r"|null|[\d.+-]+|\[.*\]", value, re.I | re.S):
            raise ConfigError(f"{argument}: must be one of {', '.join(choices(group))}")
        if group in optional and not any(re.match(rf"{group}=[^{{]", arg) for arg in arguments):
            names = "|".join(choices(group))
            raise ConfigError(f"{argument}: choose the group as well: {group}={names}")


IMPORTS = "imports"  # key of the modules to import

# Flags of Hydra, by what may follow them.
_FOLDER_FLAGS = {"--config-path", "-cp", "--config-dir", "-cd"}
_CONFIG_FLAGS = {*_FOLDER_FLAGS, "--config-name", "-cn"}  # these choose other YAML files
_CFG_FLAGS, _CFG_VALUES = {"--cfg", "-c"}, ("job", "hydra", "all")
_VALUE_FLAGS = {*_CONFIG_FLAGS, *_CFG_FLAGS, "--package", "-p", "--experimental-rerun"}
_INFO_FLAGS = {"--info", "-i"}  # their value may be left out
_INFO_VALUES = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_PRINTING_FLAGS = {*_CFG_FLAGS, *_INFO_FLAGS, "--help", "-h", "--hydra-help", "--version"}
_FLAGS = {
    *(*_VALUE_FLAGS, *_PRINTING_FLAGS, "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc"),
}

# Paths that a sweep has once, for all of its jobs: a comma does not separate two values.
_SWEEP_PATHS = {"outputs", "resume", "hydra.run.dir", "hydra.sweep.dir"}

_KEY = re.compile(r"(\+{0,2}|~)[\w$][\w$./@:-]*", re.ASCII)


def key_of(override: str) -> str:
    """Return the key of an override, without a leading + or ~.

    >>> key_of("+experiment=smoke"), key_of("~schedule")
    ('experiment', 'schedule')
    """
    return override.lstrip("+~").partition("=")[0]


def quote_hangul(override: str) -> str:
    """Quote the texts of an override that have non-ASCII characters, as Hydra's grammar requires.

    A value that is a single text is quoted as a whole, and items of lists and sweeps each.

    >>> quote_hangul("corpus.text_column=제목(원문)")
    "corpus.text_column='제목(원문)'"
    >>> quote_hangul("corpus.files=[자료/글.txt,b.txt]")
    "corpus.files=['자료/글.txt',b.txt]"
    >>> quote_hangul("corpus.text_column=원문 제목,b c")
    "corpus.text_column='원문 제목',b c"
    >>> quote_hangul("name='실험 1'")
    "name='실험 1'"
    """
    key, equals, value = override.partition("=")
    if not equals or value.isascii():
        return override
    if not re.search(r"""['",\[{\\]|^\s*[a-z_]+\(""", value):  # no list, dict or function
        return f"{key}={quote_string(value.strip())}"
    plain = r"""[^\[\]{}(),:='"]"""
    item = rf"{QUOTED.pattern}|(?!\s){plain}+(?<!\s)"
    return key + equals + re.sub(item, _quoted_item, value, flags=re.DOTALL)


def _quoted_item(match: re.Match[str]) -> str:
    item = match.group()
    return item if item.isascii() or item[0] in "'\"" else f"'{item}'"


def quote_literal(text: str) -> str:
    r"""Quote a text so that Hydra and OmegaConf read it back unchanged.

    A backslash escapes only a quote (in Hydra) and ``${`` (in OmegaConf).

    >>> print(quote_literal("나는, '너'는 ${그}"))
    '나는, \'너\'는 \${그}'
    """
    return quote_string(re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text))


def join_literals(arguments: Sequence[str], literal: Collection[str]) -> list[str]:
    """Join the words of each unquoted text, which the shell has split.

    >>> join_literals(["prompt=나는", "학교에", "top_k=3"], {"prompt"})
    ['prompt=나는 학교에', 'top_k=3']
    """
    joined: list[str] = []
    for argument in arguments:
        in_text = joined and key_of(joined[-1]) in literal
        if in_text and "=" not in argument and argument not in _FLAGS:
            joined[-1] += f" {argument}"
        else:
            joined.append(argument)
    return joined


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Return the flags, each with its value, then the settings.

    Hydra's parser takes all settings from one place. A flag whose value is optional gets it, since
    the parser would take the first setting for it.

    >>> flags_first(["seed=1,2", "-m", "model=gru", "--config-dir", "mine", "--info"])
    ['-m', '--config-dir', 'mine', '--info', 'all', 'seed=1,2', 'model=gru']
    """
    flags: list[str] = []
    settings: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            settings.append(word)
            continue
        flags.append(word)
        if word in _INFO_FLAGS and (not words or words[0] not in _INFO_VALUES):
            flags.append("all")
        elif word in {*_VALUE_FLAGS, *_INFO_FLAGS}:
            if not words:
                raise ConfigError(f"{word}: its value is missing")
            flags.append(words.pop(0))
    return flags + settings


def config_flags(arguments: Sequence[str]) -> list[str]:
    """Return the flags that choose other YAML files, for the jobs of a sweep.

    >>> config_flags(["-m", "--config-dir", "mine", "-cn=other", "seed=1,2"])
    ['--config-dir', 'mine', '-cn=other']
    """
    flags: list[str] = []
    for previous, word in itertools.pairwise(["", *arguments]):
        if word.partition("=")[0] in _CONFIG_FLAGS or previous in _CONFIG_FLAGS:
            flags.append(word)
    return flags


def typed_imports(arguments: Sequence[str]) -> list[str]:
    """Return the modules that ``imports=`` names, which must be imported before Hydra composes.

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
    """Return the arguments of a command in Hydra's grammar, one for each argument.

    Args:
        arguments: the arguments, after ``join_literals`` and ``flags_first``.
        literal: keys whose values are texts.
        renamed: key as typed -> key of the settings.
        paths: key of a path or a list of paths -> True for a list. In a sweep, commas outside
            quotes separate the values of such a key, unless all jobs share it.
    """
    in_sweep = is_multirun(arguments)
    converted = []
    for word in arguments:
        typed_key, equals, value = word.partition("=")
        key = (renamed or {}).get(typed_key, typed_key)
        name = key.lstrip("+")
        if key in _FOLDER_FLAGS and equals:
            hydra_word = f"{key}={expand_home(value, key)}"
        elif not equals or key.startswith("-"):
            hydra_word = word
        elif name == IMPORTS:
            hydra_word = f"{key}=[{','.join(typed_imports([word]))}]"
        elif name in literal:
            hydra_word = f"{key}={quote_literal(value)}"
        elif paths and name in paths:
            separates = in_sweep and name not in _SWEEP_PATHS
            hydra_word = f"{key}={path_value(value, typed_key, paths[name], separates)}"
        else:
            hydra_word = quote_hangul(f"{key}={value}")
        converted.append(hydra_word)
    return converted


def is_multirun(words: Collection[str]) -> bool:
    """Return True if the arguments start a sweep."""
    return not {"-m", "--multirun", "hydra.mode=MULTIRUN"}.isdisjoint(words)


def check_arguments(command: str, words: Sequence[str]) -> None:
    """Raise ``ConfigError`` for flags and keys that Hydra would misread or report unclearly."""
    form = "settings are written key=value, such as trainer.epochs=3"
    previous = ""
    for word in words:
        key, equals, value = word.partition("=")
        if word.startswith("-"):
            if key not in _FLAGS:
                raise ConfigError(f"{key}: {form}")
            if equals and key not in {*_VALUE_FLAGS, *_INFO_FLAGS}:
                raise ConfigError(f"{word}: this flag has no value: write {key}")
            for flags, values in ((_CFG_FLAGS, _CFG_VALUES), (_INFO_FLAGS, _INFO_VALUES)):
                if key in flags and equals and value not in values:
                    raise ConfigError(f"{word}: must be one of {', '.join(values)}")
        elif previous in _CFG_FLAGS and word not in _CFG_VALUES:
            raise ConfigError(f"{previous} {word}: must be one of {', '.join(_CFG_VALUES)}")
        elif previous in {*_VALUE_FLAGS, *_INFO_FLAGS}:
            pass  # the value of the flag
        elif not (equals or word.startswith("~")):
            hint = f"; if it belongs to {previous}, quote both: '{previous} {word}'"
            raise ConfigError(f"{word}: {form}{hint if '=' in previous else ''}")
        elif equals and not _KEY.fullmatch(key):
            raise ConfigError(f"{word}: {key!r} is not the name of a setting; {form}")
        previous = word
    is_alone, is_sweep = dist_env.current_rank().is_alone, is_multirun(words)
    if command != "train" and not is_alone:
        raise ConfigError(f"korlm.{command} runs in one process: start it without torchrun")
    if is_sweep and not is_alone:
        raise ConfigError(
            "-m: torchrun has started the processes of one run, but a sweep starts its own jobs: "
            "leave -m out, or start the sweep without torchrun; with hydra/launcher=submitit_local "
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
