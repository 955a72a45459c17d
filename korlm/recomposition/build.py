"""Recomposers by the name of their tokenizer, and the file of what Kkma's learnt."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from korlm.errors import writing
from korlm.recomposition.learning import learn
from korlm.recomposition.morphs import FILE, KkmaRecomposer, rules_alone
from korlm.recomposition.recomposer import (
    EojeolRecomposer,
    JamoRecomposer,
    Recomposer,
    SyllableRecomposer,
)
from korlm.recomposition.samples import read_samples

logger = logging.getLogger(__name__)

MAX_TOKENS = 3_000_000  # that are learnt from; more add little
_SIMPLE: dict[str, type[Recomposer]] = {
    "eojeol": EojeolRecomposer,
    "syllable": SyllableRecomposer,
    "jamo": JamoRecomposer,
}


def build_recomposer(tokenizer: str, folders: tuple[Path, ...] = ()) -> Recomposer:
    """The recomposer of a tokenizer.

    Args:
        tokenizer: its name, ``kkma``, ``eojeol``, ``syllable`` or ``jamo``.
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
        "no %s in %s: text is put together by rules alone, blanks are not known",
        FILE,
        ", ".join(map(str, folders)) or "any folder",
    )
    return KkmaRecomposer({}, rules_alone())


def learn_from_prepared(folder: Path) -> KkmaRecomposer:
    """What the training split of a prepared corpus of Kkma's tokens says.

    Raises:
        PreparedError: its shards are damaged.
    """
    return learn(read_samples(folder, "train", MAX_TOKENS))


def provide(tokenizer: str, prepared: Path) -> None:
    """Makes ``recomposition.npz`` in a prepared corpus, if its tokenizer needs it and it is not there.

    Raises:
        KorlmError: its shards are damaged; the folder cannot be written.
    """
    if tokenizer not in _SIMPLE and not (prepared / FILE).exists():
        learn_from_prepared(prepared).save(prepared / FILE)


def keep(prepared: Path, run: Path) -> None:
    """Copies what a prepared corpus has learnt into a run directory, so that a run needs no other.

    Raises:
        OutputError: the run directory cannot be written.
    """
    if (prepared / FILE).is_file() and not (run / FILE).exists():
        with writing(run):
            shutil.copyfile(prepared / FILE, run / FILE)
