"""A trained model as files that any language reads, without pickle: what is in best.pt, unpacked.

config.json          format, korlm's version, tokenizer, special ids, start_id, settings, and the
                     CRC-32 of each other file
vocab.tsv            as in a prepared corpus (``korlm.dataset.vocab``)
spelling.safetensors the spelling model
model.safetensors    the state dict; a weight that stands there under two names is stored once, and
                     the file's metadata says which one it is: {"output.weight": "embedding.weight"}
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from korlm._version import __version__
from korlm.config import VocabConfig
from korlm.config.stored import check_settings, read_json
from korlm.dataset.vocab import SPECIALS, Vocab
from korlm.runs.checkpoint import Checkpoint
from korlm.utils.errors import CheckpointError, VocabError, require_extra
from korlm.utils.io import checksums

FORMAT = 2


CONFIG, VOCAB, MODEL, SPELLING = (
    "config.json",
    "vocab.tsv",
    "model.safetensors",
    "spelling.safetensors",
)


def save_config(folder: Path, checkpoint: Checkpoint, start_id: int) -> None:
    """Writes vocab.tsv and config.json into a folder; the latter has the checksums of all files.

    Args:
        folder: that holds everything else already.
        checkpoint: ``config``, ``vocab``, ``fingerprint`` and ``prepared`` of it.
        start_id: what stands before the first token of a sentence.
    """
    settings, words = checkpoint["config"], checkpoint["vocab"]
    config = {
        "format": FORMAT,
        "korlm": __version__,
        "tokenizer": settings["tokenizer"]["name"],
        "vocab_size": len(words["tokens"]),
        "special_ids": {token: token_id for token_id, token in enumerate(SPECIALS)},
        "start_id": start_id,
        "fingerprint": checkpoint["fingerprint"],
        "prepared": checkpoint["prepared"],
        "settings": settings,
    }
    vocab_config = VocabConfig(**settings["vocab"])
    Vocab.restore(words["tokens"], words["counts"], vocab_config).save(folder / VOCAB)
    config = checksums.sealed(config, folder, folder.iterdir())
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def save_weights(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes model.safetensors and spelling.safetensors into a folder.

    Args:
        folder: that is there.
        checkpoint: ``model`` and ``spelling`` of it.
    """
    with require_extra("safetensors"):
        from safetensors.torch import save

    weights: dict[str, Tensor] = {}
    names: dict[tuple[int, tuple[int, ...]], str] = {}
    same: dict[str, str] = {}
    for name, tensor in checkpoint["model"].items():
        first = names.setdefault((tensor.data_ptr(), tuple(tensor.shape)), name)
        if first != name and tensor.numel():
            same[name] = first
        else:
            weights[name] = tensor.contiguous()
    # Its own way to write files gives them to their owner alone (0600).
    (folder / MODEL).write_bytes(save(weights, same))
    (folder / SPELLING).write_bytes(save(checkpoint["spelling"]))


def load_weights(folder: Path) -> Checkpoint:
    """What a checkpoint would hold of this model; runs no code that a file may carry.

    Raises:
        CheckpointError: a file is missing or damaged.
        MissingPackageError: safetensors is not installed.
    """
    path = folder / CONFIG
    try:
        config = read_json(path)
        if (version := config["format"]) != FORMAT:
            raise CheckpointError(
                f"{path}: export format {version}, this korlm reads {FORMAT}: export the run "
                "again, or use the korlm that wrote it"
            )
        checksums.check_seal(config)
        settings = check_settings(config["settings"], str(path), CheckpointError)
        vocab_config = VocabConfig(**settings["vocab"])
        found = {key: str(config[key]) for key in ("fingerprint", "prepared")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _damaged(path, error) from error
    for name in (VOCAB, MODEL, SPELLING):
        try:
            checksums.check_file(folder / name, folder, config[checksums.KEY])
        except (OSError, ValueError) as error:
            raise _damaged(folder / name, error) from error
    try:
        vocab = Vocab.load(folder / VOCAB, vocab_config)
    except VocabError as error:
        raise _damaged(folder / VOCAB, error.__cause__ or error) from error
    model, same = _load(folder / MODEL)
    for name, first in same.items():
        if first not in model:
            raise _damaged(folder / MODEL, KeyError(first))
        model[name] = model[first]
    spelling, _ = _load(folder / SPELLING)
    words = {"tokens": vocab.tokens, "counts": vocab.counts}
    return {"config": settings, "vocab": words, "model": model, "spelling": spelling, **found}


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, on the CPU, and its metadata."""
    with require_extra("safetensors"):
        from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (OSError, SafetensorError, MemoryError, RuntimeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    reason = " ".join(str(error).split())[:200]
    return CheckpointError(f"{path}: damaged or missing ({reason}); export the run again")
