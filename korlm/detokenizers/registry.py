"""Find the detokenizer of a tokenizer, and the file of a trained one."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from korlm.config import registry
from korlm.detokenizers.base import Detokenizer
from korlm.detokenizers.kkma.detokenizer import FILE, KkmaDetokenizer, untrained_spacing
from korlm.detokenizers.kkma.training import train_detokenizer
from korlm.detokenizers.kkma.training_data import read_aligned_tokens
from korlm.utils.errors import OutputError, output_errors
from korlm.utils.io.atomic_files import atomic_write

logger = logging.getLogger(__name__)

MAX_TOKENS = 3_000_000  # number of training tokens; more hardly improve the detokenizer
KKMA = "kkma"


def build_detokenizer(
    tokenizer: str, folders: tuple[Path, ...] = (), tokenizer_model: bytes | None = None
) -> Detokenizer:
    """Return the detokenizer of a tokenizer.

    The first ``recomposition.npz`` in the folders, run directories or prepared corpora, is loaded.
    If there is none, the detokenizer is trained on the first prepared corpus; if there is no corpus
    either, it has only rules. All tokenizers of morphemes have the same detokenizer.

    Raises:
        PreparedError: the file is damaged.
    """
    if path := _registered(tokenizer):
        detokenizer: Detokenizer = registry.load(path).from_model(tokenizer_model)
        return detokenizer
    for folder in folders:
        if (folder / FILE).is_file():
            return KkmaDetokenizer.load(folder / FILE)
    for folder in folders:
        if (folder / "tokens").is_dir():
            return train_from_prepared(folder)
    logger.warning(
        "no trained detokenizer (%s) in %s; using rules only, spacing will be poor",
        FILE,
        " or ".join(map(str, folders)) or "any folder",
    )
    return KkmaDetokenizer({}, untrained_spacing())


def _registered(tokenizer: str) -> str:
    """Return ``"module:class"`` of the detokenizer of a tokenizer; empty: that of morphemes."""
    entry = registry.entries("tokenizer").get(tokenizer)
    return entry.detokenizer if entry else ""


def load_from_run(
    tokenizer: str, run: Path, tokenizer_model: bytes | None = None
) -> Detokenizer | None:
    """Return the detokenizer of a run; None if the run directory lacks its trained file.

    >>> load_from_run("kiwi", Path("nowhere")) is None
    True

    Raises:
        PreparedError: the file is damaged.
    """
    if _registered(tokenizer) or (run / FILE).is_file():
        return build_detokenizer(tokenizer, (run,), tokenizer_model)
    return None


def train_from_prepared(folder: Path) -> KkmaDetokenizer:
    """Train on the train split of a prepared corpus, and write ``recomposition.npz`` into it.

    If the file cannot be written, a warning is logged.

    Raises:
        PreparedError: the shards are damaged.
    """
    logger.info("%s: training the detokenizer", folder)
    detokenizer = train_detokenizer(read_aligned_tokens(folder, MAX_TOKENS))
    try:
        detokenizer.save(folder / FILE)
    except OutputError as error:
        logger.warning("%s; the next command will have to train it again", error)
    return detokenizer


def ensure_trained(tokenizer: str, prepared: Path) -> None:
    """Train the detokenizer of a prepared corpus of Kkma tokens unless its file exists.

    Raises:
        PreparedError: the shards are damaged.
    """
    if tokenizer == KKMA and not (prepared / FILE).exists():
        train_from_prepared(prepared)


def copy_to_run(prepared: Path, run: Path) -> None:
    """Copy ``recomposition.npz`` to a run directory, so that it can be used without the corpus.

    Raises:
        OutputError: the run directory is not writable.
    """
    if (prepared / FILE).is_file() and not (run / FILE).exists():
        with output_errors(run), atomic_write(run / FILE) as temporary:
            shutil.copyfile(prepared / FILE, temporary)
