"""Command: runs and a text -> metrics, breakdowns, confidence intervals and paired tests.

One run is evaluated in all modes, each tuned on valid; several runs are compared with each other.
"""

from __future__ import annotations

import glob
import logging
from typing import TYPE_CHECKING

from korlm.cli.command import command_overrides
from korlm.cli.output_dirs import output_dir
from korlm.config import EvaluateSettings
from korlm.runs.directories import run_folders
from korlm.sweeps.command import command
from korlm.utils.errors import ConfigError

if TYPE_CHECKING:
    from korlm.api.runs import TaskRun
    from korlm.evaluation.evaluate import Metrics

logger = logging.getLogger(__name__)


@command("evaluate")
def main(settings: EvaluateSettings) -> None:
    """Evaluate the best model of each run."""
    from korlm.api.evaluation import evaluate_language_models
    from korlm.api.runs import TaskRun, load_any
    from korlm.evaluation.evaluate import compare
    from korlm.evaluation.tables import write_breakdowns
    from korlm.runs.device import inference_device
    from korlm.runs.trained_run import TrainedRun, short_names
    from korlm.utils.io.atomic_files import write_json

    loaded = [load_any(folder) for folder in run_folders(settings.run)]
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
    results = evaluate_language_models(settings, runs, inference_device(settings))
    metrics = {text: compare(rows, settings.bootstrap) for text, rows in results.items()}
    for text, rows in metrics.items():
        _log_tables(text, rows, len(runs))
    folder = output_dir()
    write_breakdowns(folder, results)
    if settings.plot:
        from korlm.evaluation.plots import draw_breakdown

        for text, result_rows in results.items():
            draw_breakdown(folder / f"breakdown_{text}.png", text, result_rows, metrics[text])
    write_json(folder / "metrics.json", metrics)
    logger.info("%s: %s", folder, ", ".join(sorted(p.name for p in folder.glob("*.[jtp][sn]*"))))


def _evaluate_tasks(settings: EvaluateSettings, task_runs: list[TaskRun]) -> None:
    """Evaluate runs of a task other than language modeling."""
    from korlm.api.evaluation import evaluate_tasks
    from korlm.prediction.evaluation import table_of
    from korlm.runs.device import inference_device
    from korlm.runs.trained_run import short_names
    from korlm.utils.io.atomic_files import write_json

    device = inference_device(settings)
    names = short_names([run.folder for run in task_runs])
    runs = dict(zip(names, (run.to(device) for run in task_runs), strict=True))
    results = evaluate_tasks(settings, runs, command_overrides())
    for split, rows in results.items():
        logger.info("%s:\n%s", split, table_of(rows))
    folder = output_dir()
    write_json(folder / "metrics.json", results)
    logger.info("%s: metrics.json", folder)


def _log_tables(text: str, rows: dict[str, Metrics], num_runs: int) -> None:
    """Log the tables of one text."""
    from korlm.evaluation.tables import (
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
