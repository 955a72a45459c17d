"""Read texts to evaluate on: token ids with the counts of every sentence and document.

    run = korlm.load("outputs/runs/DIR")
    (text,) = read_texts(CorpusConfig(name="mine", files=["mine.txt"]), [run])

Splits of the training corpus are read from the prepared corpus, any other text is tokenized.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from korlm.config import CorpusConfig
from korlm.corpus.lines import LineBlock
from korlm.corpus.notes import Notes
from korlm.corpus.reader import read_corpus
from korlm.corpus.sources import find_sources
from korlm.dataset.prepared import SplitStats
from korlm.dataset.storage.id_stream import Ids
from korlm.dataset.text_encoder import EncodedText, read_prepared
from korlm.dataset.vocab import UNK_ID, id_dtype
from korlm.evaluation.token_scores import Floats, Ints
from korlm.runs.trained_run import TrainedRun
from korlm.tokenizers.registry import tokenizer_version
from korlm.utils.errors import CorpusError
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)

HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff]")


@dataclass(frozen=True)
class EvaluationText:
    """A text of N tokens in S sentences (lines that are not blank) and D documents.

    Attributes:
        ids: (N,), <eos> at the end of each sentence.
        spelling_nats: (N,), cost of spelling the token if its id does not restore it, else 0.
        lengths: (S,), number of tokens, <eos> included.
        num_eojeol: (S,), number of space-delimited units.
        num_chars: (S,), number of characters, one for the line end included.
        documents: (S,), index of each sentence's document in ``doc_ids``.
        doc_ids: D names.
        status: tokenizer status -> number of lines, blank ones included.
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
    def counts(self) -> SplitStats:
        """Return the counts of the whole text."""
        return SplitStats(
            num_tokens=len(self.ids),
            num_unk=int((self.ids == UNK_ID).sum()),
            num_eojeol=int(self.num_eojeol.sum()),
            num_chars=int(self.num_chars.sum()),
            num_lines=sum(self.status.values()),
            spelling_nats=float(self.spelling_nats.sum()),
        )

    def same_text(self, other: EvaluationText) -> bool:
        """Return whether both have the same documents of the same size; tokens may differ."""
        return self.doc_ids == other.doc_ids and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("documents", "num_chars", "num_eojeol")
        )


class TextBuilder:
    """Concatenates encoded lines to an ``EvaluationText``.

    Args:
        vocab_size: V, which determines the dtype of ids.
    """

    def __init__(self, vocab_size: int) -> None:
        self._dtype = id_dtype(vocab_size)
        self._ids: list[Ids] = []
        self._columns: dict[str, list[npt.NDArray[Any]]] = {
            name: [] for name in ("spelling_nats", "lengths", "num_eojeol", "num_chars")
        }
        self._documents: list[Ints] = []
        self._doc_index: dict[str, int] = {}
        self._status: Counter[str] = Counter()

    def add(self, lines: EncodedText) -> None:
        """Append lines."""
        not_blank = lines.lengths > 0
        self._ids.append(lines.ids.astype(self._dtype))
        for name, arrays in self._columns.items():
            values = getattr(lines, name)
            arrays.append(values if name == "spelling_nats" else values[not_blank])
        self._status += lines.status_counts()
        doc_ids = lines.table.column("doc_id").filter(pa.array(not_blank)).to_pylist()
        index = [self._doc_index.setdefault(doc_id, len(self._doc_index)) for doc_id in doc_ids]
        self._documents.append(np.array(index, dtype=np.int64))

    def build(self) -> EvaluationText:
        """Return all lines as one text; there must be at least one."""
        columns = {name: np.concatenate(arrays) for name, arrays in self._columns.items()}
        return EvaluationText(
            np.concatenate(self._ids),
            **columns,
            documents=np.concatenate(self._documents),
            doc_ids=list(self._doc_index),
            status=dict(sorted(self._status.items())),
        )


def read_split(folder: Path, split: str, run: TrainedRun) -> EvaluationText:
    """Read a split of a prepared corpus with the vocabulary of a run."""
    builder = TextBuilder(len(run.vocab))
    unicode = run.settings.corpus.unicode
    for lines in read_prepared(folder, split, run.vocab, run.spelling, unicode):
        builder.add(lines)
    return builder.build()


def read_texts(corpus: CorpusConfig, runs: Sequence[TrainedRun]) -> list[EvaluationText]:
    """Read all documents of a corpus as one text, once for each run.

    Every distinct tokenizer processes the text once. Runs that were trained on the same prepared
    corpus share the result.

    Args:
        corpus: where the text is; its splits are ignored.
        runs: whose tokenizers and vocabularies to use.

    Raises:
        CorpusError: the text cannot be read or has no Hangul.
        TokenizerError: a tokenizer does not start.
    """
    sources = find_sources(corpus)
    if not any(
        HANGUL.search(text) for lines in read_corpus(corpus, sources) for text in lines.texts
    ):
        named = ", ".join(str(source.path) for source in sources[:3])
        more = f" and {len(sources) - 3:,} more" if len(sources) > 3 else ""
        raise CorpusError(f"corpus={corpus.name}: no Hangul in {named}{more}; give Korean text")
    by_tokenizer: dict[tuple[object, ...], dict[str, TrainedRun]] = {}
    for run in runs:
        by_tokenizer.setdefault(_tokenizer_key(run), {})[run.fingerprint] = run
    texts: dict[str, EvaluationText] = {}
    notes = Notes()
    for group in by_tokenizer.values():
        notes = Notes()  # every tokenizer reads the same files and gets the same notes
        texts |= _tokenize(read_corpus(corpus, sources, notes), group)
    for line in notes.lines():
        logger.warning("%s", line)
    return [texts[run.fingerprint] for run in runs]


def _tokenizer_key(run: TrainedRun) -> tuple[object, ...]:
    """Return everything that determines the tokens of a text."""
    tokenizer, unicode = run.settings.tokenizer, run.settings.corpus.unicode
    version = tokenizer_version(tokenizer, run.tokenizer_model)
    return tokenizer.name, version, run.tokenizer_model, unicode


def _tokenize(
    blocks: Iterator[LineBlock], runs: dict[str, TrainedRun]
) -> dict[str, EvaluationText]:
    """Tokenize a text once and encode it with the vocabulary of each run, by fingerprint."""
    first, *others = runs.values()
    builders = [TextBuilder(len(run.vocab)) for run in runs.values()]
    description = first.settings.tokenizer.name
    with (
        first.reader() as encoder,
        ProgressBar(desc=description, unit="line", leave=False) as bar,
    ):
        for lines in encoder.read(block._replace(split="text") for block in blocks):
            builders[0].add(lines)
            for builder, run in zip(builders[1:], others, strict=True):
                builder.add(
                    EncodedText.from_table(lines.table, run.vocab, run.spelling, lines.unicode)
                )
            bar.update(len(lines.table))
    return {name: builder.build() for name, builder in zip(runs, builders, strict=True)}
