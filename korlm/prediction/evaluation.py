"""Evaluate runs of a task: metrics with bootstrap intervals, and paired tests of two runs.

Examples, or blocks of consecutive ones, are resampled with replacement (see
``korlm.evaluation.bootstrap``). The test of a difference is a permutation test: under the null
hypothesis, the counts of each of them may be exchanged between the two runs (approximate
randomization, Riezler and Maxwell 2005).
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import torch

from korlm.config import BootstrapConfig, CorpusConfig, TextConfig
from korlm.dataset.fingerprint import hash_json
from korlm.dataset.prepare import TextEncoding, prepare
from korlm.dataset.prepared import Prepared
from korlm.evaluation.bootstrap import interval, resampled_sums
from korlm.runs.trained_run import Run
from korlm.tasks.base import Counts, ExampleTask, task_of
from korlm.utils.errors import ConfigError
from korlm.utils.io.tables import text_table
from korlm.utils.progress import ProgressBar
from korlm.utils.torch_backend import tf32

logger = logging.getLogger(__name__)

Result = dict[str, Any]


def evaluate_task_runs(
    runs: Mapping[str, Run],
    prepared: Mapping[str, Prepared],
    bootstrap: BootstrapConfig,
    splits: Sequence[str] = ("valid", "test"),
) -> dict[str, dict[str, Result]]:
    """Evaluate runs of the same task on the splits of their corpora.

    Args:
        runs: runs keyed by name.
        prepared: fingerprint of a run -> the corpus to evaluate it on.
        bootstrap: number of resamples, seed, and how many consecutive examples form a block.
        splits: splits to evaluate on; those that a corpus lacks are skipped.

    Returns:
        Nested dict: split -> run -> metrics, ``intervals`` (metric -> low, high) and, for each
        later run whose labels and examples of the split are those of the first run,
        ``paired_test`` (metric -> difference from the first run, p-value).

    Raises:
        ConfigError: the runs are of different tasks.
    """
    names = {run.settings.task.name for run in runs.values()}
    if len(names) > 1:
        raise ConfigError(f"run: the runs are of different tasks ({', '.join(sorted(names))})")
    results: dict[str, dict[str, Result]] = {}
    # split -> what must be equal for a paired test, and the counts, of the first run
    first: dict[str, tuple[tuple[Any, ...], Counts]] = {}
    for name, run in runs.items():
        task = build_task(run, prepared[run.fingerprint])
        text = _text_key(prepared[run.fingerprint])
        for line in task.warnings(total_steps=1):
            logger.warning("%s", line)
        for split in (split for split in splits if split in task.eval_batches):
            counts = count_examples(task, run, split)
            result: Result = task.metrics_of(counts.sum(0), split)
            counts = _sums_of_blocks(counts, bootstrap.block)
            result["intervals"] = intervals(task, counts, split, bootstrap)
            key = text, counts.shape, run.labels
            if split not in first:
                first[split] = key, counts
            elif first[split][0] == key:
                pair = first[split][1], counts
                result["paired_test"] = paired_test(task, pair, split, bootstrap)
            else:
                logger.warning(
                    "%s: %s has other examples or labels than the first run: no paired test",
                    *(split, name),
                )
            results.setdefault(split, {})[name] = result
    return results


def _sums_of_blocks(counts: Counts, size: int) -> Counts:
    """Return the sums of blocks of ``size`` consecutive examples, (N, K) -> (ceil(N / size), K)."""
    return np.add.reduceat(counts, np.arange(0, len(counts), size))


def prepare_text(
    run: Run, corpus: CorpusConfig, outputs: Path, given: Collection[str] = ()
) -> Prepared:
    """Prepare a text with a run's tokenizer and vocabulary; its test split is the whole text.

    Args:
        run: a run of a task.
        corpus: settings of the text; its splits are ignored. Settings of its format that have
            their default, and are not in ``given``, are those of the run.
        outputs: folder that contains ``prepared/`` and ``cache/``.
        given: names of settings that the user has given.

    Raises:
        KorlmError: the text cannot be read, or the tokenizer does not start.
    """
    settings = run.settings
    text = copy.copy(corpus)
    text.test = [*corpus.files, *corpus.train, *corpus.valid, *corpus.test]
    text.files, text.train, text.valid = [], [], []
    text.unicode, text.reverse = settings.corpus.unicode, settings.corpus.reverse
    for field in dataclasses.fields(TextConfig):
        is_default = getattr(corpus, field.name) == field.default
        if is_default and field.name not in given:  # lists, such as keep_columns, have none
            setattr(text, field.name, getattr(settings.corpus, field.name))
    encoding = TextEncoding(run.vocab, run.tokenizer_model)
    return prepare(text, settings.tokenizer, settings.vocab, outputs, encoding=encoding)


def _text_key(prepared: Prepared) -> str:
    """Return a key of the files and their splits; equal keys mean equal examples."""
    text = prepared.manifest["text"]
    return hash_json([text["files"], text.get("shares"), text["columns"]])


def build_task(run: Run, prepared: Prepared) -> ExampleTask[Any]:
    """Return the task of a run on its corpus."""
    task = task_of(run.settings)(run.settings, prepared, run.folder, run.device, labels=run.labels)
    assert isinstance(task, ExampleTask)
    return task


@torch.inference_mode()
def count_examples(task: ExampleTask[Any], run: Run, split: str) -> Counts:
    """Return the K counts of each of the N examples of a split, float64 (N, K)."""
    result = np.zeros((task.num_examples(split), task.num_counts))
    with (
        tf32(False),
        ProgressBar(total=len(task.eval_batches[split]), desc=split, leave=False) as bar,
    ):

        def on_batch() -> None:
            bar.update()

        for rows, counts in task.example_counts(run.model, split, on_batch):
            result[rows] = counts
    return result


def intervals(
    task: ExampleTask[Any], counts: Counts, split: str, bootstrap: BootstrapConfig
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval (low, high) of each metric that the task compares.

    ``counts``, (N, K), are those of the examples or blocks of examples, which are resampled.
    """
    sums = resampled_sums(counts.T, bootstrap.samples, bootstrap.seed).T
    resampled = [task.metrics_of(row, split) for row in sums]
    return {
        metric: interval(np.array([row[metric] for row in resampled]), len(counts))
        for metric in task.compared
    }


def paired_test(
    task: ExampleTask[Any], pair: tuple[Counts, Counts], split: str, bootstrap: BootstrapConfig
) -> dict[str, dict[str, float]]:
    """Return the difference of two runs in each metric, with its two-sided p-value.

    ``pair`` has the counts of both runs on the same examples, or blocks of them, (N, K) each.

    Returns:
        Metric -> ``difference`` (second - first) and ``p``, which is never 0; NaN if the difference
        is not finite.
    """
    compared = task.compared

    def difference(first_sums: Counts, second_sums: Counts) -> dict[str, float]:
        metrics = [task.metrics_of(sums, split) for sums in (first_sums, second_sums)]
        return {key: metrics[1][key] - metrics[0][key] for key in compared}

    first, second = pair
    changes, first_sums, second_sums = second - first, first.sum(0), second.sum(0)
    observed = difference(first_sums, second_sums)
    # Number of permutations, including the observed one, that are at least as extreme.
    num_extreme = dict.fromkeys(compared, 1)
    generator = np.random.default_rng(bootstrap.seed)
    for _ in range(bootstrap.samples):
        exchanged = generator.integers(2, size=len(first)) @ changes
        permuted = difference(first_sums + exchanged, second_sums - exchanged)
        for key in compared:
            # The tolerance allows for rounding errors, since sums are in another order.
            num_extreme[key] += abs(permuted[key]) >= abs(observed[key]) - 1e-9
    return {
        key: {
            "difference": observed[key],
            # An infinite metric has no test.
            "p": num_extreme[key] / (bootstrap.samples + 1) if isfinite(observed[key]) else nan,
        }
        for key in compared
    }


def table_of(rows: Mapping[str, Result]) -> str:
    """Format the results of a split as a table with a row per run and metric."""
    cells = [["", "metric", "value", "95 % interval", "against the first", "p"]]
    for name, result in rows.items():
        for metric, (low, high) in result["intervals"].items():
            test = result.get("paired_test", {}).get(metric)
            cells.append(
                [
                    *(name, metric, f"{result[metric]:.4f}", f"{low:.4f} to {high:.4f}"),
                    "" if test is None else f"{test['difference']:+.4f}",
                    "" if test is None else f"{test['p']:.4f}",
                ]
            )
    return text_table(cells, left=(0, 1))
