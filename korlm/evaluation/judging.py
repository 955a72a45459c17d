"""One way to use one model on one text, judged: figures, breakdowns, intervals, paired tests.

    run = korlm.load("outputs/runs/DIR")
    (text,) = read_texts(CorpusConfig(name="mine", files=["mine.txt"]), [run])
    found = evaluate(run, text)
    found.figures["perplexity"], found.documents.bits_per_char

and of several, ``compare({"a": evaluate(a, text_of_a), "b": ...}, BootstrapConfig())``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from korlm.config import BootstrapConfig
from korlm.data.vocab import Vocab
from korlm.evaluation.bootstrap import LEVEL, interval, resampled_sums, sign_flip_p
from korlm.evaluation.breakdown import Sums, by_frequency, by_position, by_sentence
from korlm.evaluation.comparison import Reader, Row
from korlm.evaluation.figures import Figures, figures_of
from korlm.evaluation.scoring import Text
from korlm.evaluation.texts import Floats, Loaded, Sentences


@dataclass(frozen=True)
class Judged:
    """What one way to use a model gave on a text.

    Attributes:
        figures: as metrics.json names them.
        documents: sums of each document.
        sentences: sums of each sentence.
        doc_ids: names of the documents.
        vocab: that the model knows.
        as_trained: whether the text was read in the way that the model was trained in.
    """

    figures: Figures
    documents: Sums
    sentences: Sums
    doc_ids: list[str]
    vocab: Vocab
    as_trained: bool

    @property
    def unit(self) -> str:
        """What is drawn: documents, or sentences of the only one."""
        return "document" if len(self.doc_ids) > 1 else "sentence"

    def units(self, block: int = 1) -> Sums:
        """The sums of what is drawn, so many neighbours together."""
        sums = self.documents if self.unit == "document" else self.sentences
        groups = np.arange(len(sums.nats)) // block
        return sums.grouped(groups, int(groups[-1]) + 1) if block > 1 else sums

    def same_as(self, other: Judged) -> bool:
        """Whether both cost the same, sentence by sentence."""
        return np.array_equal(self.sentences.open_nats, other.sentences.open_nats)

    def same_tokens(self, other: Judged) -> bool:
        """Whether losses can be compared: the same tokens of the same vocabulary."""
        return self.vocab.tokens == other.vocab.tokens and np.array_equal(
            self.sentences.num_tokens, other.sentences.num_tokens
        )


def judge(row: Row, text: Sentences, run: Loaded, as_trained: bool = True) -> Judged:
    """What a reading of a text says.

    Args:
        row: the reading.
        text: that was read, as the run knows it.
        run: whose model did it.
        as_trained: whether that model was trained to read so.
    """
    figures = {
        "run": str(run.folder),
        "model": run.settings.model.name,
        "tokenizer": run.settings.tokenizer.name,
        **figures_of(row, text.ids, text.counts),
        "lines": text.status,
        "bands": by_frequency(row.nats, text, run.vocab.counts),
        "positions": by_position(row.nats, text),
    }
    sentences = by_sentence(row.nats, text)
    documents = sentences.grouped(text.documents, len(text.doc_ids))
    return Judged(figures, documents, sentences, text.doc_ids, run.vocab, as_trained)


def evaluate(run: Loaded, text: Sentences, device: torch.device | str = "cpu") -> Judged:
    """A run on a text, read in the way that its model was trained in.

    Args:
        run: as ``korlm.load`` opens it; its model goes to the device.
        text: as this run knows it.
        device: that computes.
    """
    place = torch.device(device)
    reader = Reader("model", run.model.to(place), {"text": Text(text.ids, run.start_id, place)})
    found = reader.as_trained("text")
    return judge(Row(found.nats, found.seconds, {}), text, run)


def compare(judged: Mapping[str, Judged], config: BootstrapConfig) -> dict[str, Figures]:
    """The figures of several ways on the same text, with intervals and tests against the first.

    Args:
        judged: all of them on the same documents.
        config: how often and what is drawn.

    Returns:
        The figures of each, and beside them "intervals" and, but for the first, "against".
    """
    units = {name: found.units(config.block) for name, found in judged.items()}
    columns = [column for sums in units.values() for column in _columns(sums)]
    replicates = resampled_sums(np.stack(columns), config.samples, config.seed)
    drawn = dict(zip(judged, replicates.reshape(len(judged), -1, config.samples), strict=True))
    first = next(iter(judged))
    result = {}
    for name, found in judged.items():
        num_units = len(units[name].nats)
        result[name] = {
            **found.figures,
            "intervals": {
                "perplexity": _interval(_perplexity(drawn[name]), num_units),
                "bits_per_char": _interval(_bits_per_char(drawn[name]), num_units),
                "level": LEVEL,
                "unit": found.unit,
                "block": config.block,
                "num_units": num_units,
                "samples": config.samples,
            },
        }
        if name != first:
            pair = Pair(units[name], units[first], drawn[name], drawn[first])
            test = {"row": first, "bits_per_char": pair.differing(_bits_per_char)}
            if found.same_tokens(judged[first]):
                test["loss"] = pair.differing(_loss)
            result[name]["against"] = test | {"p": pair.p(config)}
    return result


def _columns(sums: Sums) -> list[Floats]:
    counts = (sums.num_tokens.astype(np.float64), sums.num_chars.astype(np.float64))
    return [sums.nats, sums.open_nats, *counts]


def _loss(columns: Floats) -> Floats:
    nats, _, num_tokens, _ = columns
    loss: Floats = nats / num_tokens
    return loss


def _perplexity(columns: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.exp(_loss(columns))


def _bits_per_char(columns: Floats) -> Floats:
    _, open_nats, _, num_chars = columns
    bits: Floats = open_nats / math.log(2) / num_chars
    return bits


def _interval(replicates: Floats, num_units: int) -> list[float]:
    return list(interval(replicates, num_units))


@dataclass(frozen=True)
class Pair:
    """Two ways on the same units.

    Attributes:
        sums: of the units of the one.
        first: of the other, which is subtracted.
        drawn: (4, R), the columns of the one, drawn with replacement.
        first_drawn: of the other, in the same draws.
    """

    sums: Sums
    first: Sums
    drawn: Floats
    first_drawn: Floats

    def differing(self, figure: Callable[[Floats], Floats]) -> dict[str, Any]:
        """The difference in a figure, and its interval."""
        one, other = (np.array([c.sum() for c in _columns(s)]) for s in (self.sums, self.first))
        with np.errstate(invalid="ignore"):  # infinite, both
            difference = float(figure(one) - figure(other))
            replicates = figure(self.drawn) - figure(self.first_drawn)
        return {"difference": difference, "interval": _interval(replicates, len(self.sums.nats))}

    def p(self, config: BootstrapConfig) -> float:
        """Of differences as large as these, were both alike."""
        with np.errstate(invalid="ignore"):
            differences = self.sums.open_nats - self.first.open_nats
        return sign_flip_p(differences, config.samples, config.seed)
