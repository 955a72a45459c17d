"""Recomposers by the name of their tokenizer, and the file of what Kkma's learnt."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from korlm.config import registry
from korlm.detokenizers.base import Detokenizer
from korlm.detokenizers.kkma.detokenizer import FILE, KkmaDetokenizer, untrained_spacing
from korlm.detokenizers.kkma.training import learn
from korlm.detokenizers.kkma.training_data import read_samples
from korlm.utils.errors import OutputError, output_errors
from korlm.utils.io.atomic_files import atomic_write

logger = logging.getLogger(__name__)


MAX_TOKENS = 3_000_000  # that are learnt from; more add little


KKMA = "kkma"


def build_detokenizer(tokenizer: str, folders: tuple[Path, ...] = ()) -> Detokenizer:
    """The recomposer of a tokenizer.

    Args:
        tokenizer: its name; what is written here of Kkma holds for all others that make morphs.
        folders: a run directory, a prepared corpus: the first one that has ``recomposition.npz``
            gives what was learnt; a prepared corpus without it is learnt from.

    Raises:
        PreparedError: the file is damaged.
    """
    if path := _registered(tokenizer):
        detokenizer: Detokenizer = registry.load(path)()
        return detokenizer
    for folder in folders:
        if (folder / FILE).is_file():
            return KkmaDetokenizer.load(folder / FILE)
    for folder in folders:
        if (folder / "tokens").is_dir():
            return learn_from_prepared(folder)
    logger.warning(
        "no %s in %s: text is put together by rules alone, and where blanks stand is not known",
        FILE,
        " or ".join(map(str, folders)) or "any folder",
    )
    return KkmaDetokenizer({}, untrained_spacing())


def _registered(tokenizer: str) -> str:
    """Return where the detokenizer of a tokenizer is; empty: there is none of its own."""
    entry = registry.entries("tokenizer").get(tokenizer)
    return entry.detokenizer if entry else ""


def load_from_run(tokenizer: str, run: Path) -> Detokenizer | None:
    """The recomposer that a run directory can give without learning; None if there is none.

    >>> load_from_run("kiwi", Path("nowhere")) is None
    True

    Raises:
        PreparedError: the file is damaged.
    """
    if _registered(tokenizer) or (run / FILE).is_file():
        return build_detokenizer(tokenizer, (run,))
    return None


def learn_from_prepared(folder: Path) -> KkmaDetokenizer:
    """Learns from the training split of Kkma's tokens, and writes ``recomposition.npz`` beside it.

    Args:
        folder: of a prepared corpus; if it cannot be written, a warning says so.

    Raises:
        PreparedError: its shards are damaged.
    """
    logger.info("%s: learning how its morphs are written", folder)
    detokenizer = learn(read_samples(folder, "train", MAX_TOKENS))
    try:
        detokenizer.save(folder / FILE)
    except OutputError as error:
        logger.warning("%s; the next command will have to learn it again", error)
    return detokenizer


def ensure_trained(tokenizer: str, prepared: Path) -> None:
    """Sees to it that a prepared corpus of Kkma's tokens has its ``recomposition.npz``.

    Raises:
        PreparedError: its shards are damaged.
    """
    if tokenizer == KKMA and not (prepared / FILE).exists():
        learn_from_prepared(prepared)


def copy_to_run(prepared: Path, run: Path) -> None:
    """Copies ``recomposition.npz`` into a run directory, which then needs no prepared corpus.

    Raises:
        OutputError: the run directory cannot be written.
    """
    if (prepared / FILE).is_file() and not (run / FILE).exists():
        with output_errors(run), atomic_write(run / FILE) as temporary:
            shutil.copyfile(prepared / FILE, temporary)
