"""Write an export folder and verify its ONNX models.

config.json vocab.tsv                  settings, labels, words (``korlm.runs.safetensors``)
model.safetensors spelling.safetensors all weights; ``korlm.load`` opens the folder as a run
tokenizer.model                        of a tokenizer that was trained on the training split
begin.npz                              the initial state, name -> (1, ...)
step.onnx step.int8.onnx               one step of the model (``korlm.exporting.onnx_step``)
recomposition.*                        copied from the run
export.json                            measurements
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
from korlm.dataset.storage.id_stream import Ids
from korlm.models.neural import NeuralLM
from korlm.prediction.task_run import TaskRun
from korlm.runs.safetensors import MODEL, save_config, save_weights
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import ExportError, output_errors, require_extra
from korlm.utils.io.atomic_files import write_json

Figures = dict[str, Any]

MAX_DIFFERENCE = 1e-4  # allowed between log-probabilities of PyTorch and float32 ONNX
SAMPLE_STEPS, SAMPLE_ROWS = 64, 3  # of the text that the difference is measured on

# Perplexity is measured in parallel columns of the text. There are few of them, and long ones,
# because each starts from the initial state in the middle of the text.
MAX_COLUMNS, MIN_COLUMN_LENGTH = 16, 200

INT8 = "step.int8.onnx"


def formats_of(run: TrainedRun | TaskRun) -> list[ExportFormat]:
    """Return the formats that a run can be exported in."""
    return list(ExportFormat) if isinstance(run.model, NeuralLM) else [ExportFormat.safetensors]


def export_run(
    run: TrainedRun | TaskRun,
    folder: Path,
    formats: Sequence[ExportFormat] = tuple(ExportFormat),
    ids: Ids | None = None,
    threads: int | None = 1,
) -> Figures:
    """Write an export folder atomically.

    Args:
        run: an open run on the CPU, ``korlm.load(DIR)``.
        folder: must not exist.
        formats: formats to write.
        ids: (N,), a text to measure perplexity on; None: no perplexity, and ONNX is verified on
            random ids.
        threads: of onnxruntime; None: its default.

    Returns:
        The content of export.json: ``num_tokens`` of the text and ``models``, which has for each of
        ``PyTorch``, ``step.onnx`` and ``step.int8.onnx`` the keys ``size_mb`` (10^6 bytes) and
        ``step_ms`` (of a step with one row), and for the ONNX files also ``max_abs_diff`` (of
        log-probabilities, to PyTorch) and ``perplexity``.

    Raises:
        ExportError: the model has no such export, or the exported model predicts differently.
        MissingPackageError: safetensors, onnx or onnxruntime is not installed.
        OutputError: the folder cannot be written.
    """
    if ExportFormat.onnx in formats and isinstance(run, TaskRun):
        raise ExportError(
            f"{run.folder}: a run of task={run.settings.task.name} has no ONNX export, which only "
            "language models have: use 'formats=[safetensors]'"
        )
    if ExportFormat.onnx in formats and not isinstance(run.model, NeuralLM):
        raise ExportError(
            f"{run.folder}: model={run.settings.model.name} has no ONNX export: use "
            "'formats=[safetensors]', or train with model.write_arpa=true for an ARPA file"
        )
    if folder.exists():
        raise ExportError(f"{folder} already exists: use another output=FOLDER")
    building = folder.with_name(f".{folder.name}.{os.getpid()}.building")
    figures: Figures = {"num_tokens": 0 if ids is None else len(ids), "models": {}}
    with output_errors(folder, "output=FOLDER"):
        try:
            building.mkdir(parents=True)
            checkpoint = _checkpoint_of(run)
            if ExportFormat.safetensors in formats:
                save_weights(building, checkpoint)
                figures["models"]["PyTorch"] = {"size_mb": _megabytes(building / MODEL)}
            if ExportFormat.onnx in formats and isinstance(run, TrainedRun):
                has_int8 = ExportFormat.int8 in formats
                _export_steps(run, building, has_int8, ids, threads, figures["models"])
            for path in sorted(run.folder.glob("recomposition.*")):
                shutil.copyfile(path, building / path.name)
            start_id = run.start_id if isinstance(run, TrainedRun) else None
            save_config(building, checkpoint, start_id)
            write_json(building / "export.json", figures)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return figures


def _checkpoint_of(run: TrainedRun | TaskRun) -> dict[str, Any]:
    """Return the parts of best.pt that are needed to use the model."""
    spelling, learned = run.spelling.arrays().items(), run.tokenizer_model
    return {
        "config": plain_settings(run.settings),
        "fingerprint": run.fingerprint,
        "prepared": str(run.prepared),
        "labels": list(run.labels),
        "vocab": {"tokens": run.vocab.tokens, "counts": run.vocab.counts},
        "learned": learned and torch.frombuffer(bytearray(learned), dtype=torch.uint8),
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
    """Write begin.npz and the ONNX models; add their measurements to ``models``."""
    with require_extra("onnx", "onnxruntime"):
        from korlm.exporting import verify
        from korlm.exporting.int8 import Int8Graph
        from korlm.exporting.onnx_graph import Graph
        from korlm.exporting.onnx_step import begin_state, build_step
    assert isinstance(run.model, NeuralLM)
    begin = begin_state(run.model)
    np.savez(folder / "begin.npz", **begin)  # type: ignore[arg-type]
    by_sentence = run.settings.batches.mode is Mode.sentence

    def parallel(text: Ids, rows: int) -> verify.ParallelText:
        return verify.ParallelText.of(text, rows, run.start_id, by_sentence)

    text = _random_ids(len(run.vocab)) if ids is None else ids
    sample = parallel(text[: SAMPLE_STEPS * SAMPLE_ROWS], SAMPLE_ROWS).inputs
    reference = verify.TorchStep(run.model.inference_copy())
    steps: dict[str, verify.Step] = {"PyTorch": reference}
    for name, graph in {"step.onnx": Graph(), **({INT8: Int8Graph()} if has_int8 else {})}.items():
        (folder / name).write_bytes(build_step(run.model, graph, run.start_id))
        step = verify.OnnxStep(folder / name, begin, threads)
        difference = verify.largest_difference(reference, step, sample)
        if name != INT8 and not difference <= MAX_DIFFERENCE:
            raise ExportError(
                f"{run.folder}: log-probabilities of onnxruntime differ by {difference:.2g} from "
                f"those of PyTorch (limit {MAX_DIFFERENCE:g}): use 'formats=[safetensors]' to "
                "export the weights only"
            )
        models[name] = {"size_mb": _megabytes(folder / name), "max_abs_diff": difference}
        steps[name] = step
        if ids is not None:
            rows = min(MAX_COLUMNS, max(1, len(ids) // MIN_COLUMN_LENGTH))
            models[name]["perplexity"] = verify.perplexity(step, parallel(ids, rows), name)
    for name, timed in steps.items():
        models.setdefault(name, {})["step_ms"] = verify.milliseconds(timed, sample[:, 0])


def _random_ids(vocab_size: int) -> Ids:
    """Return a sample text for a run whose corpus is not available."""
    rng = np.random.default_rng(0)
    return rng.integers(1, vocab_size, SAMPLE_STEPS * SAMPLE_ROWS, dtype=np.uint32)


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6


def export_table(figures: Figures) -> str:
    """Format the measurements as a text table, a row per model, without empty columns."""
    models = figures["models"]
    kinds = {"size_mb": ".1f", "step_ms": ".3f", "max_abs_diff": ".1e", "perplexity": ".2f"}
    columns = {
        key: kind for key, kind in kinds.items() if any(key in row for row in models.values())
    }
    lines = [f"{'':16}" + "".join(f"{name:>14}" for name in columns)]
    for name, row in models.items():
        cells = (format(row[key], kind) if key in row else "-" for key, kind in columns.items())
        lines.append(f"{name:16}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)
