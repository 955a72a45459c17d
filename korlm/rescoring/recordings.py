"""Rescore utterances with the context of their recording.

The state of the models after the chosen hypothesis of an utterance is their state before the next
utterance of the same recording, as if the recording were one text. Utterances of different
recordings are scored together.

Axes: R recordings.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from korlm.config import RescoreContext, RescoreSettings
from korlm.rescoring.encoded_texts import EncodedTexts, encode_ahead
from korlm.rescoring.features import Features, ScoreWeights, best
from korlm.rescoring.lm_scorer import LMScorer
from korlm.rescoring.nbest import NBest
from korlm.utils.errors import NbestError


@dataclass(frozen=True)
class RecordingNames:
    """Rule that finds the recording of an utterance, and the time at which it begins.

    Attributes:
        pattern: regular expression of whole names of utterances. The first group is the recording;
            the second one, if there is one, the number by which its utterances are sorted.
        field: key of the recording in JSON objects; None: it is in the name.
    """

    pattern: str
    field: str | None = None

    @classmethod
    def from_settings(cls, settings: RescoreSettings) -> RecordingNames | None:
        """Return the rule of the settings; None if utterances have no context."""
        if settings.context is RescoreContext.utterance:
            return None
        return cls(settings.recording_pattern, settings.recording_field)

    def find(self, nbest: NBest) -> tuple[str, float]:
        """Return recording and begin of an utterance; all begin at 0 if the name has no time.

        Raises:
            NbestError: they cannot be found.
        """
        match = re.fullmatch(self.pattern, nbest.utt)
        where = nbest.where or nbest.utt
        if self.field is not None:
            record = nbest.hyps[0].fields if nbest.fields is None else nbest.fields
            if self.field not in record:
                raise NbestError(
                    f"{where}: utterance {nbest.utt} has no {self.field!r} (there is "
                    f"{', '.join(record) or 'no JSON object'}); set recording_field=KEY"
                )
            recording = str(record[self.field])
        elif match is None:
            raise NbestError(
                f"{where}: the name of utterance {nbest.utt} is not recording-begin-end; set "
                "recording_pattern, or recording_field for JSON"
            )
        else:
            recording = match[1]
        begin = match[2] if match is not None and match.re.groups > 1 else "0"
        try:
            return recording, float(begin)
        except (TypeError, ValueError):
            raise NbestError(
                f"{where}: {begin!r} in utterance {nbest.utt} is not a number; the second group of "
                "recording_pattern must match the time when it begins"
            ) from None


def recordings_of(lists: Sequence[NBest], names: RecordingNames) -> list[list[int]]:
    """Return the indices of the utterances of each recording, in time; equal times in file order.

    Raises:
        NbestError: see ``RecordingNames.find``.
    """
    recordings: dict[str, list[tuple[float, int]]] = {}
    for index, nbest in enumerate(lists):
        recording, begin = names.find(nbest)
        recordings.setdefault(recording, []).append((begin, index))
    return [[index for _, index in sorted(utterances)] for utterances in recordings.values()]


def features_in_context(
    lists: Sequence[NBest],
    names: RecordingNames,
    scorer: LMScorer,
    weights: ScoreWeights,
    batch_size: int = 1000,
) -> Iterator[tuple[int, Features]]:
    """Yield the index and the features of each list; the order is not that of the lists.

    Args:
        lists: n-best lists.
        names: finds the recording of each list.
        scorer: scorer of the models.
        weights: weights of the combined score, which decides on the hypothesis that is the context.
        batch_size: hypotheses that are scored together, or one list if it has more.

    Raises:
        NbestError: the recording of an utterance cannot be found.
    """

    def encode(indices: list[int]) -> EncodedTexts:
        return scorer.encode([lists[index].texts for index in indices])

    longest_first = sorted(recordings_of(lists, names), key=len, reverse=True)
    size = max(1, batch_size // max((len(nbest.hyps) for nbest in lists), default=1))
    for begin in range(0, len(longest_first), size):
        part = longest_first[begin : begin + size]
        states = scorer.initial_states(len(part))
        # The first utterances of all recordings, the second ones of those that have two, ...
        waves = (
            [index for index in wave if index is not None] for wave in itertools.zip_longest(*part)
        )
        for indices, texts in encode_ahead(encode, waves):
            states = [tuple(tensor[: len(indices)] for tensor in state) for state in states]
            scores = scorer.score_encoded(texts, states)
            features = Features.from_scores([lists[index] for index in indices], scores, weights)
            chosen = best(weights.totals(features), features.sizes)
            states = scorer.advance(texts, chosen, states)
            yield from zip(indices, features.split(), strict=True)
