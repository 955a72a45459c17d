"""The model of tagging.

Axes: B batch, T tokens, U units (which have one label each), L labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import TaggingConfig, TagHead, TagLabels, TrainSettings
from korlm.dataset.vocab import PAD_ID, Vocab
from korlm.modules.encoder import build_encoder
from korlm.modules.trainable import Trainable
from korlm.tasks.heads.crf import Allowed, LinearChainCRF
from korlm.text.label_schemes import Scheme, may_follow


class Tagger(Trainable):
    """Encoder, a linear layer, and a CRF or a softmax over the labels of each unit.

    The hidden state of a unit is the forward state at its last token and the backward state at its
    first one: both have read the whole unit.

    Args:
        settings: of the run.
        vocab: of the prepared corpus.
        labels: the L labels.
    """

    def __init__(self, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]) -> None:
        super().__init__()
        config = settings.task
        assert isinstance(config, TaggingConfig)
        self.pairs: nn.Embedding | None = None
        if config.pair_dim:
            self.pairs = nn.Embedding(config.pair_buckets, config.pair_dim)
            nn.init.uniform_(self.pairs.weight, -0.1, 0.1)
        self.encoder = build_encoder(
            *(settings.model, len(vocab), vocab.tokens),
            bidirectional=config.bidirectional,
            pretrained=bool(settings.init),
            feature_dim=2 * config.pair_dim,
        )
        self.embedding = self.encoder.embedding
        self.bidirectional = config.bidirectional
        self.output = nn.Linear(self.encoder.output_dim, len(labels))
        self.crf: LinearChainCRF | None = None
        if config.head is TagHead.crf:
            allowed = allowed_labels(labels, config.scheme)
            is_spans = config.labels is TagLabels.spans
            self.crf = LinearChainCRF(len(labels), allowed if is_spans else None)

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``Trainable.muon_weights``."""
        return self.encoder.muon_weights()

    def forward(
        self, inputs: Tensor, lengths: Tensor | None, is_unit: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the scores of the labels of all units.

        Args:
            inputs: int64 (B, T).
            lengths: int64 (B,) on the CPU, tokens of each row; None: T.
            is_unit: bool (B, T), True at the last token of each unit; each row has one or more.

        Returns:
            float32 (B, U, L), and int64 (B,) on the CPU, the units of each row.
        """
        features = None if self.pairs is None else self._pair_features(inputs)
        encoded = self.encoder(inputs, lengths=lengths, features=features, needs_state=False)
        last = compressed(torch.arange(inputs.shape[1], device=inputs.device), is_unit)  # (B, U)
        hidden = encoded.output
        if self.bidirectional:
            first = torch.cat([torch.zeros_like(last[:, :1]), last[:, :-1] + 1], 1)
            forward, backward = hidden.chunk(2, -1)
            hidden = torch.cat([_at(forward, last), _at(backward, first)], -1)
        else:
            hidden = _at(hidden, last)
        return self.output(hidden).float(), is_unit.sum(1).cpu()

    def _pair_features(self, inputs: Tensor) -> Tensor:
        """Return the embeddings of the pairs that each token ends and begins, (B, T, 2 * P)."""
        assert self.pairs is not None
        padded = F.pad(inputs, (1, 1), value=PAD_ID)
        # Odd multipliers spread ids over the buckets; int64 products of ids do not overflow.
        buckets = (padded[:, :-1] * 1_000_003 + padded[:, 1:] * 7_919) % self.pairs.num_embeddings
        pairs = self.pairs(buckets)  # (B, T + 1, P)
        return torch.cat([pairs[:, :-1], pairs[:, 1:]], -1)

    def nll(self, scores: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        """Return the negative log-likelihood in nats, summed over the batch.

        Args:
            scores: float32 (B, U, L).
            targets: int64 (B, U); rows with a label that is not in [0, L) are left out.
            counts: int64 (B,), units of each row.
        """
        num_labels = scores.shape[-1]
        valid = (
            torch.arange(targets.shape[1], device=targets.device) < _to(counts, targets)[:, None]
        )
        known = ((targets < num_labels) | ~valid).all(1)
        targets = torch.where(valid & known[:, None], targets, 0)
        if self.crf is not None:
            nll = self.crf.log_partition(scores, counts) - self.crf.score(scores, targets, counts)
            return torch.where(known, nll, 0.0).sum()
        nll = F.cross_entropy(scores.transpose(1, 2), targets, reduction="none")
        return torch.where(valid & known[:, None], nll, 0.0).sum()

    def decode(self, scores: Tensor, counts: Tensor) -> Tensor:
        """Return the best labels, int64 (B, U); undefined beyond the units of a row."""
        return scores.argmax(-1) if self.crf is None else self.crf.decode(scores, counts)

    def marginals(self, scores: Tensor, counts: Tensor) -> Tensor:
        """Return the probability of each label of each unit, (B, U, L)."""
        return scores.softmax(-1) if self.crf is None else self.crf.marginals(scores, counts)

    def log_prob(self, scores: Tensor, counts: Tensor, allowed: Tensor) -> Tensor:
        """Return the log-probability that all labels are allowed ones, bool (B, U, L); (B,)."""
        if self.crf is not None:
            return self.crf.log_prob(scores, counts, allowed)
        units = scores.log_softmax(-1).masked_fill(~allowed, -torch.inf).logsumexp(-1)  # (B, U)
        valid = torch.arange(units.shape[1], device=units.device) < _to(counts, units)[:, None]
        return torch.where(valid, units, 0.0).sum(1)


def _to(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Return the values (B, U, D) of (B, T, D) at the indices (B, U)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def compressed(values: Tensor, mask: Tensor) -> Tensor:
    """Move the values at which a mask is True to the beginning of each row.

    Args:
        values: (B, T) or (T,).
        mask: bool (B, T).

    Returns:
        (B, U) for the largest number U of True in a row; other values follow in shorter rows.

    >>> mask = torch.tensor([[True, False, True], [False, True, False]])
    >>> compressed(torch.tensor([5, 6, 7]), mask)
    tensor([[5, 7],
            [6, 5]])
    """
    order = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)
    size = int(mask.sum(1).max())
    return values.expand(mask.shape).gather(1, order[:, :size])


def allowed_labels(labels: Sequence[str], scheme: Scheme) -> Allowed:
    """Return the transitions that the scheme of the labels of spans allows."""
    return Allowed(
        torch.tensor([may_follow(label, None, scheme) for label in labels]),
        torch.tensor([[may_follow(label, old, scheme) for label in labels] for old in labels]),
        torch.tensor([may_follow("", label, scheme) for label in labels]),
    )
