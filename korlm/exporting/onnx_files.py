"""Write the ONNX files of an export, verify them against PyTorch, and measure them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from korlm.config import Mode, Seq2SeqConfig
from korlm.dataset.batches import sentences_of
from korlm.dataset.example_batches import pad
from korlm.dataset.storage.id_stream import Ids
from korlm.dataset.vocab import BOS_ID, EOS_ID
from korlm.evaluation.metrics import exp
from korlm.evaluation.token_scores import Ints, score_tokens, segment_sums
from korlm.exporting import sherpa, verify
from korlm.exporting.onnx_classifier import build_classifier, onnx_log_probs
from korlm.exporting.onnx_graph import Graph, Int8Graph
from korlm.exporting.onnx_seq2seq import build_decoder, build_encoder, onnx_decoder
from korlm.exporting.onnx_step import begin_state, build_step
from korlm.exporting.onnx_tagger import build_tagger, onnx_scores
from korlm.models.neural import NeuralLM
from korlm.modules.padding import valid_mask
from korlm.runs.trained_run import Run, TrainedRun
from korlm.tasks.classification import Classifier
from korlm.tasks.morpheme_tags import NUM_TAGS
from korlm.tasks.seq2seq.model import Seq2Seq
from korlm.tasks.tagger import Tagger
from korlm.utils.errors import ExportError

MAX_DIFFERENCE = 1e-4  # allowed between log-probabilities of PyTorch and float32 ONNX
SAMPLE_STEPS, SAMPLE_ROWS = 64, 3  # of the text that the difference is measured on
SAMPLE_TEXTS = 17  # that a task is verified on; random ones have 1 to 17 tokens

# Perplexity is measured in parallel columns of the text. There are few of them, and long ones,
# because each starts from the initial state in the middle of the text.
MAX_COLUMNS, MIN_COLUMN_LENGTH = 16, 200

INT8 = ".int8"  # before .onnx in the name of a quantized model

Measurements = dict[str, Any]


@dataclass(frozen=True)
class OnnxExport:
    """The ONNX files of a run, and their measurements.

    The methods raise ``ExportError`` if a model cannot be exported or predicts differently.

    Attributes:
        run: a run of a ``NeuralLM``, ``Classifier``, ``Tagger`` or ``Seq2Seq`` on the CPU.
        folder: folder of the files.
        has_int8: also write quantized models.
        ids: (N,), a text to verify models and to measure perplexity on; None: no perplexity, and
            models are verified on random ids.
        threads: number of threads of onnxruntime; None: its default.
        models: name of a file -> its measurements, which the methods add.
    """

    run: Run
    folder: Path
    has_int8: bool
    ids: Ids | None
    threads: int | None
    models: dict[str, Measurements]

    @property
    def lm_run(self) -> TrainedRun:
        """The run, of a language model."""
        assert isinstance(self.run, TrainedRun)
        return self.run

    @property
    def model(self) -> NeuralLM:
        """The language model of the run."""
        assert isinstance(self.run.model, NeuralLM)
        return self.run.model

    def write_steps(self) -> None:
        """Write begin.npz and the models of a single step; also time PyTorch."""
        begin = begin_state(self.model)
        np.savez(self.folder / "begin.npz", **begin)  # type: ignore[arg-type]
        sample = self._parallel(self._sample_ids(), SAMPLE_ROWS).inputs
        reference = verify.torch_step(self.model.inference_copy())
        for path, graph in self._graphs("step"):
            path.write_bytes(build_step(self.model, graph, self.lm_run.start_id))
            step = verify.onnx_step(path, begin, self.threads)
            self._measure(path, step, reference, sample, self.ids)
        torch_figures = self.models.setdefault("PyTorch", {})
        torch_figures["step_ms"] = verify.milliseconds(reference, sample[:, 0])

    def write_sherpa(self, recognizer_tokens: Path | None) -> None:
        """Write the models for sherpa-onnx and their tokens.

        ``recognizer_tokens`` is the ``tokens.txt`` of the recognizer; None: the ids of the run.
        Models for other ids have no perplexity and are verified on random ids.
        """
        run = self.lm_run
        if recognizer_tokens is None:
            table, text = sherpa.tokens_of_run(run.vocab, run.start_id), self._sample_ids()
            sample, measured = self._parallel(text, SAMPLE_ROWS).inputs, self.ids
        else:
            table, measured = sherpa.read_tokens(recognizer_tokens, run.vocab, run.start_id), None
            text = _random_ids(len(table.tokens))
            sample = text.astype(np.int64).reshape(SAMPLE_STEPS, SAMPLE_ROWS)
        table.save(self.folder / "sherpa-tokens.txt")
        model = self.model.inference_copy()
        reference = verify.translated(verify.torch_step(model), table.ids)
        for path, graph in self._graphs("sherpa-streaming"):
            path.write_bytes(sherpa.build_streaming(self.model, graph, table))
            step = verify.streaming_step(path, self.threads)
            self._measure(path, step, reference, sample, measured)
        hypotheses = _hypotheses(text)
        lengths = np.array([len(hypothesis) + 1 for hypothesis in hypotheses])
        targets = np.concatenate([[*table.ids[part], EOS_ID] for part in hypotheses])
        nats = segment_sums(score_tokens(model, targets, lengths, run.start_id).nats, lengths)
        for path, graph in self._graphs("sherpa-offline"):
            path.write_bytes(sherpa.build_offline(self.model, graph, table))
            onnx_nats = verify.hypothesis_nats(path, hypotheses, self.threads)
            difference = float((np.abs(onnx_nats - nats) / lengths).max())
            measurements = self._add_measurements(path, difference)
            if measured is not None:
                scored = _hypotheses(measured)
                total = verify.hypothesis_nats(path, scored, self.threads).sum()
                num_tokens = sum(len(hypothesis) + 1 for hypothesis in scored)
                measurements["perplexity"] = exp(float(total) / num_tokens)

    @torch.inference_mode()
    def write_task(self) -> None:
        """Write the models of a run of a task, and verify them."""
        model, texts = self.run.model, self._sample_texts()
        if isinstance(model, Classifier):
            self._write_classifier(model, texts)
        elif isinstance(model, Tagger):
            self._write_tagger(model, texts)
        else:
            assert isinstance(model, Seq2Seq)
            self._write_seq2seq(model, texts)

    def _write_classifier(self, model: Classifier, texts: Sequence[Ids]) -> None:
        logits = model(*pad(texts)) / model.temperature
        expected = logits.log_softmax(-1).numpy()
        for path, graph in self._graphs("classifier"):
            path.write_bytes(build_classifier(model, graph, self.run.labels))
            log_probs = onnx_log_probs(path, texts, self.threads)
            # A temperature below 1 magnifies the rounding errors of the network's outputs.
            scale = min(1.0, float(model.temperature))
            self._add_measurements(path, scale * float(np.abs(log_probs - expected).max()))

    def _write_tagger(self, model: Tagger, texts: Sequence[Ids]) -> None:
        """Write the models of a tagger; units are some of the tokens, tags random."""
        random = np.random.default_rng(0)
        inputs, lengths = pad(texts)
        is_unit = torch.from_numpy(random.random(inputs.shape) < 0.7)
        is_unit &= valid_mask(inputs, lengths - 1)  # <eos> is none
        is_unit[:, 0] = True
        units = [np.flatnonzero(row) for row in is_unit.numpy()]
        if model.tags is not None:
            tags = random.integers(NUM_TAGS, size=int(lengths.sum()))
            parts = np.split(tags, np.cumsum(lengths.numpy())[:-1])
            texts = [np.column_stack(pair) for pair in zip(texts, parts, strict=True)]
            inputs, lengths = pad(texts)
        scores, counts = model(inputs, lengths, is_unit)
        expected, valid = scores.log_softmax(-1), valid_mask(scores, counts)
        for path, graph in self._graphs("tagger"):
            path.write_bytes(build_tagger(model, graph, self.run.labels))
            actual = torch.from_numpy(onnx_scores(path, texts, units, self.threads))
            differences = (actual.log_softmax(-1) - expected).abs()[valid]
            self._add_measurements(path, float(differences.max()))

    def _write_seq2seq(self, model: Seq2Seq, texts: Sequence[Ids]) -> None:
        """Write the encoders and decoders, which are compared over the texts of greedy search."""
        model, config = model.inference_copy(), self.run.settings.task
        assert isinstance(config, Seq2SeqConfig)
        inputs, lengths = pad(texts)
        graphs = zip(self._graphs("encoder"), self._graphs("decoder"), strict=True)
        for (encoder_path, encoder_graph), (path, graph) in graphs:
            encoder_path.write_bytes(build_encoder(model, encoder_graph))
            path.write_bytes(build_decoder(model, config, graph))
            sources = inputs.numpy(), lengths.numpy()
            next_log_probs = onnx_decoder(encoder_path, path, *sources, self.threads)
            memory, state = model.encode(inputs, lengths)
            ids, largest = torch.full((len(texts),), BOS_ID), 0.0
            for _ in range(SAMPLE_STEPS // 2):
                log_probs, _, state = model.decoder.step(ids[:, None], memory, state)
                expected = log_probs[:, 0]
                differences = np.abs(next_log_probs(ids.numpy()) - expected.numpy())
                largest = float(np.maximum(largest, differences.max()))
                ids = expected.argmax(-1)
            self.models[encoder_path.name] = {"size_mb": encoder_path.stat().st_size / 1e6}
            self._add_measurements(path, largest)

    def _sample_texts(self) -> list[Ids]:
        """Return texts to verify a task on: the first lines of the text, or random ids."""
        if self.ids is not None:
            sentences = [line for line in sentences_of(self.ids) if line[-1] == EOS_ID]
            if sentences:
                return [line[:SAMPLE_STEPS] for line in sentences[:SAMPLE_TEXTS]]
        random = _random_ids(len(self.run.vocab))
        lengths = np.arange(1, SAMPLE_TEXTS + 1)
        return np.split(random[: lengths.sum()], np.cumsum(lengths)[:-1])

    def _graphs(self, stem: str) -> Iterator[tuple[Path, Graph]]:
        """Yield path and empty graph of each file to write: float32, and int8 if asked for."""
        yield self.folder / f"{stem}.onnx", Graph()
        if self.has_int8:
            yield self.folder / f"{stem}{INT8}.onnx", Int8Graph()

    def _measure(
        self, path: Path, step: verify.Step, reference: verify.Step, sample: Ints, ids: Ids | None
    ) -> None:
        """Compare a step with PyTorch on inputs (S, B); measure its perplexity and its time."""
        difference = verify.largest_difference(reference, step, sample)
        measurements = self._add_measurements(path, difference)
        if ids is not None:
            columns = min(MAX_COLUMNS, max(1, len(ids) // MIN_COLUMN_LENGTH))
            text = self._parallel(ids, columns)
            measurements["perplexity"] = verify.perplexity(step, text, path.name)
        measurements["step_ms"] = verify.milliseconds(step, sample[:, 0])

    def _add_measurements(self, path: Path, difference: float) -> Measurements:
        """Add size and difference to PyTorch of a file to ``models``; return its entry.

        Raises:
            ExportError: the difference is too large for a model that is not quantized, or of a
                quantized one not a number.
        """
        if INT8 in path.suffixes:
            if math.isnan(difference):
                raise ExportError(
                    f"{self.run.folder}: log-probabilities of {path.name} are not numbers: give "
                    "formats without int8"
                )
        elif not difference <= MAX_DIFFERENCE:
            raise ExportError(
                f"{self.run.folder}: log-probabilities of onnxruntime differ by {difference:.2g} "
                f"from those of PyTorch (limit {MAX_DIFFERENCE:g}): use 'formats=[safetensors]' to "
                "export the weights only"
            )
        measurements = {"size_mb": path.stat().st_size / 1e6, "max_abs_diff": difference}
        self.models[path.name] = measurements
        return measurements

    def _parallel(self, ids: Ids, rows: int) -> verify.ParallelText:
        """Cut a text into rows as the run was trained."""
        by_sentence = self.run.settings.batches.mode is Mode.sentence
        return verify.ParallelText.cut(ids, rows, self.lm_run.start_id, by_sentence)

    def _sample_ids(self) -> Ids:
        """Return a short text to verify on: the start of the text, or random ids without one."""
        if self.ids is None:
            return _random_ids(len(self.run.vocab))
        return self.ids[: SAMPLE_STEPS * SAMPLE_ROWS]


def _hypotheses(ids: Ids) -> list[Ints]:
    """Return the sentences of a text without their <eos>.

    A text may be cut within its last sentence, which is left out unless it is the only one.
    """
    sentences = sentences_of(ids)
    if ids[-1] != EOS_ID:
        sentences = sentences[:-1] or [np.append(ids, EOS_ID)]
    return [sentence[:-1].astype(np.int64) for sentence in sentences]


def _random_ids(vocab_size: int) -> Ids:
    """Return a text of random ids."""
    random = np.random.default_rng(0)
    first = min(1, vocab_size - 1)
    return random.integers(first, vocab_size, SAMPLE_STEPS * SAMPLE_ROWS, dtype=np.uint32)
