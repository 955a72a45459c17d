"""Predictions of sequence to sequence: texts for lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from korlm.config import Seq2SeqConfig
from korlm.dataset.example_batches import padded_batches
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import Vocab
from korlm.detokenizers.base import Detokenizer
from korlm.tasks.base import Predictor
from korlm.tasks.seq2seq.model import Seq2Seq, search
from korlm.utils.errors import ConfigError
from korlm.utils.torch_backend import tf32


class TextPredictor(Predictor):
    """Writes one text or several for each line; an empty one for a blank line."""

    def __init__(
        self,
        vocab: Vocab,
        detokenizer: Detokenizer,
        config: Seq2SeqConfig,
        model: Seq2Seq,
        device: torch.device,
    ) -> None:
        self.vocab, self.detokenizer, self.config = vocab, detokenizer, config
        self.model, self.device = model.inference_copy(), device
        self.set_num_best(1)

    def set_num_best(self, number: int) -> None:
        """See ``Predictor.set_num_best``; columns of further texts end in _2, _3, ..."""
        if number > self.config.num_beams:
            raise ConfigError(
                f"num_best={number}: the run searches with task.num_beams={self.config.num_beams}; "
                "give at most that many"
            )
        self._endings = ["", *(f"_{rank}" for rank in range(2, number + 1))]
        kinds = (("prediction", pa.string()), ("log_prob", pa.float64()))
        self.schema = pa.schema([(name + e, kind) for e in self._endings for name, kind in kinds])

    @torch.inference_mode()
    def predict(self, lines: EncodedText) -> list[dict[str, Any]]:
        """See ``Predictor.predict``."""
        empty: dict[str, Any] = dict.fromkeys(self.schema.names) | {"prediction": ""}
        predictions = [dict(empty) for _ in lines.lengths]
        (non_blank,) = np.nonzero(lines.lengths)
        sequences = [ids for ids in lines.lines() if len(ids)]
        with tf32(False):
            for batch, inputs, lengths in padded_batches(sequences):
                memory, state = self.model.encode(inputs.to(self.device), lengths)
                num_best = len(self._endings)
                results = search(self.model, memory, state, lengths.tolist(), self.config, num_best)
                for number, hypotheses in zip(non_blank[batch].tolist(), results, strict=True):
                    row = predictions[number]
                    for ending, hypothesis in zip(self._endings, hypotheses, strict=False):
                        tokens = self.vocab.decode(hypothesis.ids)
                        row[f"prediction{ending}"] = self.detokenizer.detokenize(tokens)
                        row[f"log_prob{ending}"] = hypothesis.log_prob
        return predictions
