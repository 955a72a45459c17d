"""Recomposers by the name of their tokenizer, and the file of what Kkma's learnt."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from korlm.detokenizers.base import (
    EojeolRecomposer,
    JamoRecomposer,
    PieceRecomposer,
    Recomposer,
    SyllableRecomposer,
)
from korlm.detokenizers.kkma.detokenizer import FILE, KkmaRecomposer, rules_alone
from korlm.detokenizers.kkma.training import learn
from korlm.detokenizers.kkma.training_data import read_samples
from korlm.utils.errors import OutputError, writing
from korlm.utils.io.atomic_files import replacing

logger = logging.getLogger(__name__)


MAX_TOKENS = 3_000_000  # that are learnt from; more add little


KKMA = "kkma"


_SIMPLE: dict[str, type[Recomposer]] = {
    "eojeol": EojeolRecomposer,
    "syllable": SyllableRecomposer,
    "jamo": JamoRecomposer,
    "sentencepiece": PieceRecomposer,
}


def build_recomposer(tokenizer: str, folders: tuple[Path, ...] = ()) -> Recomposer:
    """The recomposer of a tokenizer.

    Args:
        tokenizer: its name; what is written here of Kkma holds for all others that make morphs.
        folders: a run directory, a prepared corpus: the first one that has ``recomposition.npz``
            gives what was learnt; a prepared corpus without it is learnt from.

    Raises:
        PreparedError: the file is damaged.
    """
    if tokenizer in _SIMPLE:
        return _SIMPLE[tokenizer]()
    for folder in folders:
        if (folder / FILE).is_file():
            return KkmaRecomposer.load(folder / FILE)
    for folder in folders:
        if (folder / "tokens").is_dir():
            return learn_from_prepared(folder)
    logger.warning(
        "no %s in %s: text is put together by rules alone, and where blanks stand is not known",
        FILE,
        " or ".join(map(str, folders)) or "any folder",
    )
    return KkmaRecomposer({}, rules_alone())


def kept_recomposer(tokenizer: str, run: Path) -> Recomposer | None:
    """The recomposer that a run directory can give without learning; None if there is none.

    >>> kept_recomposer("kiwi", Path("nowhere")) is None
    True

    Raises:
        PreparedError: the file is damaged.
    """
    if tokenizer in _SIMPLE or (run / FILE).is_file():
        return build_recomposer(tokenizer, (run,))
    return None


def learn_from_prepared(folder: Path) -> KkmaRecomposer:
    """Learns from the training split of Kkma's tokens, and writes ``recomposition.npz`` beside it.

    Args:
        folder: of a prepared corpus; if it cannot be written, a warning says so.

    Raises:
        PreparedError: its shards are damaged.
    """
    logger.info("%s: learning how its morphs are written", folder)
    recomposer = learn(read_samples(folder, "train", MAX_TOKENS))
    try:
        recomposer.save(folder / FILE)
    except OutputError as error:
        logger.warning("%s; the next command will have to learn it again", error)
    return recomposer


def provide(tokenizer: str, prepared: Path) -> None:
    """Sees to it that a prepared corpus of Kkma's tokens has its ``recomposition.npz``.

    Raises:
        PreparedError: its shards are damaged.
    """
    if tokenizer == KKMA and not (prepared / FILE).exists():
        learn_from_prepared(prepared)


def keep(prepared: Path, run: Path) -> None:
    """Copies ``recomposition.npz`` into a run directory, which then needs no prepared corpus.

    Raises:
        OutputError: the run directory cannot be written.
    """
    if (prepared / FILE).is_file() and not (run / FILE).exists():
        with writing(run), replacing(run / FILE) as temporary:
            shutil.copyfile(prepared / FILE, temporary)
