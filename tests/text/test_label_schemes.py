"""BIO, BIOES and IO: conversion to spans and back."""

from __future__ import annotations

import itertools

import pytest

from korlm.text.label_schemes import (
    LabeledSpan,
    LabelError,
    Scheme,
    label_set,
    labels_of,
    may_follow,
    spans_of,
)

SPANS = [LabeledSpan(0, 1, "A"), LabeledSpan(1, 3, "A"), LabeledSpan(4, 7, "B")]


def test_conversion() -> None:
    bio = labels_of(SPANS, 8)
    assert bio == ["B-A", "B-A", "I-A", "O", "B-B", "I-B", "I-B", "O"]
    bioes = labels_of(SPANS, 8, Scheme.bioes)
    assert bioes == ["S-A", "B-A", "E-A", "O", "B-B", "I-B", "E-B", "O"]
    io = labels_of(SPANS, 8, Scheme.io)
    assert io == ["I-A", "I-A", "I-A", "O", "I-B", "I-B", "I-B", "O"]
    assert spans_of(bio, strict=True) == SPANS == spans_of(bioes, Scheme.bioes, strict=True)
    assert spans_of(io, Scheme.io, strict=True) == [LabeledSpan(0, 3, "A"), SPANS[2]]


@pytest.mark.parametrize("scheme", Scheme)
def test_transitions_are_those_of_valid_sequences(scheme: Scheme) -> None:
    labels = label_set("AB", scheme)
    for sequence in itertools.product(labels, repeat=3):
        pairs = itertools.pairwise([None, *sequence, ""])
        allowed = all(may_follow(after or "", before, scheme) for before, after in pairs)
        try:
            spans = spans_of(sequence, scheme, strict=True)
        except LabelError:
            assert not allowed, sequence
        else:
            assert allowed and labels_of(spans, 3, scheme) == list(sequence)


@pytest.mark.parametrize(
    ("labels", "scheme", "index", "message"),
    [
        (["O", "I-PS"], Scheme.bio, 1, "I-PS follows O; a span begins with B-PS"),
        (["I-PS"], Scheme.bio, 0, "I-PS begins the sentence; a span begins with B-PS"),
        (["B-LC", "I-PS"], Scheme.bio, 1, "I-PS follows B-LC; a span begins with B-PS"),
        (["B-PS", "O"], Scheme.bioes, 1, "O follows B-PS; a span ends with E-PS"),
        (["B-PS", "I-PS"], Scheme.bioes, 1, "I-PS ends the sentence; a span ends with E-PS"),
    ],
)
def test_errors(labels: list[str], scheme: Scheme, index: int, message: str) -> None:
    with pytest.raises(LabelError) as caught:
        spans_of(labels, scheme, strict=True)
    assert (caught.value.index, str(caught.value)) == (index, message)
    assert spans_of(labels, scheme)  # repaired
