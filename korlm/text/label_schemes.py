"""Convert between spans and labels of units, in the schemes BIO, BIOES and IO.

Each unit of a text (a character, an eojeol, a token) has one label:

    BIO    B-X at the first unit of a span of type X, I-X at its other units, O outside (IOB2)
    BIOES  as BIO, with E-X at the last unit, and S-X for a span of one unit (IOBES)
    IO     I-X at all units of a span; adjacent spans of one type become one
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
_LABEL = re.compile(r"([BIES])-(.+)")


class Scheme(enum.Enum):
    """Schemes of labels; see the module's docstring."""

    bio = "bio"
    bioes = "bioes"
    io = "io"


class LabeledSpan(NamedTuple):
    """A span of the units (or characters) begin to end - 1, begin < end, and its type ``label``."""

    begin: int
    end: int
    label: str


class LabelError(ValueError):
    """A label that must not follow the previous one, or must not end the sequence.

    Attributes:
        index: index of the unit with this label.
    """

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def is_span_label(label: str) -> bool:
    """Return True for O and for B-X, I-X, E-X and S-X: labels of spans, not of single tokens.

    >>> [is_span_label(label) for label in ("O", "B-PS", "NOUN")]
    [True, True, False]
    """
    return label == OUTSIDE or _LABEL.fullmatch(label) is not None


def parse_label(label: str) -> tuple[str, str]:
    """Return the prefix and the type of a label: ("B", "PS"), or ("O", "").

    >>> parse_label("I-PS"), parse_label("O")
    (('I', 'PS'), ('O', ''))
    """
    match = _LABEL.fullmatch(label)
    return (match[1], match[2]) if match else (OUTSIDE, "")


def spans_of(
    labels: Sequence[str], scheme: Scheme = Scheme.bio, strict: bool = False
) -> list[LabeledSpan]:
    """Return the spans of a sequence of labels.

    Other labels than those of spans count as O, and spans of any scheme are found. A label that is
    in an invalid order, such as I-X that does not continue a span of type X, begins a span.

    Raises:
        LabelError: ``strict`` is True and the order is not one of the scheme; never for IO.

    >>> spans_of(["B-PS", "I-PS", "O", "I-LC"])
    [LabeledSpan(begin=0, end=2, label='PS'), LabeledSpan(begin=3, end=4, label='LC')]
    """
    if strict:
        _check_order(labels, scheme)
    spans: list[LabeledSpan] = []
    begin, open_type = 0, ""  # begin and type of the span that the next unit may continue; "": none
    for index, label in enumerate([*labels, OUTSIDE]):
        prefix, kind = parse_label(label)
        if not (open_type and prefix in "IE" and kind == open_type):
            if open_type:
                spans.append(LabeledSpan(begin, index, open_type))
            begin, open_type = index, kind
        if prefix in "ES":
            spans.append(LabeledSpan(begin, index + 1, kind))
            open_type = ""
    return spans


def _check_order(labels: Sequence[str], scheme: Scheme) -> None:
    for index, (previous, label) in enumerate(itertools.pairwise([None, *labels, ""])):
        if may_follow(label or "", previous, scheme):
            continue
        prefix, kind = parse_label(label or "")
        if prefix in "IE":
            reason = f"follows {previous}" if previous else "begins the sentence"
            raise LabelError(index, f"{label} {reason}; a span begins with B-{kind}")
        reason = f"{label} follows {previous}" if label else f"{previous} ends the sentence"
        kind = parse_label(previous or "")[1]
        raise LabelError(min(index, len(labels) - 1), f"{reason}; a span ends with E-{kind}")


def labels_of(spans: Iterable[LabeledSpan], size: int, scheme: Scheme = Scheme.bio) -> list[str]:
    """Return the labels of ``size`` units; the inverse of ``spans_of``, except for IO.

    The spans do not overlap, and may be in any order.

    >>> labels_of([LabeledSpan(0, 3, "PS"), LabeledSpan(3, 4, "LC")], 5, Scheme.bioes)
    ['B-PS', 'I-PS', 'E-PS', 'S-LC', 'O']
    """
    labels = [OUTSIDE] * size
    for begin, end, kind in spans:
        labels[begin:end] = [f"I-{kind}"] * (end - begin)
        if scheme is not Scheme.io:
            labels[begin] = f"B-{kind}"
        if scheme is Scheme.bioes:
            labels[end - 1] = f"S-{kind}" if end - begin == 1 else f"E-{kind}"
    return labels


def label_set(types: Iterable[str], scheme: Scheme) -> list[str]:
    """Return all labels of a scheme for spans of some types, O first.

    >>> label_set(["PS"], Scheme.bio)
    ['O', 'B-PS', 'I-PS']
    """
    prefixes = {Scheme.bio: "BI", Scheme.bioes: "BIES", Scheme.io: "I"}[scheme]
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in prefixes)]


def may_follow(label: str, previous: str | None, scheme: Scheme) -> bool:
    """Return True if a label ("": the end) may follow another one (None: the beginning).

    >>> may_follow("I-PS", "O", Scheme.bio), may_follow("I-PS", "B-PS", Scheme.bio)
    (False, True)
    """
    if scheme is Scheme.io:
        return True
    prefix, kind = parse_label(label)
    previous_prefix, previous_kind = parse_label(previous or OUTSIDE)
    is_open = previous_prefix in "BI"
    continues = prefix in "IE" and is_open and kind == previous_kind
    if scheme is Scheme.bioes and is_open and not continues:
        return False
    return prefix not in "IE" or continues
