"""Evaluation of a model on a text: metrics, breakdowns, confidence intervals and paired tests.

    run = korlm.load("outputs/runs/DIR")
    (text,) = read_texts(CorpusConfig(name="mine", files=["mine.txt"]), [run])
    found = evaluate(run, text)
    found.figures["perplexity"], found.documents.bits_per_char

and of several, ``compare({"a": evaluate(a, text_of_a), "b": ...}, BootstrapConfig())``.

A run is evaluated in several modes (state carried, reset, cache, dynamic, mixture) on several
texts; hyperparameters of a mode are chosen on one of them and kept for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from korlm.config import BootstrapConfig, CacheConfig, DynamicConfig
from korlm.dataset.batches import Ids
from korlm.dataset.prepared import Prepared
from korlm.dataset.vocab import BOS_ID, UNK_ID, Vocab
from korlm.evaluation.bootstrap import LEVEL, interval, resampled_sums, sign_flip_p
from korlm.evaluation.breakdown import Sums, by_frequency, by_position, by_sentence
from korlm.evaluation.metrics import LossSums, SplitCounts, metrics
from korlm.evaluation.modes import Comparison, EvaluatedModel, ModeResult
from korlm.evaluation.texts import EvaluationText, Floats, Loaded, read_split
from korlm.evaluation.token_scores import TokenStream
from korlm.utils.errors import CorpusError
from korlm.utils.memory import peak_memory_mb


@dataclass(frozen=True)
class EvaluationResult:
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

    def same_as(self, other: EvaluationResult) -> bool:
        """Whether both cost the same, sentence by sentence."""
        return np.array_equal(self.sentences.open_nats, other.sentences.open_nats)

    def same_tokens(self, other: EvaluationResult) -> bool:
        """Whether losses can be compared: the same tokens of the same vocabulary."""
        return self.vocab.tokens == other.vocab.tokens and np.array_equal(
            self.sentences.num_tokens, other.sentences.num_tokens
        )


def summarize(
    row: ModeResult, text: EvaluationText, run: Loaded, as_trained: bool = True
) -> EvaluationResult:
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
        **compute_metrics(row, text.ids, text.counts),
        "lines": text.status,
        "bands": by_frequency(row.nats, text, run.vocab.counts),
        "positions": by_position(row.nats, text),
    }
    sentences = by_sentence(row.nats, text)
    documents = sentences.grouped(text.documents, len(text.doc_ids))
    return EvaluationResult(figures, documents, sentences, text.doc_ids, run.vocab, as_trained)


def evaluate(
    run: Loaded, text: EvaluationText, device: torch.device | str = "cpu"
) -> EvaluationResult:
    """A run on a text, read in the way that its model was trained in.

    Args:
        run: as ``korlm.load`` opens it; its model goes to the device.
        text: as this run knows it.
        device: that computes.
    """
    place = torch.device(device)
    reader = EvaluatedModel(
        "model", run.model.to(place), {"text": TokenStream(text.ids, run.start_id, place)}
    )
    found = reader.as_trained("text")
    return summarize(ModeResult(found.nats, found.seconds, {}), text, run)


def compare(judged: Mapping[str, EvaluationResult], config: BootstrapConfig) -> dict[str, Figures]:
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
            pair = PairedComparison(units[name], units[first], drawn[name], drawn[first])
            test = {"row": first, "bits_per_char": pair.difference(_bits_per_char)}
            if found.same_tokens(judged[first]):
                test["loss"] = pair.difference(_loss)
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
class PairedComparison:
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

    def difference(self, figure: Callable[[Floats], Floats]) -> dict[str, Any]:
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


Figures = dict[str, Any]


def compute_metrics(row: ModeResult, ids: Ids, counts: SplitCounts) -> Figures:
    """The figures of metrics.json for one way to use the model, and what was chosen for it.

    The ways share passes over the text: the peak of memory is that of all of them.
    """
    unknown = ids[:] == UNK_ID
    unk_nats = float(row.nats[unknown].sum())
    tally = LossSums(
        float(row.nats.sum()), unk_nats, len(row.nats), int(unknown.sum()), row.seconds
    )
    return {**metrics(tally, counts, peak_memory_mb()), "settings": row.settings}


@dataclass(frozen=True)
class Tuning:
    """The text of a run that the numbers of cache, dynamic evaluation and mixtures come from.

    Attributes:
        valid: on which they are chosen.
        train: on which dynamic evaluation measures gradients.
    """

    valid: EvaluationText
    train: Ids


@dataclass(frozen=True)
class EvaluationInputs:
    """What a run reads.

    Attributes:
        texts: that it is judged on, by their names; none but valid is called train or valid.
        tuning: None: it is gone, and nothing is left but mixtures of equal shares.
    """

    texts: dict[str, EvaluationText]
    tuning: Tuning | None = None


def own_material(run: Loaded, prepared: Prepared, test: bool) -> EvaluationInputs:
    """The splits that a run was trained with: valid, on which it is tuned, and test.

    Args:
        run: whose vocabulary the text has.
        prepared: the text.
        test: whether test is wanted, if there is one.
    """
    splits = ["valid", *(["test"] if test and "test" in prepared.stats else [])]
    texts = {split: read_split(prepared.folder, split, run) for split in splits}
    return EvaluationInputs(texts, Tuning(texts["valid"], prepared.ids("train")))


def check_same_text(materials: Mapping[str, EvaluationInputs]) -> None:
    """Refuses runs that would be judged on different texts.

    Args:
        materials: of the runs, by their names.

    Raises:
        CorpusError: naming both, and how the texts differ.
    """
    (first, material), *others = materials.items()
    for name, other in others:
        for split in sorted(material.texts.keys() | other.texts.keys()):
            mine, theirs = material.texts.get(split), other.texts.get(split)
            if mine is None or theirs is None or not mine.same_text(theirs):
                raise CorpusError(
                    f"{split} of {first} ({_size(mine)}) and of {name} ({_size(theirs)}): not the "
                    "same text; give one that all are to read: corpus=text 'corpus.files=[FILE]'"
                )


def _size(text: EvaluationText | None) -> str:
    if text is None:
        return "none"
    return f"{text.counts.num_chars:,} characters in {len(text.doc_ids):,} documents"


@dataclass(frozen=True)
class EvaluationModes:
    """What is tried besides carrying the state over and resetting it.

    Attributes:
        others: runs of the same vocabulary to mix with, by the names of their rows.
        cache: what may be chosen; no sizes: no cache.
        dynamic: what may be chosen; no rates: no dynamic evaluation.
        device: that computes.
    """

    others: Mapping[str, Loaded]
    cache: CacheConfig
    dynamic: DynamicConfig
    device: torch.device

    @property
    def needs_tuning(self) -> bool:
        """Whether there are numbers to be chosen."""
        return bool(self.others or self.cache.sizes or self.dynamic.learning_rates)


def evaluate_run(
    run: Loaded, material: EvaluationInputs, ways: EvaluationModes
) -> dict[str, dict[str, EvaluationResult]]:
    """Every way to use a run's model, on each of its texts.

    Returns:
        Name of the text -> name of the way (carried, reset and so on) -> what it gave.
    """
    ids: dict[str, Ids] = {name: text.ids for name, text in material.texts.items()}
    cache, dynamic = ways.cache, ways.dynamic
    if material.tuning is None:
        cache, dynamic = CacheConfig(sizes=[]), DynamicConfig(learning_rates=[])
    else:
        ids |= {"valid": material.tuning.valid.ids, "train": material.tuning.train}
    model, *others = (
        _reader(name, part, ids, ways.device)
        for name, part in {"model": run, **ways.others}.items()
    )
    comparison = Comparison(model, others, cache, dynamic, material.tuning is not None)
    if material.tuning is not None and ways.needs_tuning and "valid" not in material.texts:
        comparison.rows("valid")
    trained = "reset" if run.start_id == BOS_ID else "carried"
    return {
        name: {
            way: summarize(
                row, text, ways.others.get(way, run), way == trained or way in ways.others
            )
            for way, row in comparison.rows(name).items()
        }
        for name, text in material.texts.items()
    }


def _reader(name: str, run: Loaded, ids: Mapping[str, Ids], device: torch.device) -> EvaluatedModel:
    """A run's model on the device, and the texts as it knows them."""
    texts = {split: TokenStream(part, run.start_id, device) for split, part in ids.items()}
    return EvaluatedModel(name, run.model.to(device), texts)
