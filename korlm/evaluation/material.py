"""A run on several texts, used in several ways: what is read, and what is chosen on what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from korlm.config import CacheConfig, DynamicConfig
from korlm.data.batches import Ids
from korlm.data.prepared import Prepared
from korlm.data.vocab import BOS_ID
from korlm.errors import CorpusError
from korlm.evaluation.comparison import Comparison, Reader
from korlm.evaluation.judging import Judged, judge
from korlm.evaluation.scoring import Text
from korlm.evaluation.texts import Loaded, Sentences, read_split


@dataclass(frozen=True)
class Tuning:
    """The text of a run that the numbers of cache, dynamic evaluation and mixtures come from.

    Attributes:
        valid: on which they are chosen.
        train: on which dynamic evaluation measures gradients.
    """

    valid: Sentences
    train: Ids


@dataclass(frozen=True)
class Material:
    """What a run reads.

    Attributes:
        texts: that it is judged on, by their names; none but valid is called train or valid.
        tuning: None: it is gone, and nothing is left but mixtures of equal shares.
    """

    texts: dict[str, Sentences]
    tuning: Tuning | None = None


def own_material(run: Loaded, prepared: Prepared, test: bool) -> Material:
    """The splits that a run was trained with: valid, on which it is tuned, and test.

    Args:
        run: whose vocabulary the text has.
        prepared: the text.
        test: whether test is wanted, if there is one.
    """
    splits = ["valid", *(["test"] if test and "test" in prepared.stats else [])]
    texts = {split: read_split(prepared.folder, split, run) for split in splits}
    return Material(texts, Tuning(texts["valid"], prepared.ids("train")))


def check_same_text(materials: Mapping[str, Material]) -> None:
    """Refuses runs that would be judged on different texts.

    Args:
        materials: of the runs, by their names.

    Raises:
        CorpusError: naming both, and how the texts differ.
    """
    (first, material), *others = materials.items()
    for name, other in others:
        for split in sorted(material.texts.keys() | other.texts.keys()):
            mine, theirs = material.texts.get(split), other.texts.get(split)
            if mine is None or theirs is None or not mine.same_text(theirs):
                raise CorpusError(
                    f"{split} of {first} ({_size(mine)}) and of {name} ({_size(theirs)}): not the "
                    "same text; give one that all are to read: corpus=text 'corpus.files=[FILE]'"
                )


def _size(text: Sentences | None) -> str:
    if text is None:
        return "none"
    return f"{text.counts.num_chars:,} characters in {len(text.doc_ids):,} documents"


@dataclass(frozen=True)
class Ways:
    """What is tried besides carrying the state over and resetting it.

    Attributes:
        others: runs of the same vocabulary to mix with, by the names of their rows.
        cache: what may be chosen; no sizes: no cache.
        dynamic: what may be chosen; no rates: no dynamic evaluation.
        device: that computes.
    """

    others: Mapping[str, Loaded]
    cache: CacheConfig
    dynamic: DynamicConfig
    device: torch.device

    @property
    def to_choose(self) -> bool:
        """Whether there are numbers to be chosen."""
        return bool(self.others or self.cache.sizes or self.dynamic.rates)


def judge_run(run: Loaded, material: Material, ways: Ways) -> dict[str, dict[str, Judged]]:
    """Every way to use a run's model, on each of its texts.

    Returns:
        Name of the text -> name of the way (carried, reset and so on) -> what it gave.
    """
    ids: dict[str, Ids] = {name: text.ids for name, text in material.texts.items()}
    cache, dynamic = ways.cache, ways.dynamic
    if material.tuning is None:
        cache, dynamic = CacheConfig(sizes=[]), DynamicConfig(rates=[])
    else:
        ids |= {"valid": material.tuning.valid.ids, "train": material.tuning.train}
    model, *others = (
        _reader(name, part, ids, ways.device)
        for name, part in {"model": run, **ways.others}.items()
    )
    comparison = Comparison(model, others, cache, dynamic, material.tuning is not None)
    if material.tuning is not None and ways.to_choose and "valid" not in material.texts:
        comparison.rows("valid")
    trained = "reset" if run.start_id == BOS_ID else "carried"
    return {
        name: {
            way: judge(row, text, ways.others.get(way, run), way == trained or way in ways.others)
            for way, row in comparison.rows(name).items()
        }
        for name, text in material.texts.items()
    }


def _reader(name: str, run: Loaded, ids: Mapping[str, Ids], device: torch.device) -> Reader:
    """A run's model on the device, and the texts as it knows them."""
    texts = {split: Text(part, run.start_id, device) for split, part in ids.items()}
    return Reader(name, run.model.to(device), texts)
