"""Write an export folder and verify its ONNX models.

config.json vocab.tsv                  settings, labels, words (``korlm.runs.safetensors``)
model.safetensors spelling.safetensors all weights; ``korlm.load`` opens the folder as a run
tokenizer.model tokenizer.json         of a tokenizer that was trained or given
begin.npz                              the initial state, name -> (1, ...)
step.onnx step.int8.onnx               one step of the model (``korlm.exporting.onnx_step``)
sherpa-offline.onnx sherpa-streaming.onnx  for sherpa-onnx (``korlm.exporting.sherpa``)
sherpa-*.int8.onnx sherpa-tokens.txt
recomposition.*                        copied from the run
export.json                            measurements
README.md                              model card (``korlm.exporting.model_card``)
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from korlm.config import UNKNOWN_LICENSE, ExportFormat, Mode
from korlm.config.serialization import plain_settings
from korlm.dataset.batches import sentences_of
from korlm.dataset.storage.id_stream import Ids
from korlm.dataset.vocab import EOS_ID
from korlm.evaluation.metrics import exp
from korlm.evaluation.token_scores import Floats, Ints, score_tokens
from korlm.exporting.model_card import CARD, model_card, trained_metrics
from korlm.models.neural import NeuralLM
from korlm.prediction.task_run import TaskRun
from korlm.runs.safetensors import MODEL, save_config, save_weights
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import ExportError, output_errors, require_extra
from korlm.utils.io.atomic_files import write_json

if TYPE_CHECKING:
    from korlm.exporting import verify
    from korlm.exporting.onnx_graph import Graph

logger = logging.getLogger(__name__)

Figures = dict[str, Any]

MAX_DIFFERENCE = 1e-4  # allowed between log-probabilities of PyTorch and float32 ONNX
SAMPLE_STEPS, SAMPLE_ROWS = 64, 3  # of the text that the difference is measured on

# Perplexity is measured in parallel columns of the text. There are few of them, and long ones,
# because each starts from the initial state in the middle of the text.
MAX_COLUMNS, MIN_COLUMN_LENGTH = 16, 200

INT8 = ".int8"  # before .onnx in the name of a quantized model

# Formats of a language model, without those for a single other program.
COMMON = (ExportFormat.safetensors, ExportFormat.onnx, ExportFormat.int8)


def formats_of(run: TrainedRun | TaskRun) -> list[ExportFormat]:
    """Return the formats that a run is exported in by default."""
    return list(COMMON) if isinstance(run.model, NeuralLM) else [ExportFormat.safetensors]


def export_run(
    run: TrainedRun | TaskRun,
    folder: Path,
    formats: Sequence[ExportFormat] = COMMON,
    ids: Ids | None = None,
    threads: int | None = 1,
    recognizer_tokens: Path | None = None,
    license_id: str = UNKNOWN_LICENSE,
) -> Figures:
    """Write an export folder atomically.

    Args:
        run: an open run on the CPU, ``korlm.load(DIR)``.
        folder: must not exist.
        formats: formats to write.
        ids: (N,), a text to measure perplexity on; None: no perplexity, and ONNX is verified on
            random ids.
        threads: of onnxruntime; None: its default.
        recognizer_tokens: ``tokens.txt`` of the recognizer, for sherpa; None: ids of the run.
        license_id: of the model, for the model card.

    Returns:
        The content of export.json: ``num_tokens`` of the text, ``metrics`` of the run by split, and
        ``models``, which has for
        ``PyTorch`` and each ONNX file the keys ``size_mb`` (10^6 bytes) and, of those that advance
        by a token, ``step_ms`` (of a step with one row); for the ONNX files also ``max_abs_diff``
        (to PyTorch, of log-probabilities, in an offline file of their mean over a hypothesis) and
        ``perplexity``, unless the ids are a recognizer's.

    Raises:
        ExportError: the model has no such export, or the exported model predicts differently.
        MissingPackageError: safetensors, onnx or onnxruntime is not installed.
        OutputError: the folder cannot be written.
    """
    has_onnx = ExportFormat.onnx in formats or ExportFormat.sherpa in formats
    if has_onnx and isinstance(run, TaskRun):
        raise ExportError(
            f"{run.folder}: a run of task={run.settings.task.name} has no ONNX export, which only "
            "language models have: use 'formats=[safetensors]'"
        )
    if has_onnx and not isinstance(run.model, NeuralLM):
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
            if isinstance(run, TrainedRun):
                has_int8, models = ExportFormat.int8 in formats, figures["models"]
                if ExportFormat.onnx in formats:
                    _export_steps(run, building, has_int8, ids, threads, models)
                if ExportFormat.sherpa in formats:
                    tokens = recognizer_tokens
                    _export_sherpa(run, building, has_int8, ids, threads, tokens, models)
            for path in sorted(run.folder.glob("recomposition.*")):
                shutil.copyfile(path, building / path.name)
            start_id = run.start_id if isinstance(run, TrainedRun) else None
            save_config(building, checkpoint, start_id)
            figures["metrics"] = trained_metrics(run.folder)
            write_json(building / "export.json", figures)
            names, table = {path.name for path in building.iterdir()}, export_table(figures)
            card = model_card(run, license_id, figures["metrics"], names, table)
            (building / CARD).write_text(card, encoding="utf-8", newline="\n")
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
        from korlm.exporting.onnx_step import begin_state, build_step
    assert isinstance(run.model, NeuralLM)
    begin = begin_state(run.model)
    np.savez(folder / "begin.npz", **begin)  # type: ignore[arg-type]
    sample = _parallel(run, _sample_ids(run, ids), SAMPLE_ROWS).inputs
    reference = verify.TorchStep(run.model.inference_copy())
    steps: dict[str, verify.Step] = {"PyTorch": reference}
    for suffix, graph in _graphs(has_int8).items():
        name = f"step{suffix}.onnx"
        (folder / name).write_bytes(build_step(run.model, graph, run.start_id))
        steps[name] = step = verify.OnnxStep(folder / name, begin, threads)
        difference = verify.largest_difference(reference, step, sample)
        models[name] = _verified(run, folder / name, difference)
        if ids is not None:
            models[name]["perplexity"] = _perplexity(run, step, ids, name)
    for name, timed in steps.items():
        models.setdefault(name, {})["step_ms"] = verify.milliseconds(timed, sample[:, 0])


def _export_sherpa(
    run: TrainedRun,
    folder: Path,
    has_int8: bool,
    ids: Ids | None,
    threads: int | None,
    recognizer_tokens: Path | None,
    models: dict[str, Figures],
) -> None:
    """Write the ONNX models of sherpa-onnx; add their measurements to ``models``."""
    with require_extra("onnx", "onnxruntime"):
        from korlm.exporting import sherpa, verify
    assert isinstance(run.model, NeuralLM)
    if recognizer_tokens is None:
        table, text = sherpa.own_tokens(run.vocab, run.start_id), _sample_ids(run, ids)
        sample = _parallel(run, text, SAMPLE_ROWS).inputs
    else:
        table, unknown = sherpa.read_tokens(recognizer_tokens, run.vocab, run.start_id)
        if unknown:
            logger.warning(
                "%s: %s of %s tokens are not in the vocabulary of the run and are scored as <unk>: "
                "%s",
                recognizer_tokens,
                f"{len(unknown):,}",
                f"{len(table.tokens):,}",
                " ".join(unknown[:10]) + " ..." * (len(unknown) > 10),
            )
        ids = None
        text = _random_ids(len(table.tokens))
        sample = text.astype(np.int64).reshape(SAMPLE_STEPS, SAMPLE_ROWS)
    table.save(folder / "sherpa-tokens.txt")
    model = run.model.inference_copy()
    reference = verify.TranslatedStep(verify.TorchStep(model), table.ids)
    hypotheses = [sentence[:-1].astype(np.int64) for sentence in sentences_of(text)]
    nats = _nats_of(run, model, [table.ids[one] for one in hypotheses])
    for suffix, graph in _graphs(has_int8).items():
        name = f"sherpa-streaming{suffix}.onnx"
        (folder / name).write_bytes(sherpa.build_streaming(run.model, graph, table))
        step = verify.StreamingStep(folder / name, threads)
        difference = verify.largest_difference(reference, step, sample)
        models[name] = _verified(run, folder / name, difference)
        if ids is not None:
            models[name]["perplexity"] = _perplexity(run, step, ids, name)
        models[name]["step_ms"] = verify.milliseconds(step, sample[:, 0])
    for suffix, graph in _graphs(has_int8).items():
        name = f"sherpa-offline{suffix}.onnx"
        (folder / name).write_bytes(sherpa.build_offline(run.model, graph, table))
        found = verify.hypothesis_nats(folder / name, hypotheses, threads)
        lengths = np.array([len(one) + 1 for one in hypotheses])
        difference = float((np.abs(found - nats) / lengths).max())
        models[name] = _verified(run, folder / name, difference)
        if ids is not None:
            sentences = [sentence[:-1].astype(np.int64) for sentence in sentences_of(ids)]
            total = verify.hypothesis_nats(folder / name, sentences, threads).sum()
            models[name]["perplexity"] = exp(float(total) / len(ids))


def _graphs(has_int8: bool) -> dict[str, Graph]:
    """Return an empty graph of each kind by what its file name adds."""
    from korlm.exporting.int8 import Int8Graph
    from korlm.exporting.onnx_graph import Graph

    return {"": Graph(), **({INT8: Int8Graph()} if has_int8 else {})}


def _verified(run: TrainedRun, path: Path, difference: float) -> Figures:
    """Return size and difference to PyTorch of an ONNX model.

    Raises:
        ExportError: the difference is too large for a model that is not quantized.
    """
    if INT8 not in path.suffixes and not difference <= MAX_DIFFERENCE:
        raise ExportError(
            f"{run.folder}: log-probabilities of onnxruntime differ by {difference:.2g} from "
            f"those of PyTorch (limit {MAX_DIFFERENCE:g}): use 'formats=[safetensors]' to "
            "export the weights only"
        )
    return {"size_mb": _megabytes(path), "max_abs_diff": difference}


def _parallel(run: TrainedRun, ids: Ids, rows: int) -> verify.ParallelText:
    """Cut a text into rows as the run was trained."""
    from korlm.exporting import verify

    by_sentence = run.settings.batches.mode is Mode.sentence
    return verify.ParallelText.of(ids, rows, run.start_id, by_sentence)


def _perplexity(run: TrainedRun, step: verify.Step, ids: Ids, name: str) -> float:
    """Return the perplexity of a text."""
    from korlm.exporting import verify

    rows = min(MAX_COLUMNS, max(1, len(ids) // MIN_COLUMN_LENGTH))
    return verify.perplexity(step, _parallel(run, ids, rows), name)


def _nats_of(run: TrainedRun, model: NeuralLM, hypotheses: Sequence[Ints]) -> Floats:
    """Return -ln p of each hypothesis with its end by PyTorch."""
    ids = np.concatenate([np.append(one, EOS_ID) for one in hypotheses])
    lengths = np.array([len(one) + 1 for one in hypotheses])
    nats = score_tokens(model, ids, lengths, run.start_id).nats
    return np.add.reduceat(nats, np.cumsum(lengths) - lengths)


def _sample_ids(run: TrainedRun, ids: Ids | None) -> Ids:
    """Return a short text to verify on: the start of a text, or random ids without one."""
    return _random_ids(len(run.vocab)) if ids is None else ids[: SAMPLE_STEPS * SAMPLE_ROWS]


def _random_ids(vocab_size: int) -> Ids:
    """Return a text of random ids."""
    rng = np.random.default_rng(0)
    return rng.integers(
        min(1, vocab_size - 1), vocab_size, SAMPLE_STEPS * SAMPLE_ROWS, dtype=np.uint32
    )


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6


def export_table(figures: Figures) -> str:
    """Format the measurements as a text table, a row per model, without empty columns."""
    models = figures["models"]
    kinds = {"size_mb": ".1f", "step_ms": ".3f", "max_abs_diff": ".1e", "perplexity": ".2f"}
    columns = {
        key: kind for key, kind in kinds.items() if any(key in row for row in models.values())
    }
    width = max([16, *(len(name) + 1 for name in models)])
    lines = [" " * width + "".join(f"{name:>14}" for name in columns)]
    for name, row in models.items():
        cells = (format(row[key], kind) if key in row else "-" for key, kind in columns.items())
        lines.append(f"{name:{width}}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)
