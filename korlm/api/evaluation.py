"""Evaluate runs, for ``python -m korlm.evaluate`` and ``run.evaluate`` in Python."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from korlm.cli.arguments import key_of
from korlm.cli.compose import Composed, compose
from korlm.config import CacheConfig, DynamicConfig, EvaluateSettings
from korlm.dataset.prepared import open_prepared
from korlm.dataset.statistics.tokenization_report import summary
from korlm.evaluation.evaluate import (
    EvaluationInputs,
    EvaluationResult,
    Metrics,
    check_same_text,
    compare,
    evaluate,
    evaluate_run,
    split_inputs,
)
from korlm.evaluation.modes import RESERVED_NAMES, EvaluationModes
from korlm.evaluation.texts import read_texts
from korlm.prediction.evaluation import evaluate_task_runs, prepare_text
from korlm.runs.trained_run import (
    Run,
    TrainedRun,
    check_same_vocab,
    load_mixed_runs,
    open_text,
    training_corpus,
)
from korlm.utils.errors import ConfigError
from korlm.utils.machine import reset_peak_memory

logger = logging.getLogger(__name__)

Runs = Mapping[str, TrainedRun]
Results = dict[str, dict[str, EvaluationResult]]  # name of a text -> row of its table -> result

# Settings of korlm.evaluate that a method of a run does not take.
_COMMAND_ONLY = {
    **dict.fromkeys(("device", "threads"), "the model computes where it is; use run.to(device)"),
    **dict.fromkeys(("output", "plot"), "results are returned, not written"),
    "run": "the run is this one",
}


def evaluate_settings(run: Run, settings: Mapping[str, Any]) -> Composed:
    """Return the settings of the method ``evaluate`` of a run."""
    for key in settings.keys() & _COMMAND_ONLY.keys():
        raise ConfigError(f"{key}: does not apply to run.evaluate: {_COMMAND_ONLY[key]}")
    return compose("evaluate", {"run": run.folder, **settings})


def evaluate_language_models(
    settings: EvaluateSettings, runs: Runs, device: torch.device
) -> Results:
    """Evaluate language models, which are moved to ``device``, on the texts of the settings.

    Returns:
        Nested dict: name of a text -> row -> result. The rows of a single run are its modes. With
        several runs, the row NAME is a run in the mode that it was trained in (also a run that is
        only mixed with others), and NAME MODE the run in another mode.
    """
    modes = _modes(settings, runs, device)
    return _evaluate(runs, _inputs(settings, runs, modes), modes)


def evaluate_as_trained(
    settings: EvaluateSettings, run: TrainedRun, device: torch.device
) -> dict[str, Metrics]:
    """Evaluate a language model as it was trained, on ``device``; return text -> metrics."""
    no_modes = EvaluationModes({}, CacheConfig(sizes=[]), DynamicConfig(learning_rates=[]), device)
    texts = _inputs(settings, {"run": run}, no_modes)["run"].texts
    reset_peak_memory()
    results = {name: evaluate(run, text, device) for name, text in texts.items()}
    return {
        name: compare({"run": result}, settings.bootstrap)["run"]
        for name, result in results.items()
    }


def evaluate_tasks(
    settings: EvaluateSettings, runs: Mapping[str, Run], overrides: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Evaluate runs of a task other than language modeling.

    Returns:
        Nested dict: split (or name of ``settings.corpus``, if given) -> run -> metrics; see
        ``evaluate_task_runs``.
    """
    if settings.ngram is not None:
        first = next(iter(runs.values()))
        raise ConfigError(
            f"ngram: does not apply to a run of task={first.settings.task.name}, only to "
            "language models"
        )
    if settings.corpus is not None:
        outputs = Path(settings.outputs)
        given = {key_of(override).removeprefix("corpus.") for override in overrides}
        texts = {
            run.fingerprint: prepare_text(run, settings.corpus, outputs, given)
            for run in runs.values()
        }
        results = evaluate_task_runs(runs, texts, settings.bootstrap, ["test"])
        return {settings.corpus.name: results["test"]}
    folder = Path(settings.prepared) if settings.prepared else None
    prepared = {
        run.fingerprint: open_prepared(folder or training_corpus(run), run.fingerprint)
        for run in runs.values()
    }
    splits = ["valid", "test"] if settings.test else ["valid"]
    return evaluate_task_runs(runs, prepared, settings.bootstrap, splits)


def _modes(settings: EvaluateSettings, runs: Runs, device: torch.device) -> EvaluationModes:
    """Load the runs to mix with, and return the modes to evaluate beside carried and reset."""
    others: dict[str, TrainedRun] = {}
    for folder, other in load_mixed_runs(settings.ngram, settings.mix).items():
        for run in runs.values():
            check_same_vocab(f"run={run.folder}", run.vocab, f"run {folder}", other.vocab)
        name = "ngram" if folder == settings.ngram else other.folder.resolve().name
        is_taken = name in {*others, *RESERVED_NAMES, *runs}
        others[str(other.folder.resolve()) if is_taken else name] = other
    adapt = len(runs) == 1 if settings.adapt is None else settings.adapt
    cache = settings.cache if adapt else CacheConfig(sizes=[])
    dynamic = settings.dynamic if adapt else DynamicConfig(learning_rates=[])
    return EvaluationModes(others, cache, dynamic, device)


def _inputs(
    settings: EvaluateSettings, runs: Runs, modes: EvaluationModes
) -> dict[str, EvaluationInputs]:
    """Return the texts to evaluate each run on, and what its modes are tuned on.

    Texts are those of ``settings.corpus`` or, without it, the splits that the run was trained with.
    Modes are tuned on the latter in both cases. Runs of the same corpus or tokenizer share texts.
    """
    if settings.corpus is None:
        by_fingerprint = _own_inputs(settings, runs)
        inputs = {name: by_fingerprint[run.fingerprint] for name, run in runs.items()}
        check_same_text(inputs)
        if settings.test and not any("test" in part.texts for part in inputs.values()):
            logger.info("no test split: results are on valid, which hyperparameters are tuned on")
        return inputs
    tuned_runs = {name: run for name, run in runs.items() if modes.needs_tuning(run)}
    by_fingerprint = _own_inputs(settings, tuned_runs, only_tuning=True)
    texts = dict(zip(runs, read_texts(settings.corpus, list(runs.values())), strict=True))
    by_tokenizer = {run.settings.tokenizer.name: texts[name] for name, run in runs.items()}
    for tokenizer, text in by_tokenizer.items():
        logger.info("%s: lines: %s", tokenizer, summary(text.status))
    inputs = {}
    for name, run in runs.items():
        own = by_fingerprint.get(run.fingerprint) if name in tuned_runs else None
        tuning = None if own is None else own.tuning
        inputs[name] = EvaluationInputs({settings.corpus.name: texts[name]}, tuning)
    check_same_text(inputs, "evaluate runs with other corpus.unicode alone")
    return inputs


def _own_inputs(
    settings: EvaluateSettings, runs: Runs, only_tuning: bool = False
) -> dict[str, EvaluationInputs]:
    """Return the splits that runs were trained with, keyed by the runs' fingerprints.

    With ``only_tuning``, test is not read, and a missing prepared corpus is skipped with a warning.
    """
    given = Path(settings.prepared) if settings.prepared else None
    inputs: dict[str, EvaluationInputs] = {}
    for run in runs.values():
        if only_tuning and not (given or run.prepared.is_dir()):
            logger.warning(
                "prepared corpus %s not found: skipping cache and dynamic evaluation for %s, "
                "using equal mixture weights; set prepared=DIR to its new path",
                *(run.prepared, run.folder),
            )
        elif run.fingerprint not in inputs:
            prepared = open_text(run, given)
            inputs[run.fingerprint] = split_inputs(run, prepared, settings.test and not only_tuning)
    return inputs


def _evaluate(runs: Runs, inputs: dict[str, EvaluationInputs], modes: EvaluationModes) -> Results:
    """Return what ``evaluate_language_models`` returns.

    With several runs, a mode that does not change the loss has no row of its own, as carried and
    reset of an n-gram model, whose context ends at <bos>.
    """
    results: Results = {}
    for name, run in runs.items():
        reset_peak_memory()
        by_text = evaluate_run(run, inputs[name], modes)
        if len(runs) == 1:
            return by_text
        for text, by_mode in by_text.items():
            rows = results.setdefault(text, {})
            # The mode that the run was trained in is first: the other ones are compared with it.
            for mode, result in sorted(by_mode.items(), key=lambda item: not item[1].as_trained):
                row = name if result.as_trained else f"{name} {mode}"
                row = mode if mode in modes.others else row
                if row not in rows and (row == name or not result.same_loss(rows[name])):
                    rows[row] = result
    return results
