"""Compare classification and tagging with the same networks in plain PyTorch, in lines per second.

    python scripts/bench/tasks.py [--lines 4000] [--units 200] [--threads 1] [--quick]

The peer is nn.Embedding, a bidirectional nn.LSTM on packed sequences and a linear layer, with AdamW
and gradient clipping. Both have the same sizes and dropout, read the same synthetic lines in the
same batches, sorted by length, and take turns in one process. Training: a step. Prediction: from
the ids of lines to labels, or to words and labels for tagging; korlm also returns the probabilities
of all classes, or the offsets of the words. Exit code 1 if the scores of the two networks, with the
same weights, differ by more than 1e-4.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bare import endless
from bench_utils import argument_parser, in_turns, median_seconds, speedup, time_calls
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from korlm.config import (
    AdamConfig,
    BatchesConfig,
    ClassificationConfig,
    CorpusConfig,
    Device,
    LSTMConfig,
    Mode,
    Precision,
    ScheduleConfig,
    TaggingConfig,
    TagHead,
    TaskConfig,
    TokenizerConfig,
    TrainerConfig,
    TrainSettings,
    VocabConfig,
)
from korlm.config.metrics import default_objective
from korlm.dataset.batches import Batch
from korlm.dataset.example_batches import padded_batches
from korlm.dataset.prepare import prepare
from korlm.dataset.text_encoder import EncodedText, read_prepared
from korlm.runs.trained_run import RunParts
from korlm.training.session import build_session

DROPOUT, LR, WORDS, CLASSES, BATCH = 0.3, 0.003, 8000, 12, 64
TOLERANCE = 1e-4


def write_lines(folder: Path, tagged: bool, num_lines: int) -> dict[str, list[str]]:
    """Write TSV files whose line lengths and word frequencies resemble film reviews.

    Returns:
        The files of each split, as in ``CorpusConfig``.
    """
    rng, word_rng = random.Random(1), np.random.default_rng(1)
    files = {}
    for split, count in (("train", num_lines), ("valid", num_lines // 4)):
        rows = ["text\tlabel"]
        for _ in range(count):
            length = min(80, 1 + int(rng.lognormvariate(2.7, 0.6)))
            words = [f"w{n % WORDS}" for n in word_rng.zipf(1.3, length)]
            ends = list(itertools.accumulate(len(word) + 1 for word in words))
            label: Any = str(rng.randrange(CLASSES))
            if tagged:
                label = [
                    [end - 1 - len(word), end - 1, f"T{word_hash(word) % CLASSES}"]
                    for word, end in zip(words, ends, strict=True)
                ]
                label = json.dumps(label)
            rows.append(" ".join(words) + "\t" + label)
        path = folder / f"{split}.tsv"
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        files[split] = [str(path)]
    return files


def word_hash(word: str) -> int:
    """Return a hash that is the same in every process, unlike ``hash``."""
    return int(word[1:]) * 7919 % 1009


class Peer(nn.Module):
    """The network in plain PyTorch."""

    def __init__(self, vocab_size: int, units: int, num_labels: int, tagged: bool) -> None:
        super().__init__()
        self.tagged = tagged
        self.embedding = nn.Embedding(vocab_size, units, padding_idx=0)
        self.lstm = nn.LSTM(units, units, batch_first=True, bidirectional=True)
        self.output = nn.Linear((1 if tagged else 3) * 2 * units, num_labels)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, C), or of a tagger (B, T, L)."""
        x = self.dropout(self.embedding(inputs))
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, (last, _) = self.lstm(packed)
        states, _ = pad_packed_sequence(states, batch_first=True)
        states = self.dropout(states)
        if self.tagged:
            scores: Tensor = self.output(states)
            return scores
        mask = (torch.arange(inputs.shape[1]) < lengths[:, None])[..., None]
        maximum = states.masked_fill(~mask, -torch.inf).amax(1)
        mean = (states * mask).sum(1) / lengths[:, None]
        last = self.dropout(torch.cat([last[0], last[1]], -1))
        logits: Tensor = self.output(torch.cat([last, maximum, mean], -1))
        return logits

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of the texts or of the words; the target of <eos> is -1."""
        assert batch.lengths is not None
        logits = self(batch.inputs, batch.lengths).flatten(0, -2)
        return F.cross_entropy(logits, batch.targets.flatten(), ignore_index=-1)

    @torch.inference_mode()
    def predict(self, lines: EncodedText, labels: Sequence[str]) -> list[Any]:
        """Return the label of each line and its probability, or its words and their labels."""
        texts = lines.table.column("text").to_pylist()
        results: list[Any] = [None] * len(texts)
        for rows, inputs, lengths in padded_batches(lines.lines()):
            logits = self(inputs, lengths)
            if self.tagged:
                best = logits.argmax(-1).tolist()
                for row, length, ids in zip(rows, lengths.tolist(), best, strict=True):
                    names = [labels[i] for i in ids[: length - 1]]
                    results[row] = list(zip(texts[row].split(), names, strict=True))
                continue
            probs, ids = logits.softmax(-1).max(-1)
            for row, p, i in zip(rows, probs.tolist(), ids.tolist(), strict=True):
                results[row] = labels[i], p
        return results

    @torch.no_grad()
    def copy_from(self, model: nn.Module) -> None:
        """Copy the weights of korlm's model."""
        encoder: Any = model.encoder
        self.embedding.weight.copy_(encoder.embedding.weight)
        for layers, suffix in ((encoder.layers, "l0"), (encoder.backward_layers, "l0_reverse")):
            for name, weight in layers[0].named_parameters():
                getattr(self.lstm, f"{name}_{suffix}").copy_(weight)
        self.output.load_state_dict(model.output.state_dict())  # type: ignore[union-attr]


def run_settings(task: TaskConfig, corpus: CorpusConfig, options: argparse.Namespace) -> Any:
    """Return the settings of korlm's run."""
    return TrainSettings(
        corpus=corpus,
        tokenizer=TokenizerConfig(name="eojeol"),
        vocab=VocabConfig(1),
        task=task,
        objective=default_objective(task.name),
        batches=BatchesConfig(mode=Mode.sentence, batch_size=BATCH, eval_batch_size=BATCH),
        model=LSTMConfig(
            name="lstm",
            num_layers=1,
            embedding_dim=options.units,
            hidden_dim=options.units,
            input_dropout=DROPOUT,
            output_dropout=DROPOUT,
        ),
        optimizer=AdamConfig(name="adamw", lr=LR),
        schedule=ScheduleConfig(name="constant"),
        trainer=TrainerConfig(
            device=Device.cpu, precision=Precision.fp32, threads=options.threads, sample_tokens=0
        ),
    )


def measure(name: str, task: TaskConfig, folder: Path, options: argparse.Namespace) -> bool:
    """Print the rows of a task; return whether both networks compute the same scores."""
    folder.mkdir()
    tagged = isinstance(task, TaggingConfig)
    files = write_lines(folder, tagged, options.lines)
    corpus = CorpusConfig(
        name="lines",
        train=files["train"],
        valid=files["valid"],
        text_column="text",
        label_column="label",
    )
    settings = run_settings(task, corpus, options)
    prepared = prepare(corpus, settings.tokenizer, settings.vocab, folder, progress=False)
    session = build_session(settings, prepared, folder / "run")
    assert session.trainer is not None
    model, trainer, labels = session.model, session.trainer, session.task.labels
    peer = Peer(len(prepared.vocab), options.units, len(labels), tagged)
    optimizer = torch.optim.AdamW(peer.parameters(), lr=LR, weight_decay=0.0)

    peer.copy_from(model)
    batch = next(iter(session.task.eval_batches["valid"].epoch(0)))
    difference = max_difference(model.eval(), peer.eval(), batch)
    streams = [endless(session.task.train_batches) for _ in range(2)]

    def korlm_step() -> None:
        trainer.train_step(next(streams[0]))

    def peer_step() -> None:
        peer.train()
        optimizer.zero_grad()
        peer.loss(next(streams[1])).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()

    encoded = read_prepared(prepared.folder, "valid", prepared.vocab, prepared.spelling)
    lines = EncodedText.concatenate(list(encoded))
    source = (prepared.spelling, prepared.folder, prepared.fingerprint, None)
    run = RunParts(folder, settings, prepared.vocab, *source, labels)
    predictor = session.task.build_predictor(run, model, torch.device("cpu"))

    def korlm_prediction() -> None:
        model.eval()
        predictor.predict(lines)

    def peer_prediction() -> None:
        peer.eval()
        peer.predict(lines, labels)

    rows = {
        "training": (BATCH, options.steps, {"peer": peer_step, "korlm": korlm_step}),
        "prediction": (len(lines.lengths), 1, {"peer": peer_prediction, "korlm": korlm_prediction}),
    }
    for row, (num_lines, calls, variants) in rows.items():
        timed = {kind: partial(time_calls, variant, calls) for kind, variant in variants.items()}
        results = in_turns(timed, options.rounds, warmup_rounds=1)
        medians = {kind: median_seconds(times) for kind, times in results.items()}
        print(
            f"{name:16}{row:12}{num_lines / medians['korlm'].wall:9,.0f} lines/s   "
            f"peer {num_lines / medians['peer'].wall:9,.0f}   "
            f"{speedup(medians['peer'], medians['korlm'])}",
            flush=True,
        )
    if difference > TOLERANCE:
        print(f"{name}: with the same weights, scores differ by up to {difference:.1g}")
    return difference <= TOLERANCE


@torch.inference_mode()
def max_difference(model: nn.Module, peer: Peer, batch: Batch) -> float:
    """Return the largest difference of the scores of a batch between networks of equal weights."""
    expected = peer(batch.inputs, batch.lengths)
    if not peer.tagged:
        return float((model(batch.inputs, batch.lengths) - expected).abs().max())
    is_word = batch.targets != -1
    scores, _ = model(batch.inputs, batch.lengths, is_word)
    scores = scores[torch.arange(scores.shape[1]) < is_word.sum(1)[:, None]]
    return float((scores - expected[is_word]).abs().max())


def main() -> None:
    """Measure both tasks and print a row each for training and prediction."""
    parser = argument_parser(__doc__)
    parser.add_argument("--lines", type=int, default=4000, help="lines of the training text")
    parser.add_argument("--units", type=int, default=200, help="units of embedding and LSTM")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--steps", type=int, default=4, help="training steps per round")
    parser.add_argument("--rounds", type=int, default=11, help="turns of each network")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script")
    options = parser.parse_args()
    if options.quick:
        options.lines, options.units, options.steps, options.rounds = 300, 16, 1, 2
    tasks = {
        "classification": ClassificationConfig(name="classification"),
        "tagging": TaggingConfig(name="tagging", head=TagHead.softmax),
    }
    with tempfile.TemporaryDirectory() as folder:
        same = [measure(name, task, Path(folder) / name, options) for name, task in tasks.items()]
    sys.exit(0 if all(same) else 1)


if __name__ == "__main__":
    main()
