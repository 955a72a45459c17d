"""Make minimal pairs from templates (``phenomena.yaml``) and word lists (``words.yaml``).

A pair is two sentences that differ in one place, of which one is acceptable and the other is not
(Warstadt et al. 2020, "BLiMP: The Benchmark of Linguistic Minimal Pairs for English"). The files
describe the notation of templates.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # used by OmegaConf

from korlm.text.hangul import tail_of

FOLDER = Path(__file__).parent
NUM_PAIRS = 120  # of a phenomenon

_SLOT = re.compile(r"\{(\w+)(?::(\d))?(?:\.(\w+))?\}")
_CHOICE = re.compile(r"<([^|<>]*)\|([^|<>]*)>")
_PARTICLE = re.compile(r"\[(!?)(\w+)/(\w+)\]")

Row = Mapping[str, str]  # name of a form -> the form; a plain word has the name ""


class MinimalPair(NamedTuple):
    """An acceptable and an unacceptable sentence."""

    phenomenon: str
    good: str
    bad: str


def phenomena() -> dict[str, str]:
    """Return the name and the meaning of each phenomenon, in the order of the file."""
    return {name: entry["meaning"] for name, entry in _read("phenomena.yaml").items()}


def pairs_of(phenomenon: str, num_pairs: int = NUM_PAIRS) -> list[MinimalPair]:
    """Return the pairs of a phenomenon, as many of each template as possible.

    They are drawn by hashes, so that they are the same on every machine and with every version of
    Python.

    More pairs are the same ones and others.

    Raises:
        KeyError: there is no such phenomenon.
        ValueError: the templates have fewer pairs.
    """
    templates: list[str] = _read("phenomena.yaml")[phenomenon]["templates"]
    num_fillings = sum(map(_num_fillings, templates))
    if num_pairs > num_fillings:
        raise ValueError(f"{phenomenon}: its templates have only {num_fillings} pairs")
    pairs: dict[MinimalPair, None] = {}  # in order, each once
    # Ten times as many draws as pairs find enough different ones, unless there are hardly more.
    for number in range(10 * num_pairs):
        good, bad = _fill(templates[number % len(templates)], f"{phenomenon} {number}")
        pairs.setdefault(MinimalPair(phenomenon, good, bad))
        if len(pairs) == num_pairs:
            return list(pairs)
    raise ValueError(f"{phenomenon}: its templates have only {len(pairs)} pairs")


def _num_fillings(template: str) -> int:
    """Return in how many ways the slots of a template can be filled, with different words each."""
    slots = {(name, number) for name, number, _ in _SLOT.findall(template)}
    sizes = Counter(name for name, _ in slots)
    return math.prod(math.perm(len(_words()[name]), size) for name, size in sizes.items())


def _fill(template: str, key: str) -> tuple[str, str]:
    """Return both sentences of a template, with words drawn by a hash of the key."""
    words = _words()
    drawn: dict[tuple[str, str], Row] = {}
    for name, number, _ in _SLOT.findall(template):
        if (name, number) not in drawn:
            used = [row for (other, _), row in drawn.items() if other == name]
            rows = [row for row in words[name] if row not in used]
            drawn[name, number] = rows[_hash(f"{key} {name} {number}") % len(rows)]
    text = _SLOT.sub(lambda slot: drawn[slot[1], slot[2] or ""][slot[3] or ""], template)
    return resolve_particles(_CHOICE.sub(r"\1", text)), resolve_particles(_CHOICE.sub(r"\2", text))


def resolve_particles(text: str) -> str:
    """Replace each ``[A/B]`` by the form that the syllable before it needs.

    A follows a consonant, B a vowel; 으로 is 로 after ㄹ as well. ``[!A/B]`` is the other form.

    >>> resolve_particles("책[은/는] 서울[으로/로], 나[은/는] 학교[!으로/로]")
    '책은 서울로, 나는 학교으로'
    """

    def resolve(match: re.Match[str]) -> str:
        tail = tail_of(match.string[match.start() - 1])
        is_vowel = not tail or (tail == "ㄹ" and match[2].startswith("으로"))
        return match[3] if is_vowel != bool(match[1]) else match[2]

    return _PARTICLE.sub(resolve, text)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


@functools.cache
def _read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@functools.cache
def _words() -> dict[str, Sequence[Row]]:
    """Return the rows of each word list."""
    words: dict[str, Sequence[Row]] = {}
    for name, entry in _read("words.yaml").items():
        if isinstance(entry, list):
            words[name] = [{"": word} for word in entry]
        else:
            fields = entry["fields"].split(", ")
            words[name] = [dict(zip(fields, row.split(", "), strict=True)) for row in entry["rows"]]
    return words
