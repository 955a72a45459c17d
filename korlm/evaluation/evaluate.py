"""Evaluate runs on texts: metrics, breakdowns, confidence intervals and paired tests.

    run = korlm.load("outputs/runs/DIR")
    (text,) = read_texts(CorpusConfig(name="mine", files=["mine.txt"]), [run])
    result = evaluate(run, text)
    result.metrics["perplexity"], result.documents.bits_per_char

``compare({"a": evaluate(a, text_of_a), "b": ...}, BootstrapConfig())`` compares several runs.
``evaluate_run`` evaluates one run in several modes (see ``korlm.evaluation.modes``) on several
texts: hyperparameters are tuned on one text and kept for the others.

Axes: N tokens, U resampled units, R bootstrap resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from korlm.config import BootstrapConfig
from korlm.dataset.prepared import Prepared
from korlm.dataset.storage.id_stream import Ids, IdStream
from korlm.dataset.vocab import BOS_ID, UNK_ID, Vocab
from korlm.evaluation.bootstrap import LEVEL, interval, resampled_sums, sign_flip_p
from korlm.evaluation.breakdown import UnitSums, by_frequency, by_position, by_sentence
from korlm.evaluation.metrics import LossSums, metrics
from korlm.evaluation.modes import (
    EvaluationModes,
    ModeResult,
    TunedModes,
    run_modes,
    score_as_trained,
    tune,
)
from korlm.evaluation.texts import EvaluationText, read_split
from korlm.evaluation.token_scores import Floats
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import CorpusError
from korlm.utils.machine import peak_memory_mb
from korlm.utils.torch_backend import tf32

Metrics = dict[str, Any]


@dataclass(frozen=True)
class EvaluationResult:
    """Evaluation of one run on a text in one mode.

    Attributes:
        metrics: under their names in metrics.json.
        as_trained: whether the mode is the one that the run was trained in.
    """

    metrics: Metrics
    documents: UnitSums
    sentences: UnitSums
    doc_ids: list[str]
    vocab: Vocab
    as_trained: bool

    @property
    def resampled_unit(self) -> str:
        """Return the unit of resampling: documents, or sentences if there is one document."""
        return "document" if len(self.doc_ids) > 1 else "sentence"

    def units(self, block: int = 1) -> UnitSums:
        """Return the sums of the resampled units, ``block`` consecutive ones as one."""
        sums = self.documents if self.resampled_unit == "document" else self.sentences
        groups = np.arange(len(sums.nats)) // block
        return sums.grouped(groups, int(groups[-1]) + 1) if block > 1 else sums

    def same_loss(self, other: EvaluationResult) -> bool:
        """Return whether both have the same loss on every sentence."""
        return np.array_equal(self.sentences.open_nats, other.sentences.open_nats)

    def same_tokens(self, other: EvaluationResult) -> bool:
        """Return whether losses per token are comparable: same vocabulary, same tokens."""
        return self.vocab.tokens == other.vocab.tokens and np.array_equal(
            self.sentences.num_tokens, other.sentences.num_tokens
        )


def summarize(
    result: ModeResult, text: EvaluationText, run: TrainedRun, as_trained: bool = True
) -> EvaluationResult:
    """Compute metrics and breakdowns of a mode."""
    is_unk = text.ids == UNK_ID
    sums = LossSums(
        nats=float(result.nats.sum()),
        unk_nats=float(result.nats[is_unk].sum()),
        num_tokens=len(result.nats),
        num_unk=int(is_unk.sum()),
        seconds=result.seconds,
    )
    row = {
        "run": str(run.folder),
        "model": run.settings.model.name,
        "tokenizer": run.settings.tokenizer.name,
        # Modes share passes over the text, so the peak memory is that of all of them.
        **metrics(sums, text.counts, peak_memory_mb()),
        "settings": result.settings,
        "lines": text.status,
        "bands": by_frequency(result.nats, text, run.vocab.counts),
        "positions": by_position(result.nats, text),
    }
    sentences = by_sentence(result.nats, text)
    documents = sentences.grouped(text.documents, len(text.doc_ids))
    return EvaluationResult(row, documents, sentences, text.doc_ids, run.vocab, as_trained)


@tf32(False)
def evaluate(
    run: TrainedRun, text: EvaluationText, device: torch.device | str = "cpu"
) -> EvaluationResult:
    """Evaluate a run on a text in the mode that it was trained in.

    ``text`` must be as this run encodes it; the model is moved to the device.
    """
    run.model.to(torch.device(device))
    scores = score_as_trained(run, text.ids, "model")
    return summarize(ModeResult(scores.nats, scores.seconds, {}), text, run)


def compare(results: Mapping[str, EvaluationResult], config: BootstrapConfig) -> dict[str, Metrics]:
    """Add confidence intervals, and tests against the first result, to the metrics of results.

    All results must be on the same documents.

    Returns:
        The metrics of each result with "intervals" and, except for the first one, "against".
    """
    sums = {name: _columns(result.units(config.block)) for name, result in results.items()}
    all_resampled = resampled_sums(np.concatenate(list(sums.values())), config.samples, config.seed)
    by_result = all_resampled.reshape(len(results), -1, config.samples)
    resampled = {name: _ratios(part) for name, part in zip(results, by_result, strict=True)}
    (first, reference), *_ = results.items()
    rows = {}
    for name, result in results.items():
        num_units = sums[name].shape[1]
        rows[name] = result.metrics | {
            "intervals": {
                "perplexity": list(interval(resampled[name]["perplexity"], num_units)),
                "bits_per_char": list(interval(resampled[name]["bits_per_char"], num_units)),
                "level": LEVEL,
                "unit": result.resampled_unit,
                "block": config.block,
                "num_units": num_units,
                "samples": config.samples,
            }
        }
        if name == first:
            continue
        test: Metrics = {"row": first}
        total, first_total = _ratios(sums[name].sum(1)), _ratios(sums[first].sum(1))
        with np.errstate(invalid="ignore"):  # inf - inf
            for key in ("bits_per_char", *(["loss"] if result.same_tokens(reference) else [])):
                bounds = interval(resampled[name][key] - resampled[first][key], num_units)
                difference = float(total[key] - first_total[key])
                test[key] = {"difference": difference, "interval": list(bounds)}
            open_nats = sums[name][1] - sums[first][1]
        test["p"] = sign_flip_p(open_nats, config.samples, config.seed)
        rows[name]["against"] = test
    return rows


def _columns(units: UnitSums) -> Floats:
    """Return the sums of units that the compared metrics are ratios of, (4, U)."""
    return np.stack([units.nats, units.open_nats, units.num_tokens, units.num_chars])


def _ratios(sums: Floats) -> dict[str, Floats]:
    """Return the compared metrics of sums in the order of ``_columns``: (4, ...) -> (...)."""
    nats, open_nats, num_tokens, num_chars = sums
    loss = nats / num_tokens
    with np.errstate(over="ignore"):
        perplexity = np.exp(loss)
    bits_per_char = open_nats / math.log(2) / num_chars
    return {"loss": loss, "perplexity": perplexity, "bits_per_char": bits_per_char}


@dataclass(frozen=True)
class TuningData:
    """Texts that the hyperparameters of modes are chosen with.

    Attributes:
        valid: text to tune on.
        train: ids on which dynamic evaluation computes its gradient statistics.
    """

    valid: EvaluationText
    train: Ids | IdStream


@dataclass(frozen=True)
class EvaluationInputs:
    """Texts of a run.

    Attributes:
        texts: name -> text to evaluate on.
        tuning: None: no cache and dynamic evaluation, equal mixture weights.
    """

    texts: dict[str, EvaluationText]
    tuning: TuningData | None = None


def split_inputs(run: TrainedRun, prepared: Prepared, test: bool) -> EvaluationInputs:
    """Return the splits of a prepared corpus: valid, which is also tuned on, and test."""
    splits = ["valid", *(["test"] if test and "test" in prepared.stats else [])]
    texts = {split: read_split(prepared.folder, split, run) for split in splits}
    return EvaluationInputs(texts, TuningData(texts["valid"], prepared.ids("train")))


def check_same_text(
    inputs: Mapping[str, EvaluationInputs],
    advice: str = "give one text for all: corpus=text 'corpus.files=[FILE]'",
) -> None:
    """Raise if runs would be evaluated on different texts.

    Raises:
        CorpusError: names the runs and the size of their texts.
    """
    (first, reference), *others = inputs.items()
    for name, other in others:
        for split in sorted(reference.texts.keys() | other.texts.keys()):
            text, other_text = reference.texts.get(split), other.texts.get(split)
            if text is None or other_text is None or not text.same_text(other_text):
                raise CorpusError(
                    f"{split} of {first} ({_size(text)}) and of {name} ({_size(other_text)}): not "
                    f"the same text; {advice}"
                )


def _size(text: EvaluationText | None) -> str:
    if text is None:
        return "none"
    return f"{text.counts.num_chars:,} characters in {len(text.doc_ids):,} documents"


@tf32(False)
def evaluate_run(
    run: TrainedRun, inputs: EvaluationInputs, modes: EvaluationModes
) -> dict[str, dict[str, EvaluationResult]]:
    """Evaluate a run in every mode on each of its texts.

    Returns:
        Name of the text -> mode -> result.
    """
    for part in (run, *modes.others.values()):
        part.model.to(modes.device)
    tuned, valid = TunedModes(), None
    valid_results: dict[str, ModeResult] = {}
    if inputs.tuning is not None:
        valid = inputs.tuning.valid
        tuned, valid_results = tune(run, modes, valid.ids, inputs.tuning.train)
    trained_mode = "reset" if run.start_id == BOS_ID else "carried"
    results = {}
    for name, text in inputs.texts.items():
        by_mode = valid_results if text is valid else run_modes(run, modes.others, text.ids, tuned)
        results[name] = {
            mode: summarize(
                *(result, text, modes.others.get(mode, run)),
                as_trained=mode == trained_mode or mode in modes.others,
            )
            for mode, result in by_mode.items()
        }
    return results
