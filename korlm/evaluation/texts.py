"""A text as a model is judged on it: ids, costs and counts, sentence by sentence and document.

    run = korlm.load("outputs/runs/DIR")
    (text,) = read_texts(CorpusConfig(name="mine", files=["mine.txt"]), [run])

What a run was trained on comes out of its prepared corpus, any other text out of its tokenizer.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from korlm.config import CorpusConfig, TrainSettings
from korlm.corpus.lines import LineBlock
from korlm.corpus.notes import Notes
from korlm.corpus.reader import read_corpus
from korlm.corpus.sources import find_sources
from korlm.dataset.batches import Ids
from korlm.dataset.prepared import SplitStats
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.text_encoder import EncodedText, TextEncoder, read_prepared
from korlm.dataset.vocab import UNK_ID, Vocab, id_dtype
from korlm.models.base import LanguageModel
from korlm.tokenizers.registry import tokenizer_version
from korlm.utils.errors import CorpusError
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff]")


class Loaded(Protocol):
    """A trained run, as ``korlm.load`` opens it."""

    @property
    def folder(self) -> Path:
        """The run directory."""

    @property
    def settings(self) -> TrainSettings:
        """That it was trained with."""

    @property
    def vocab(self) -> Vocab:
        """That it knows."""

    @property
    def spelling(self) -> CharNgramModel:
        """What it costs to spell what is not in there."""

    @property
    def model(self) -> LanguageModel:
        """In evaluation mode."""

    @property
    def tokenizer_model(self) -> bytes | None:
        """By its tokenizer, from train."""

    @property
    def fingerprint(self) -> str:
        """Of the text that it was trained on; the same one means the same tokens and ids."""

    @property
    def start_id(self) -> int:
        """The input before the first token of a sentence."""

    def reader(self) -> TextEncoder:
        """Reads any text as the run's own was read."""


@dataclass(frozen=True)
class EvaluationText:
    """A text of N tokens: S sentences, which are its lines that are not blank, in D documents.

    Attributes:
        ids: (N,), <eos> behind each sentence.
        spelling_nats: (N,), what it costs to spell what an id does not give back; 0 for the others.
        lengths: (S,), tokens, <eos> included.
        num_eojeol: (S,), units between blanks.
        num_chars: (S,), characters, one for the line end included.
        documents: (S,), the place of each sentence's document in ``doc_ids``.
        doc_ids: D names.
        status: how many lines the tokenizer read in which way, blank ones included.
    """

    ids: Ids
    spelling_nats: Floats
    lengths: Ints
    num_eojeol: Ints
    num_chars: Ints
    documents: Ints
    doc_ids: list[str]
    status: dict[str, int]

    @property
    def starts(self) -> Ints:
        """(S,), where each sentence begins."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def counts(self) -> SplitStats:
        """Of the whole text."""
        return SplitStats(
            num_tokens=len(self.ids),
            num_unk=int((self.ids == UNK_ID).sum()),
            num_eojeol=int(self.num_eojeol.sum()),
            num_chars=int(self.num_chars.sum()),
            num_lines=sum(self.status.values()),
            spelling_nats=float(self.spelling_nats.sum()),
        )

    def same_text(self, other: EvaluationText) -> bool:
        """Whether both are the same documents of the same length, whatever their tokens are."""
        return self.doc_ids == other.doc_ids and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("documents", "num_chars", "num_eojeol")
        )


class TextBuilder:
    """Readings that come one by one, put together.

    Args:
        vocab_size: V, which decides how wide an id is.
    """

    def __init__(self, vocab_size: int) -> None:
        self._dtype = id_dtype(vocab_size)
        self._parts: dict[str, list[npt.NDArray[Any]]] = {
            name: [] for name in ("spelling_nats", "lengths", "num_eojeol", "num_chars")
        }
        self._ids: list[Ids] = []
        self._documents: list[Ints] = []
        self._places: dict[str, int] = {}
        self._status: Counter[str] = Counter()

    def add(self, reading: EncodedText) -> None:
        """The lines that come next."""
        filled = reading.lengths > 0
        self._ids.append(reading.ids.astype(self._dtype))
        for name, parts in self._parts.items():
            values = getattr(reading, name)
            parts.append(values if name == "spelling_nats" else values[filled])
        found = pc.value_counts(reading.table.column("status")).to_pylist()
        self._status.update({status["values"]: status["counts"] for status in found})
        rows = reading.table.column("doc_id").filter(pa.array(filled)).combine_chunks()
        named = rows.dictionary_encode()
        doc_ids = named.dictionary.to_pylist()
        places = [self._places.setdefault(doc, len(self._places)) for doc in doc_ids]
        indices = named.indices.to_numpy(zero_copy_only=False)
        self._documents.append(np.array(places, dtype=np.int64)[indices])

    def done(self) -> EvaluationText:
        """All of them."""
        joined = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        documents = np.concatenate(self._documents)
        status = dict(sorted(self._status.items()))
        ids = np.concatenate(self._ids)
        return EvaluationText(
            ids, **joined, documents=documents, doc_ids=list(self._places), status=status
        )


def gather(readings: Iterable[EncodedText], vocab_size: int) -> EvaluationText:
    """Readings of one text, put together; there must be one at least."""
    gathering = TextBuilder(vocab_size)
    for reading in readings:
        gathering.add(reading)
    return gathering.done()


def read_split(folder: Path, split: str, run: Loaded) -> EvaluationText:
    """A split of a prepared corpus, as the run knows it."""
    unicode = run.settings.corpus.unicode
    return gather(read_prepared(folder, split, run.vocab, run.spelling, unicode), len(run.vocab))


def read_texts(corpus: CorpusConfig, runs: Sequence[Loaded]) -> list[EvaluationText]:
    """All documents that the settings name as one text, as each of the runs knows it.

    Each tokenizer reads the text once, and runs that were trained on the same text share the
    answer.

    Args:
        corpus: where the text is; which split a document would go to does not matter.
        runs: to be judged on it.

    Raises:
        CorpusError: text that cannot be read or holds no Hangul.
        TokenizerError: a tokenizer does not start.
    """
    sources = find_sources(corpus)
    if not any(
        HANGUL.search(text) for lines in read_corpus(corpus, sources) for text in lines.texts
    ):
        named = ", ".join(str(source.path) for source in sources[:3])
        more = f" and {len(sources) - 3:,} more" if len(sources) > 3 else ""
        raise CorpusError(f"corpus={corpus.name}: no Hangul in {named}{more}; give Korean text")
    by_tokenizer: dict[tuple[object, ...], dict[str, Loaded]] = {}
    for run in runs:
        by_tokenizer.setdefault(_kind(run), {})[run.fingerprint] = run
    found: dict[str, EvaluationText] = {}
    notes = Notes()
    for sharing in by_tokenizer.values():
        notes = Notes()  # the same for each tokenizer
        found |= _read_once(read_corpus(corpus, sources, notes), sharing)
    for line in notes.lines():
        logger.warning("%s", line)
    return [found[run.fingerprint] for run in runs]


def _kind(run: Loaded) -> tuple[object, ...]:
    """All that decides the tokens of a text."""
    tokenizer, unicode = run.settings.tokenizer, run.settings.corpus.unicode
    return tokenizer.name, tokenizer_version(tokenizer), run.tokenizer_model, unicode


def _read_once(lines: Iterator[LineBlock], runs: dict[str, Loaded]) -> dict[str, EvaluationText]:
    """A text as several runs of one tokenizer know it, by their fingerprints."""
    first, *others = runs.values()
    gatherings = [TextBuilder(len(run.vocab)) for run in runs.values()]
    what = first.settings.tokenizer.name
    with (
        first.reader() as reader,
        ProgressBar(desc=what, unit="line", leave=False) as bar,
    ):
        for reading in reader.read(part._replace(split="text") for part in lines):
            gatherings[0].add(reading)
            for gathering, run in zip(gatherings[1:], others, strict=True):
                gathering.add(
                    EncodedText.from_table(reading.table, run.vocab, run.spelling, reading.unicode)
                )
            bar.update(len(reading.table))
    return {name: part.done() for name, part in zip(runs, gatherings, strict=True)}
