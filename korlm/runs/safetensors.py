"""Export best.pt as files without pickle, which any language can read, and load them.

config.json          format, version of korlm, task, labels, tokenizer, special ids, start_id (of a
                     language model), settings, and the CRC-32 of each other file
vocab.tsv            as in a prepared corpus (``korlm.dataset.vocab``)
spelling.safetensors the spelling model
model.safetensors    the state dict; a tied weight is stored once, and the file's metadata maps its
                     other name: {"output.weight": "embedding.weight"}
tokenizer.model      of a tokenizer that was trained or given, in its own format; of one of Hugging
                     Face tokenizer.json
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from korlm._version import __version__
from korlm.config import VocabConfig
from korlm.config.stored import check_settings, read_json
from korlm.dataset.vocab import SPECIALS, Vocab
from korlm.runs.checkpoint import Checkpoint
from korlm.utils.errors import CheckpointError, reading
from korlm.utils.io import checksums

FORMAT = 2
CONFIG, VOCAB, MODEL, SPELLING = (
    "config.json",
    "vocab.tsv",
    "model.safetensors",
    "spelling.safetensors",
)


def tokenizer_file(tokenizer: str) -> str:
    """Return the name of the file of a trained or given tokenizer."""
    return "tokenizer.json" if tokenizer == "huggingface" else "tokenizer.model"


def save_config(folder: Path, checkpoint: Checkpoint, start_id: int | None) -> None:
    """Write vocab.tsv, the tokenizer's file and config.json, which has the checksums of all files.

    Args:
        folder: the folder of the export, which already has all other files.
        checkpoint: the checkpoint; weights are not used.
        start_id: token id before the first token of a sentence; None for a model of a task other
            than language modeling.
    """
    settings, vocab = checkpoint["config"], checkpoint["vocab"]
    config = {
        "format": FORMAT,
        "korlm": __version__,
        "task": settings["task"]["name"],
        "labels": list(checkpoint.get("labels", ())),
        "tokenizer": settings["tokenizer"]["name"],
        "vocab_size": len(vocab["tokens"]),
        "special_ids": {token: token_id for token_id, token in enumerate(SPECIALS)},
        **({} if start_id is None else {"start_id": start_id}),
        "fingerprint": checkpoint["fingerprint"],
        "prepared": checkpoint["prepared"],
        "settings": settings,
    }
    vocab_config = VocabConfig(**settings["vocab"])
    Vocab.restore(vocab["tokens"], vocab["counts"], vocab_config).save(folder / VOCAB)
    if (learned := checkpoint.get("learned")) is not None:
        (folder / tokenizer_file(config["tokenizer"])).write_bytes(learned.numpy().tobytes())
    config = checksums.with_checksums(config, folder, folder.iterdir())
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def save_weights(folder: Path, checkpoint: Checkpoint) -> None:
    """Write model.safetensors and spelling.safetensors."""
    weights: dict[str, Tensor] = {}
    names: dict[tuple[int, tuple[int, ...]], str] = {}  # (address, shape) -> first name
    tied: dict[str, str] = {}  # other name of a tied weight -> first name
    for name, tensor in checkpoint["model"].items():
        first = names.setdefault((tensor.data_ptr(), tuple(tensor.shape)), name)
        if first != name and tensor.numel():
            tied[name] = first
        else:
            weights[name] = tensor.contiguous()
    # safetensors.save_file would create files with mode 0600.
    (folder / MODEL).write_bytes(save(weights, tied))
    (folder / SPELLING).write_bytes(save(checkpoint["spelling"]))


def load_weights(folder: Path) -> Checkpoint:
    """Load an export as a checkpoint, without running code that a file may contain.

    The result has only the entries that are needed to use the model.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    path = folder / CONFIG
    with _reading(path):
        config = read_json(path)
        if (version := config["format"]) != FORMAT:
            raise CheckpointError(
                f"{path}: export format {version}, this version of korlm reads {FORMAT}: "
                "export the run again, or use the version that wrote it"
            )
        checksums.check_values(config)
        settings = check_settings(config["settings"], str(path), CheckpointError)
        vocab_config = VocabConfig(**settings["vocab"])
        origin = {key: str(config[key]) for key in ("fingerprint", "prepared")}
        tokenizer = tokenizer_file(settings["tokenizer"]["name"])
        has_tokenizer = tokenizer in config[checksums.CRC32_KEY]
    for name in (VOCAB, MODEL, SPELLING, *([tokenizer] if has_tokenizer else [])):
        with _reading(folder / name):
            checksums.check_file(folder / name, folder, config[checksums.CRC32_KEY])
    with _reading(folder / VOCAB):
        vocab = Vocab.load(folder / VOCAB, vocab_config)
    with _reading(folder / MODEL):
        model, tied = _load(folder / MODEL)
        model |= {name: model[first] for name, first in tied.items()}
    with _reading(folder / SPELLING):
        spelling, _ = _load(folder / SPELLING)
    entries = {"tokens": vocab.tokens, "counts": vocab.counts}
    learned = None
    if has_tokenizer:
        learned = torch.from_numpy(np.fromfile(folder / tokenizer, np.uint8))
    return {
        **{"config": settings, "vocab": entries, "model": model, "spelling": spelling},
        **{"labels": config.get("labels", ()), "learned": learned},
        **origin,
    }


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, on the CPU, and its metadata."""
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def _reading(path: Path) -> AbstractContextManager[None]:
    return reading(path, CheckpointError, "export the run again")
