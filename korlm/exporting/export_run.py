"""Writes the folder that a trained model is given away in, and checks what it has written.

config.json vocab.tsv                  settings, checksums, words (``korlm.runs.safetensors``)
model.safetensors spelling.safetensors all weights, so that korlm.load opens the folder as a run
begin.npz                              the state before anything was read, name -> (1, ...)
step.onnx step.int8.onnx               one step (``korlm.exporting.onnx_step``)
recomposition.*                        as the run has it
export.json                            what was measured
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from korlm.config import ExportFormat, Mode
from korlm.config.serialization import plain_settings
from korlm.dataset.batches import Ids
from korlm.models.neural import NeuralLM
from korlm.runs.safetensors import MODEL, save_config, save_weights
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import ExportError, output_errors, require_extra
from korlm.utils.io.atomic_files import write_figures

Figures = dict[str, Any]


LIMIT = 1e-4  # of the difference between log-probabilities of PyTorch and of float32 ONNX


CHECKED = (64, 3)  # steps, rows


# Columns in which perplexity is measured, at most, and their length at least: each begins in the
# midst of the text with nothing read.
ROWS, COLUMN = 16, 200


INT8 = "step.int8.onnx"


def export_run(
    run: TrainedRun,
    folder: Path,
    formats: Sequence[ExportFormat] = tuple(ExportFormat),
    ids: Ids | None = None,
    threads: int | None = 1,
) -> Figures:
    """Writes a new folder, whole or not at all.

    Args:
        run: an opened run, ``korlm.load(DIR)``.
        folder: that is not there yet.
        formats: what to write.
        ids: (N,) of a text to measure perplexity on; None: none is measured, and the check reads
            random ids.
        threads: of onnxruntime; None: its own choice.

    Returns:
        What export.json holds: ``num_tokens`` of the text and ``models``, for each of ``PyTorch``,
        ``step.onnx`` and ``step.int8.onnx`` the figures ``size_mb`` (10^6 bytes), ``step_ms`` (of a
        step with one row), ``max_abs_diff`` (of log-probabilities, from PyTorch's) and
        ``perplexity``.

    Raises:
        ExportError: the model cannot be exported so, or its export predicts otherwise.
        MissingPackageError: safetensors, onnx or onnxruntime is not installed.
        OutputError: the folder cannot be written.
    """
    if ExportFormat.onnx in formats and not isinstance(run.model, NeuralLM):
        raise ExportError(
            f"{run.folder}: model={run.settings.model.name} is counted and has no ONNX step: give "
            "'formats=[safetensors]', or train with model.write_arpa=true for an ARPA file"
        )
    if folder.exists():
        raise ExportError(f"{folder}: is there already; give another output=FOLDER")
    building = folder.with_name(f".{folder.name}.{os.getpid()}.building")
    figures: Figures = {"num_tokens": 0 if ids is None else len(ids), "models": {}}
    with output_errors(folder, "output=FOLDER"):
        try:
            building.mkdir(parents=True)
            checkpoint = _checkpoint_of(run)
            if ExportFormat.safetensors in formats:
                save_weights(building, checkpoint)
                figures["models"]["PyTorch"] = {"size_mb": _megabytes(building / MODEL)}
            if ExportFormat.onnx in formats:
                has_int8 = ExportFormat.int8 in formats
                _export_steps(run, building, has_int8, ids, threads, figures["models"])
            for path in sorted(run.folder.glob("recomposition.*")):
                shutil.copyfile(path, building / path.name)
            save_config(building, checkpoint, run.start_id)
            write_figures(building / "export.json", figures)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return figures


def _checkpoint_of(run: TrainedRun) -> dict[str, Any]:
    """The parts of best.pt that it takes to use a model."""
    spelling = run.spelling.arrays().items()
    return {
        "config": plain_settings(run.settings),
        "fingerprint": run.fingerprint,
        "prepared": str(run.prepared),
        "vocab": {"tokens": run.vocab.tokens, "counts": run.vocab.counts},
        "spelling": {name: torch.from_numpy(part.astype("int64")) for name, part in spelling},
        "model": run.model.state_dict(),
    }


def _export_steps(
    run: TrainedRun,
    folder: Path,
    has_int8: bool,
    ids: Ids | None,
    threads: int | None,
    models: dict[str, Figures],
) -> None:
    """Writes begin.npz and the steps, and adds what each is worth to ``models``."""
    with require_extra("onnx", "onnxruntime"):
        from korlm.exporting import verify
        from korlm.exporting.int8 import Int8Graph
        from korlm.exporting.onnx_graph import Graph
        from korlm.exporting.onnx_step import begin_state, build_step
    assert isinstance(run.model, NeuralLM)
    begin = begin_state(run.model)
    np.savez(folder / "begin.npz", **begin)  # type: ignore[arg-type]  # names are no options
    by_sentence = run.settings.batches.mode is Mode.sentence

    def columns(text: Ids, rows: int) -> verify.Columns:
        return verify.Columns.of(text, rows, run.start_id, by_sentence)

    read = _random_ids(len(run.vocab)) if ids is None else ids
    sample = columns(read[: CHECKED[0] * CHECKED[1]], CHECKED[1]).inputs
    exact = verify.TorchStep(run.model.inference_copy())
    steps: dict[str, verify.Step] = {"PyTorch": exact}
    for name, graph in {"step.onnx": Graph(), **({INT8: Int8Graph()} if has_int8 else {})}.items():
        (folder / name).write_bytes(build_step(run.model, graph, run.start_id))
        step = verify.OnnxStep(folder / name, begin, threads)
        difference = verify.largest_difference(exact, step, sample)
        if name != INT8 and not difference <= LIMIT:
            raise ExportError(
                f"{run.folder}: log-probabilities of onnxruntime differ by {difference:.2g} from "
                f"those of PyTorch, {LIMIT:g} is allowed; 'formats=[safetensors]' exports the "
                "weights alone"
            )
        models[name] = {"size_mb": _megabytes(folder / name), "max_abs_diff": difference}
        steps[name] = step
        if ids is not None:
            text = columns(ids, min(ROWS, max(1, len(ids) // COLUMN)))
            models[name]["perplexity"] = verify.perplexity(step, text, name)
    for name, timed in steps.items():
        models.setdefault(name, {})["step_ms"] = verify.milliseconds(timed, sample[:, 0])


def _random_ids(vocab_size: int) -> Ids:
    """For a run whose text is gone."""
    random = np.random.default_rng(0)
    return random.integers(1, vocab_size, CHECKED[0] * CHECKED[1], dtype=np.uint32)


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6


def export_table(figures: Figures) -> str:
    """What was measured as text, a row for each way to run the model."""
    columns = {"size_mb": ".1f", "step_ms": ".3f", "max_abs_diff": ".1e", "perplexity": ".2f"}
    lines = [f"{'':16}" + "".join(f"{name:>14}" for name in columns)]
    for name, row in figures["models"].items():
        cells = (format(row[key], kind) if key in row else "-" for key, kind in columns.items())
        lines.append(f"{name:16}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)
