"""Convert errors of Hydra, OmegaConf and PyYAML to one line that names the key."""

from __future__ import annotations

import difflib
import re
import traceback

import yaml  # used by OmegaConf
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from korlm.config.keys import iter_keys
from korlm.utils.errors import KorlmError, not_a_choice


def format_config_error(error: BaseException, command: str = "train") -> str:
    """Return one line about a wrong setting."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and inner not in chain:
        chain.append(inner)
    for link in chain:
        if isinstance(link, KorlmError):
            return str(link)
        if isinstance(link, yaml.MarkedYAMLError):
            return _yaml_message(link)
        if isinstance(link, UnicodeDecodeError):
            return f"{_yaml_path(link)}: is not UTF-8; save it in this encoding"
        if isinstance(link, OverrideParseException):
            return (
                f"{link.override}: cannot parse this value; blanks, commas and signs need quotes "
                "within quotes: \"name='a b'\""
            )
        if isinstance(link, MissingConfigException) and link.missing_cfg_file and link.options:
            group, _, name = link.missing_cfg_file.rpartition("/")
            options = [option for option in link.options if not option.endswith("_schema")]
            return not_a_choice(f"{group}={name}", name, options)
    texts = [str(link) for link in chain if isinstance(link, OmegaConfBaseException)]
    if texts:
        return _omegaconf_message(texts, str(error), command)
    text = str(error) or type(error).__name__
    if ambiguous := re.match("Ambiguous value for argument '(.*)'", text):
        return f"{ambiguous[1]}: several values: add -m to train with each, or write a list [a,b]"
    text = re.sub(r"\s*(Config search path:|See https://hydra\.cc).*", "", text, flags=re.S)
    return " ".join(re.sub(r"\b\w+_schema\b", "", text).split())


def _yaml_message(error: yaml.MarkedYAMLError) -> str:
    """Return a message with the file, line and column of a syntax error."""
    mark = error.problem_mark or error.context_mark
    where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + " ".join(f"is not YAML ({error.problem or error.context})".split())


def _yaml_path(error: BaseException) -> str:
    """Return the file that Hydra was reading when an error was raised, from its stack frames."""
    names = [
        str(frame.f_locals["full_path"])
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if "full_path" in frame.f_locals
    ]
    return names[-1] if names else "a settings file"


def _omegaconf_message(texts: list[str], outermost: str, command: str) -> str:
    """Return the message of OmegaConf with the key and the file that sets it.

    Args:
        texts: messages of the chain of exceptions, the innermost last.
        outermost: message of the exception that Hydra raised.
        command: the command whose settings were given.
    """
    message = texts[-1].splitlines()[0]
    keys = [key for text in reversed(texts) for key in re.findall(r"full_key: (\S+)", text)]
    key = "" if not keys or keys[0].startswith("hydra.run") else keys[0]
    composing = re.match(r"In '([\w./-]+)': \w+ raised while composing", outermost)
    file = composing[1] if composing and not composing[1].endswith("_schema") else ""
    file = "" if file == command else file
    by = f"; it is set in {file}.yaml" if file else ""
    unknown = re.match(r"Key '([^']+)' (?:is )?not in", message)
    if unknown:
        wrong = key or unknown.group(1)
        group = wrong.split(".")[0]
        if wrong == file.split("/")[0]:
            return f"{file}.yaml: must begin with the line '# @package _global_' and hold settings"
        known = sorted({key for key, _ in iter_keys(command)})
        if wrong in known:
            return f"{wrong}: belongs to another choice of {group} than the selected one{by}"
        near = difflib.get_close_matches(wrong, known, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "--help lists the keys"
        return f"{wrong}: there is no such setting{by}; {hint}"
    # Some messages of OmegaConf contain unfilled placeholders.
    message = message.replace("Value '$VALUE' of type '$VALUE_TYPE' could", "the value could")
    message = message.replace("Value '$VALUE' is not a", "the value is not a")
    message = message.replace("Invalid value '$VALUE'", "invalid value")
    message = message.replace(" (type $VALUE_TYPE)", "")
    message = re.sub(r"field '[\w.]+' is not Optional", "must not be null", message)
    message = re.sub(r"^\w+ raised while resolving interpolation: ", "", message)
    message = re.sub(r"^Merge error: .*", "does not fit the selected group", message)
    typed = re.match(r"Error merging override (.*)", outermost)
    where = typed[1] if typed else key
    value = where.partition("=")[2] or "a,b"
    if message.endswith(" is not a ListConfig, list or tuple."):
        message = f"must be a list: [{value}]"
    return (f"{where}: {message}" if where else message) + by
