"""Write an export folder in the formats of ``ExportFormat``; the README lists the files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from korlm.config import UNKNOWN_LICENSE, ExportFormat, RecurrentConfig
from korlm.config.serialization import plain_settings
from korlm.dataset.storage.id_stream import Ids
from korlm.exporting.model_card import CARD, model_card, trained_metrics
from korlm.models.neural import NeuralLM
from korlm.runs.safetensors import MODEL, save_config, save_weights
from korlm.runs.trained_run import Run, TrainedRun
from korlm.tasks.classification import Classifier
from korlm.tasks.seq2seq.model import Seq2Seq
from korlm.tasks.tagger import Tagger
from korlm.utils.errors import ExportError, output_errors, require_extra
from korlm.utils.io.atomic_files import atomic_folder, write_json
from korlm.utils.io.tables import text_table

Measurements = dict[str, Any]

# Formats of neural models, without those for a single other program.
COMMON = (ExportFormat.safetensors, ExportFormat.onnx, ExportFormat.int8)
TASK_MODELS = (Classifier, Tagger, Seq2Seq)  # those that ONNX can express


def formats_of(run: Run) -> list[ExportFormat]:
    """Return the formats that a run is exported in by default: all that it has, but sherpa."""
    if isinstance(run.model, NeuralLM):
        return list(COMMON)
    # ONNX's recurrent operators, which encoders use, have no layer normalization.
    model = run.settings.model
    has_norm = isinstance(model, RecurrentConfig) and model.layer_norm
    has_onnx = isinstance(run.model, TASK_MODELS) and not has_norm
    return list(COMMON) if has_onnx else [ExportFormat.safetensors]


def export_run(
    run: Run,
    folder: Path,
    formats: Sequence[ExportFormat] = COMMON,
    ids: Ids | None = None,
    threads: int | None = 1,
    recognizer_tokens: Path | None = None,
    license_id: str = UNKNOWN_LICENSE,
) -> Measurements:
    """Write an export folder atomically.

    Args:
        run: an open run on the CPU, ``korlm.load(DIR)``.
        folder: must not exist.
        formats: formats to write.
        ids: (N,), a text to verify ONNX and to measure perplexity on; None: no perplexity, and
            ONNX is verified on random ids.
        threads: number of threads of onnxruntime; None: its default.
        recognizer_tokens: ``tokens.txt`` of the recognizer, for sherpa; None: ids of the run.
        license_id: license of the model, for the model card.

    Returns:
        The content of export.json: ``num_tokens`` that perplexity is of, ``metrics`` of the run by
        split, and ``models``, which has for ``PyTorch`` and each ONNX file ``size_mb`` (10^6
        bytes), ``step_ms`` (of a step with one row), ``max_abs_diff`` (to PyTorch, of
        log-probabilities, in an offline file of their mean over a hypothesis) and ``perplexity``,
        as far as they apply.

    Raises:
        ExportError: the model has no such export, or the exported model predicts differently.
        MissingPackageError: onnx or onnxruntime is not installed.
        OutputError: the folder cannot be written.
    """
    has_onnx = ExportFormat.onnx in formats or ExportFormat.sherpa in formats
    if has_onnx:
        _check_onnx(run, formats)
    _check_folder(folder)
    num_tokens = len(ids) if ids is not None and isinstance(run, TrainedRun) else 0
    results: Measurements = {"num_tokens": num_tokens, "models": {}}
    with output_errors(folder, "output=FOLDER"), atomic_folder(folder) as building:
        checkpoint = _checkpoint_of(run)
        if ExportFormat.safetensors in formats:
            save_weights(building, checkpoint)
            size = (building / MODEL).stat().st_size
            results["models"]["PyTorch"] = {"size_mb": size / 1e6}
        if has_onnx:
            with require_extra("onnx", "onnxruntime"):
                from korlm.exporting.onnx_files import OnnxExport
            has_int8, models = ExportFormat.int8 in formats, results["models"]
            export = OnnxExport(run, building, has_int8, ids, threads, models)
            if not isinstance(run, TrainedRun):
                export.write_task()
            elif ExportFormat.onnx in formats:
                export.write_steps()
            if ExportFormat.sherpa in formats:
                export.write_sherpa(recognizer_tokens)
        for path in sorted(run.folder.glob("recomposition.*")):
            shutil.copyfile(path, building / path.name)
        start_id = run.start_id if isinstance(run, TrainedRun) else None
        save_config(building, checkpoint, start_id)
        results["metrics"] = trained_metrics(run.folder)
        write_json(building / "export.json", results)
        table = export_table(results)
        card = model_card(run, license_id, results["metrics"], building, table)
        (building / CARD).write_text(card, encoding="utf-8", newline="\n")
    return results


def _check_folder(folder: Path) -> None:
    """Raise ``ExportError`` if the folder of an export exists."""
    if folder.exists():
        raise ExportError(f"{folder} already exists: use another output=FOLDER")


def _check_onnx(run: Run, formats: Sequence[ExportFormat]) -> None:
    """Raise ``ExportError`` if a run cannot be exported as ONNX."""
    if not isinstance(run, TrainedRun):
        has_onnx = isinstance(run.model, TASK_MODELS)
        if not has_onnx or ExportFormat.sherpa in formats:
            raise ExportError(
                f"{run.folder}: a run of task={run.settings.task.name} has no such export (sherpa "
                f"is for language models): use 'formats=[{'onnx' if has_onnx else 'safetensors'}]'"
            )
    elif not isinstance(run.model, NeuralLM):
        raise ExportError(
            f"{run.folder}: model={run.settings.model.name} has no ONNX export: use "
            "'formats=[safetensors]', or train with model.write_arpa=true for an ARPA file"
        )


def _checkpoint_of(run: Run) -> dict[str, Any]:
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


def export_table(results: Measurements) -> str:
    """Format the measurements as a text table, a row per model, without empty columns."""
    models = results["models"]
    kinds = {"size_mb": ".1f", "step_ms": ".3f", "max_abs_diff": ".1e", "perplexity": ".2f"}
    columns = {
        key: kind for key, kind in kinds.items() if any(key in row for row in models.values())
    }
    cells = [
        [name, *(format(row[key], kind) if key in row else "-" for key, kind in columns.items())]
        for name, row in models.items()
    ]
    return text_table([["", *columns], *cells])
