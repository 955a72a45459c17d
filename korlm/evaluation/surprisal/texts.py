"""Compute surprisals and log-probabilities of texts in memory, for use in Python.

Axes: M texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from korlm.config import ScoreContext, ScoreUnit, choice_of
from korlm.corpus.lines import LineBlock
from korlm.dataset.text_encoder import EncodedText, checked_texts
from korlm.evaluation.surprisal.frequencies import train_counts
from korlm.evaluation.surprisal.scorer import SurprisalScorer, rebatch
from korlm.evaluation.surprisal.tables import rows_of, schema_of
from korlm.evaluation.token_scores import Floats, score_tokens, segment_sums
from korlm.runs.trained_run import TrainedRun


def surprisal_table(
    run: TrainedRun,
    texts: str | Sequence[str],
    unit: ScoreUnit | str,
    context: ScoreContext | str,
    entropy: bool,
) -> pa.Table:
    """Return the surprisal of every morph, eojeol or sentence; see ``LanguageModelRun.surprisal``.

    ``texts`` are one line each, together one document; a str is a single line.

    Raises:
        ConfigError: there is no such unit or context.
        CorpusError: a text is not a str or has a lone surrogate.
    """
    unit, context = choice_of(ScoreUnit, "unit", unit), choice_of(ScoreContext, "context", context)
    entropy = entropy and unit is not ScoreUnit.sentence
    scorer = SurprisalScorer(run.inference_model(), run.start_id, context, entropy)
    counts = train_counts(run, unit is ScoreUnit.eojeol)
    tables = [rows_of(batch, unit, counts) for batch in scorer.score(_encoded(run, texts))]
    return pa.concat_tables([schema_of(unit, entropy).empty_table(), *tables]).combine_chunks()


def log_probs(run: TrainedRun, texts: str | Sequence[str], open_vocabulary: bool) -> Floats:
    """Return the natural log-probability of each text, (M,); see ``LanguageModelRun.score``.

    Raises:
        CorpusError: a text is not a str or has a lone surrogate.
    """
    model, scores = run.inference_model(), [np.zeros(0)]
    for window in rebatch(_encoded(run, texts)):
        ids, spelling_nats, lengths = window.with_blank_lines()
        nats = score_tokens(model, ids, lengths, run.start_id).nats
        scores.append(-segment_sums(nats + spelling_nats * open_vocabulary, lengths))
    return np.concatenate(scores) + 0.0  # turns -0 into 0


def _encoded(run: TrainedRun, texts: str | Sequence[str]) -> Iterator[EncodedText]:
    """Encode texts in batches, as one document."""
    return run.text_encoder().read([LineBlock("text", "", 1, checked_texts(texts))])
