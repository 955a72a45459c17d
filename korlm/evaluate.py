"""Stage: runs and a text -> figures, breakdowns, intervals and tests of what the models are worth.

Of one run every way to use its model is tried, each tuned on valid; of several each is a row.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.cli.output_dirs import output_dir
from korlm.config import CacheConfig, DynamicConfig, EvaluateSettings
from korlm.config.paths import run_directory
from korlm.runs.directories import run_folders
from korlm.sweeps.command import stage
from korlm.utils.errors import ConfigError

if TYPE_CHECKING:
    from korlm.evaluation.evaluate import (
        EvaluationInputs,
        EvaluationModes,
        EvaluationResult,
        Figures,
    )
    from korlm.runs.trained_run import TrainedRun

    Runs = dict[str, TrainedRun]
    Found = dict[str, dict[str, EvaluationResult]]  # text -> row

logger = logging.getLogger(__name__)


@stage("evaluate")
def main(settings: EvaluateSettings) -> None:
    """Judges the best model of each run, and says how sure that is."""
    from korlm.evaluation.evaluate import compare
    from korlm.evaluation.output.tsv import write_breakdowns
    from korlm.runs.trained_run import load_run, short_names
    from korlm.utils.io.atomic_files import write_figures

    folders = run_folders(settings.run)
    runs = dict(zip(short_names(folders), map(load_run, folders), strict=True))
    ways = _ways(settings, runs)
    found = _evaluate(runs, _materials(settings, runs, ways), ways)
    figures = {text: compare(rows, settings.bootstrap) for text, rows in found.items()}
    for text, part in figures.items():
        _tell(text, part, len(runs))
    folder = output_dir()
    write_breakdowns(folder, found)
    if settings.plot:
        from korlm.evaluation.output.plots import draw_breakdown

        for text, rows in found.items():
            draw_breakdown(folder / f"breakdown_{text}.png", text, rows, figures[text])
    write_figures(folder / "metrics.json", figures)
    logger.info("%s: %s", folder, ", ".join(sorted(p.name for p in folder.glob("*.[jtp][sn]*"))))


def _ways(settings: EvaluateSettings, runs: Runs) -> EvaluationModes:
    """What is tried besides carrying the state over and resetting it."""
    from korlm.evaluation.evaluate import EvaluationModes
    from korlm.evaluation.modes import ROWS
    from korlm.runs.device import inference_device
    from korlm.runs.trained_run import check_same_vocab, load_run

    others: Runs = {}
    folders = [*([settings.ngram] if settings.ngram else []), *settings.mix]
    places = [run_directory(Path(folder)).resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"mix={folder}: is named twice; leave one out")
        other = load_run(Path(folder))
        for run in runs.values():
            check_same_vocab(f"run={run.folder}", run.vocab, f"run {folder}", other.vocab)
        name = "ngram" if folder == settings.ngram else place.name
        name = folder if name in {*others, *ROWS, *runs} else name
        others[name] = other
    adapt = len(runs) == 1 if settings.adapt is None else settings.adapt
    cache = settings.cache if adapt else CacheConfig(sizes=[])
    dynamic = settings.dynamic if adapt else DynamicConfig(learning_rates=[])
    return EvaluationModes(others, cache, dynamic, inference_device(settings))


def _materials(
    settings: EvaluateSettings, runs: Runs, ways: EvaluationModes
) -> dict[str, EvaluationInputs]:
    """What each run is judged on; runs that were trained on the same text share it."""
    from korlm.dataset.statistics.tokenization_report import summary
    from korlm.evaluation.evaluate import EvaluationInputs, check_same_text
    from korlm.evaluation.texts import read_texts

    if settings.corpus is None:
        own = _own(settings, runs)
        found = {name: own[run.fingerprint] for name, run in runs.items()}
        check_same_text(found)
        if settings.test and not any("test" in material.texts for material in found.values()):
            logger.info("there is no test split: what is chosen on valid is reported on valid")
        return found
    own = _own(settings, runs, tuning=True) if ways.needs_tuning else {}
    texts = read_texts(settings.corpus, list(runs.values()))
    told = {
        run.settings.tokenizer.name: text for run, text in zip(runs.values(), texts, strict=True)
    }
    for name, text in told.items():
        logger.info("%s: lines: %s", name, summary(text.status))
    return {
        name: EvaluationInputs(
            {settings.corpus.name: text}, own.get(run.fingerprint, EvaluationInputs({})).tuning
        )
        for (name, run), text in zip(runs.items(), texts, strict=True)
    }


def _own(
    settings: EvaluateSettings, runs: Runs, tuning: bool = False
) -> dict[str, EvaluationInputs]:
    """What runs were trained with, by its fingerprint; for tuning alone it may be gone."""
    from korlm.evaluation.evaluate import own_material
    from korlm.runs.trained_run import open_text

    given = Path(settings.prepared) if settings.prepared else None
    found: dict[str, EvaluationInputs] = {}
    for run in runs.values():
        if tuning and not (given or run.prepared.is_dir()):
            logger.warning(
                "%s is gone, on whose valid part numbers are chosen: %s goes without cache and "
                "dynamic evaluation, mixtures are of equal shares; prepared=DIR says where it lies",
                *(run.prepared, run.folder),
            )
        elif run.fingerprint not in found:
            prepared = open_text(run, given)
            found[run.fingerprint] = own_material(run, prepared, settings.test and not tuning)
    return found


def _evaluate(runs: Runs, materials: dict[str, EvaluationInputs], ways: EvaluationModes) -> Found:
    """All rows: of one run the ways to use it, of several the run itself and its other ways.

    An n-gram model is the same, carried or reset: it does not look beyond a sentence.
    """
    from korlm.evaluation.evaluate import evaluate_run
    from korlm.utils.memory import reset_peak_memory
    from korlm.utils.torch_backend import tf32

    found: Found = {}
    for name, run in runs.items():
        reset_peak_memory()
        with tf32(False):
            texts = evaluate_run(run, materials[name], ways)
        for text, rows in texts.items():
            if len(runs) == 1:
                return texts
            part = found.setdefault(text, {})
            for way, judged in sorted(rows.items(), key=lambda row: not row[1].as_trained):
                row = way if way in ways.others else name if judged.as_trained else f"{name} {way}"
                if row not in part and (row == name or not judged.same_as(part[name])):
                    part[row] = judged
    return found


def _tell(text: str, rows: dict[str, Figures], num_runs: int) -> None:
    """The tables of one text."""
    from korlm.evaluation.output.tables import (
        bands_table,
        comparison_table,
        interval_note,
        paired_test_table,
        runs_table,
    )

    first = next(iter(rows.values()))
    size = f"{text}, {first['num_chars']:,} characters"
    if num_runs == 1:
        head = f"{size}, {first['num_tokens']:,} tokens, each way with what is best on valid"
        logger.info("%s:\n%s", head, comparison_table(rows))
    else:
        logger.info("%s:\n%s", size, runs_table(rows))
    logger.info("%s", interval_note(first))
    if len(rows) > 1:
        logger.info("%s", paired_test_table(rows))
    if num_runs == 1:
        logger.info("%s", bands_table(first))


if __name__ == "__main__":
    main()
