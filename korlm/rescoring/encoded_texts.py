"""Encode texts for several runs; those that encode text alike share a tokenizer.

Axes: M texts, D distinct texts, L tokens of the distinct texts.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from korlm.corpus.normalization import normalize
from korlm.corpus.records import LineBlock
from korlm.dataset.text_encoder import EncodedText, TextEncoder, checked_texts
from korlm.evaluation.token_scores import Floats, Ints
from korlm.runs.trained_run import TrainedRun
from korlm.tokenizers.registry import tokenizer_version
from korlm.utils.errors import CorpusError


class GroupTokens(NamedTuple):
    """Distinct texts, encoded for a group of runs.

    Attributes:
        ids: (L,), the same for all runs of the group.
        lengths: (D,), tokens of each text.
        spelling_nats: (runs, L), cost of spelling each token under the spelling model of each run.
    """

    ids: Ints
    lengths: Ints
    spelling_nats: Floats

    @classmethod
    def joined(cls, parts: Sequence[GroupTokens]) -> GroupTokens:
        """Concatenate texts."""
        return cls(*(np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True)))


@dataclass(frozen=True)
class EncodedTexts:
    """M texts of one batch; or of several, joined, each a context of its own.

    Attributes:
        texts: the D distinct texts, with single spaces and NFC. Equal texts of different contexts
            are distinct.
        indices: (M,), index of each text among the distinct ones.
        tokens: tokens of the distinct texts, for each group of runs with the same ids.
        contexts: (D,), index of the context of each distinct text.
    """

    texts: list[str]
    indices: Ints
    tokens: tuple[GroupTokens, ...]
    contexts: Ints

    @classmethod
    def joined(cls, parts: Sequence[EncodedTexts]) -> EncodedTexts:
        """Join batches; each becomes a context of its own."""
        assert not any(part.contexts.any() for part in parts)
        sizes = [len(part.texts) for part in parts]
        offsets = np.cumsum(sizes) - sizes
        return cls(
            [text for part in parts for text in part.texts],
            np.concatenate([part.indices + at for part, at in zip(parts, offsets, strict=True)]),
            tuple(map(GroupTokens.joined, zip(*(part.tokens for part in parts), strict=True))),
            np.repeat(np.arange(len(parts)), sizes),
        )


def normalize_spaces(text: str) -> str:
    """Normalize to NFC with single spaces: recognizers differ in spacing."""
    return " ".join(normalize(text).split())


def same_vocab(run: TrainedRun, other: TrainedRun) -> bool:
    """Return whether two runs encode any text as the same ids.

    Raises:
        TokenizerError: a package of a tokenizer is missing.
    """
    return _id_settings(run) == _id_settings(other)


def _id_settings(run: TrainedRun) -> tuple[object, ...]:
    """Return everything that decides about the ids of a text."""
    vocab, settings = run.vocab, run.settings
    return (
        vocab.tokens,
        vocab.lowercase,
        vocab.normalize_numbers,
        settings.corpus.unicode,
        settings.tokenizer.name,
        run.tokenizer_model,
        tokenizer_version(settings.tokenizer, run.tokenizer_model),
    )


def group_runs(runs: Sequence[TrainedRun]) -> list[list[int]]:
    """Group the indices of runs with the same ids, the group of the first run first."""
    groups: list[list[int]] = []
    for index, run in enumerate(runs):
        for group in groups:
            if same_vocab(run, runs[group[0]]):
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def encode_texts(
    batches: Iterable[Sequence[str]],
    encoders: Sequence[TextEncoder],
    groups: Sequence[Sequence[TrainedRun]],
) -> Iterator[EncodedTexts]:
    """Yield batches of texts, encoded.

    Each group of runs with the same ids has an encoder. A batch has one text or more.

    Raises:
        CorpusError: a batch is empty; a text is not a string, or contains a lone surrogate.
    """
    originals, *copies = itertools.tee(map(_normalized, batches), 1 + len(encoders))
    encoded = (
        _encode_batches(encoder, runs, (list(dict.fromkeys(batch)) for batch in copy))
        for encoder, runs, copy in zip(encoders, groups, copies, strict=True)
    )
    for texts, tokens in zip(originals, zip(*encoded, strict=True), strict=True):
        distinct = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        indices = np.array([distinct[text] for text in texts])
        contexts = np.zeros(len(distinct), dtype=np.int64)
        yield EncodedTexts(list(distinct), indices, tokens, contexts)


def _normalized(batch: Sequence[str]) -> list[str]:
    """Return the texts of a batch with single spaces and NFC."""
    texts = [normalize_spaces(text) for text in checked_texts(batch)]
    if not texts:
        raise CorpusError("texts: a batch is empty; give at least one text")
    return texts


def _encode_batches(
    encoder: TextEncoder, runs: Sequence[TrainedRun], batches: Iterable[list[str]]
) -> Iterator[GroupTokens]:
    """Encode batches of texts for a group of runs.

    ``encoder`` is that of the first run; the blocks that it returns do not end where batches end.
    """
    sizes: collections.deque[int] = collections.deque()

    def blocks() -> Iterator[LineBlock]:
        for batch in batches:
            sizes.append(len(batch))
            yield LineBlock("text", "", 1, batch)

    parts, num_texts = list[GroupTokens](), 0
    for lines in encoder.read(blocks()):
        parts.append(_with_spelling(lines, runs))
        num_texts += len(parts[-1].lengths)
        if not sizes or num_texts < sizes[0]:
            continue
        pending = GroupTokens.joined(parts)
        while sizes and len(pending.lengths) >= sizes[0]:
            size = sizes.popleft()
            ids, lengths, spelling_nats = pending
            end = int(lengths[:size].sum())
            yield GroupTokens(ids[:end], lengths[:size], spelling_nats[:, :end])
            pending = GroupTokens(ids[end:], lengths[size:], spelling_nats[:, end:])
        parts, num_texts = [pending], len(pending.lengths)


def _with_spelling(lines: EncodedText, runs: Sequence[TrainedRun]) -> GroupTokens:
    """Return the tokens of lines that the first run has encoded, with the spelling of each run."""
    others = (
        EncodedText.from_table(lines.table, run.vocab, run.spelling, lines.unicode)
        for run in runs[1:]
    )
    ids, first_nats, lengths = lines.with_blank_lines()
    nats = [first_nats, *(other.with_blank_lines()[1] for other in others)]
    return GroupTokens(ids, lengths, np.stack(nats))
