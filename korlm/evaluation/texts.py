"""Read texts to evaluate on: token ids with the counts of every sentence and document.

    run = korlm.load("outputs/runs/DIR")
    (text,) = read_texts(CorpusConfig(name="mine", files=["mine.txt"]), [run])

Splits of the training corpus are read from the prepared corpus, any other text is tokenized.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from korlm.config import CorpusConfig
from korlm.corpus.reader import read_corpus
from korlm.corpus.records import LineBlock, Notes
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
        doc_ids: names of the D documents.
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


def build_text(parts: Sequence[EncodedText], vocab_size: int) -> EvaluationText:
    """Concatenate encoded lines, at least one of which is not blank.

    Of the tables of the lines, only doc_id and status are used.
    """
    lines = EncodedText.concatenate(parts)
    not_blank = lines.lengths > 0
    doc_ids = lines.table.column("doc_id").filter(pa.array(not_blank)).combine_chunks()
    documents = doc_ids.dictionary_encode()
    return EvaluationText(
        ids=lines.ids.astype(id_dtype(vocab_size)),
        spelling_nats=lines.spelling_nats,
        lengths=lines.lengths[not_blank],
        num_eojeol=lines.num_eojeol[not_blank],
        num_chars=lines.num_chars[not_blank],
        documents=documents.indices.to_numpy().astype(np.int64),
        doc_ids=documents.dictionary.to_pylist(),
        status=dict(sorted(lines.status_counts().items())),
    )


def _without_text(lines: EncodedText) -> EncodedText:
    """Return lines without the columns that ``build_text`` does not use, to save memory."""
    return dataclasses.replace(lines, table=lines.table.select(["doc_id", "status"]))


def read_split(folder: Path, split: str, run: TrainedRun) -> EvaluationText:
    """Read a split of a prepared corpus with the vocabulary of a run."""
    unicode = run.settings.corpus.unicode
    batches = read_prepared(folder, split, run.vocab, run.spelling, unicode)
    return build_text(list(map(_without_text, batches)), len(run.vocab))


def read_texts(corpus: CorpusConfig, runs: Sequence[TrainedRun]) -> list[EvaluationText]:
    """Read all documents of a corpus as one text, once for each run.

    Every distinct tokenizer processes the text once. Runs that were trained on the same prepared
    corpus share the result.

    The splits of the corpus are ignored.

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
    parts: dict[str, list[EncodedText]] = {name: [] for name in runs}
    with (
        first.text_encoder() as encoder,
        ProgressBar(desc=first.settings.tokenizer.name, unit="line", leave=False) as bar,
    ):
        for lines in encoder.read(block._replace(split="text") for block in blocks):
            parts[first.fingerprint].append(_without_text(lines))
            for run in others:
                encoded = EncodedText.from_table(
                    lines.table, run.vocab, run.spelling, lines.unicode
                )
                parts[run.fingerprint].append(_without_text(encoded))
            bar.update(len(lines.table))
    return {name: build_text(parts[name], len(run.vocab)) for name, run in runs.items()}
