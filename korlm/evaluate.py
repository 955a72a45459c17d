"""Command: runs and a text -> metrics, breakdowns, confidence intervals and paired tests.

One run is evaluated in all modes, each tuned on valid; several runs are compared with each other.
"""

from __future__ import annotations

import glob
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.cli.output_dirs import output_dir
from korlm.config import CacheConfig, DynamicConfig, EvaluateSettings
from korlm.runs.directories import run_folders
from korlm.sweeps.command import stage
from korlm.utils.errors import ConfigError

if TYPE_CHECKING:
    from korlm.evaluation.evaluate import (
        EvaluationInputs,
        EvaluationModes,
        EvaluationResult,
        Metrics,
    )
    from korlm.prediction.task_run import TaskRun
    from korlm.runs.trained_run import TrainedRun

    Runs = dict[str, TrainedRun]
    Results = dict[str, dict[str, EvaluationResult]]  # text -> row of the table -> result

logger = logging.getLogger(__name__)


@stage("evaluate")
def main(settings: EvaluateSettings) -> None:
    """Evaluate the best model of each run."""
    from korlm.evaluation.evaluate import compare
    from korlm.evaluation.output.tsv import write_breakdowns
    from korlm.prediction.task_run import TaskRun, load
    from korlm.runs.trained_run import TrainedRun, short_names
    from korlm.utils.io.atomic_files import write_json

    loaded = [load(folder) for folder in run_folders(settings.run)]
    language_models = [run for run in loaded if isinstance(run, TrainedRun)]
    task_runs = [run for run in loaded if isinstance(run, TaskRun)]
    if language_models and task_runs:
        if not any(map(glob.has_magic, settings.run)):
            raise ConfigError(
                f"run: {task_runs[0].folder} is of task={task_runs[0].settings.task.name}, "
                f"{language_models[0].folder} a language model; evaluate them separately"
            )
        names = ", ".join(str(run.folder) for run in task_runs)
        logger.info("skipping runs that are no language models: %s", names)
    elif task_runs:
        _evaluate_tasks(settings, task_runs)
        return
    folders = [run.folder for run in language_models]
    runs = dict(zip(short_names(folders), language_models, strict=True))
    modes = _modes(settings, runs)
    results = _evaluate(runs, _inputs(settings, runs, modes), modes)
    metrics = {text: compare(rows, settings.bootstrap) for text, rows in results.items()}
    for text, rows in metrics.items():
        _log_tables(text, rows, len(runs))
    folder = output_dir()
    write_breakdowns(folder, results)
    if settings.plot:
        from korlm.evaluation.output.plots import draw_breakdown

        for text, result_rows in results.items():
            draw_breakdown(folder / f"breakdown_{text}.png", text, result_rows, metrics[text])
    write_json(folder / "metrics.json", metrics)
    logger.info("%s: %s", folder, ", ".join(sorted(p.name for p in folder.glob("*.[jtp][sn]*"))))


def _evaluate_tasks(settings: EvaluateSettings, task_runs: list[TaskRun]) -> None:
    """Evaluate runs of a task other than language modeling."""
    from korlm.dataset.prepared import open_prepared
    from korlm.prediction.evaluation import evaluate_task_runs, prepare_text, table_of
    from korlm.runs.device import inference_device
    from korlm.runs.trained_run import own_corpus, short_names
    from korlm.utils.io.atomic_files import write_json

    if settings.ngram is not None:
        raise ConfigError(
            f"ngram: does not apply to a run of task={task_runs[0].settings.task.name}, only to "
            "language models"
        )
    device = inference_device(settings)
    names = short_names([run.folder for run in task_runs])
    runs = dict(zip(names, (run.to(device) for run in task_runs), strict=True))
    if settings.corpus is not None:
        outputs = Path(settings.outputs)
        texts = {
            run.fingerprint: prepare_text(run, settings.corpus, outputs) for run in runs.values()
        }
        results = evaluate_task_runs(runs, texts, settings.bootstrap, ["test"])
        results = {settings.corpus.name: results["test"]}
    else:
        given = Path(settings.prepared) if settings.prepared else None
        prepared = {
            run.fingerprint: open_prepared(given or own_corpus(run), run.fingerprint)
            for run in runs.values()
        }
        splits = ["valid", "test"] if settings.test else ["valid"]
        results = evaluate_task_runs(runs, prepared, settings.bootstrap, splits)
    for split, rows in results.items():
        logger.info("%s:\n%s", split, table_of(rows))
    folder = output_dir()
    write_json(folder / "metrics.json", results)
    logger.info("%s: metrics.json", folder)


def _modes(settings: EvaluateSettings, runs: Runs) -> EvaluationModes:
    """Return the modes beside carried and reset, with the other runs loaded."""
    from korlm.evaluation.evaluate import EvaluationModes
    from korlm.evaluation.modes import RESERVED_NAMES
    from korlm.runs.device import inference_device
    from korlm.runs.trained_run import check_same_vocab, load_mixed_runs

    others: Runs = {}
    for folder, other in load_mixed_runs(settings.ngram, settings.mix).items():
        for run in runs.values():
            check_same_vocab(f"run={run.folder}", run.vocab, f"run {folder}", other.vocab)
        name = "ngram" if folder == settings.ngram else other.folder.resolve().name
        name = folder if name in {*others, *RESERVED_NAMES, *runs} else name
        others[name] = other
    adapt = len(runs) == 1 if settings.adapt is None else settings.adapt
    cache = settings.cache if adapt else CacheConfig(sizes=[])
    dynamic = settings.dynamic if adapt else DynamicConfig(learning_rates=[])
    return EvaluationModes(others, cache, dynamic, inference_device(settings))


def _inputs(
    settings: EvaluateSettings, runs: Runs, modes: EvaluationModes
) -> dict[str, EvaluationInputs]:
    """Return the texts of each run; runs that were trained on the same corpus share them."""
    from korlm.dataset.statistics.tokenization_report import summary
    from korlm.evaluation.evaluate import EvaluationInputs, check_same_text
    from korlm.evaluation.texts import read_texts

    if settings.corpus is None:
        by_corpus = _own_inputs(settings, runs)
        inputs = {name: by_corpus[run.fingerprint] for name, run in runs.items()}
        check_same_text(inputs)
        if settings.test and not any("test" in part.texts for part in inputs.values()):
            logger.info("no test split: results are on valid, which hyperparameters are tuned on")
        return inputs
    by_corpus = _own_inputs(settings, runs, only_tuning=True) if modes.needs_tuning else {}
    texts = dict(zip(runs, read_texts(settings.corpus, list(runs.values())), strict=True))
    by_tokenizer = {run.settings.tokenizer.name: texts[name] for name, run in runs.items()}
    for tokenizer, text in by_tokenizer.items():
        logger.info("%s: lines: %s", tokenizer, summary(text.status))
    return {
        name: EvaluationInputs(
            {settings.corpus.name: texts[name]},
            by_corpus[run.fingerprint].tuning if run.fingerprint in by_corpus else None,
        )
        for name, run in runs.items()
    }


def _own_inputs(
    settings: EvaluateSettings, runs: Runs, only_tuning: bool = False
) -> dict[str, EvaluationInputs]:
    """Return the splits that runs were trained with, by fingerprint.

    With ``only_tuning``, a missing prepared corpus is skipped with a warning.
    """
    from korlm.evaluation.evaluate import split_inputs
    from korlm.runs.trained_run import open_text

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
    """Evaluate all runs: rows are the modes of one run, or the runs with their other modes.

    With several runs, a mode that does not change the loss has no row: the n-gram model, whose
    context ends at <bos>, is the same carried and reset.
    """
    from korlm.evaluation.evaluate import evaluate_run
    from korlm.utils.memory import reset_peak_memory
    from korlm.utils.torch_backend import tf32

    results: Results = {}
    for name, run in runs.items():
        reset_peak_memory()
        with tf32(False):
            by_text = evaluate_run(run, inputs[name], modes)
        if len(runs) == 1:
            return by_text
        for text, by_mode in by_text.items():
            rows = results.setdefault(text, {})
            for mode, result in sorted(by_mode.items(), key=lambda item: not item[1].as_trained):
                row = name if result.as_trained else f"{name} {mode}"
                row = mode if mode in modes.others else row
                if row not in rows and (row == name or not result.same_loss(rows[name])):
                    rows[row] = result
    return results


def _log_tables(text: str, rows: dict[str, Metrics], num_runs: int) -> None:
    """Log the tables of one text."""
    from korlm.evaluation.output.tables import (
        comparison_table,
        frequency_table,
        interval_note,
        paired_test_table,
        runs_table,
    )

    first = next(iter(rows.values()))
    size = f"{text}, {first['num_chars']:,} characters"
    if num_runs == 1:
        title = f"{size}, {first['num_tokens']:,} tokens, hyperparameters tuned on valid"
        logger.info("%s:\n%s", title, comparison_table(rows))
    else:
        logger.info("%s:\n%s", size, runs_table(rows))
    logger.info("%s", interval_note(first))
    if len(rows) > 1:
        logger.info("%s", paired_test_table(rows))
    if num_runs == 1:
        logger.info("%s", frequency_table(first))


if __name__ == "__main__":
    main()
