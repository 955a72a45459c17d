"""The model of tagging.

Features that the encoder reads are computed by ``Tagger._features``, linear ones by
``korlm.tasks.heads.linear_features``; their settings are keys of ``TaggingConfig``.

Axes: B batch, T tokens, U units (which have one label each), L labels, N orders of n-grams, D size
of an embedding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import RecurrentConfig, TaggingConfig, TagHead, TagLabels, TrainSettings
from korlm.dataset.vocab import EOS_ID, PAD_ID, Vocab
from korlm.modules.base import Trainable
from korlm.modules.dropout import dropout_mask
from korlm.modules.encoder import build_encoder
from korlm.modules.padding import valid_mask
from korlm.tasks.heads.crf import AllowedTransitions, LinearChainCRF
from korlm.tasks.heads.linear_features import LinearFeatures, hash_ids
from korlm.tasks.morpheme_tags import NUM_TAGS
from korlm.text.label_schemes import Scheme, may_follow


class NgramEmbedding(nn.Module):
    """Embeddings of the n-grams that end and that begin at each token (Bojanowski et al. 2017).

    An n-gram that training has not seen has the embedding 0, unless it shares a bucket. Dropout of
    whole n-grams prepares the model for them.

    Args:
        orders: the N numbers of tokens.
        dim: D.
        num_buckets: rows of the table; a hash assigns each n-gram to one.
        dropout: probability of setting the embedding of an n-gram to 0.
    """

    def __init__(self, orders: Sequence[int], dim: int, num_buckets: int, dropout: float) -> None:
        super().__init__()
        self.orders, self.dropout = tuple(orders), dropout
        self.output_dim = 2 * len(orders) * dim
        self.table = nn.Embedding(num_buckets, dim)
        nn.init.zeros_(self.table.weight)

    def buckets(self, ids: Tensor, order: int) -> Tensor:
        """Return the buckets of all n-grams that overlap a row, int64 (B, T + order - 1)."""
        size = ids.shape[1] + order - 1
        padded = F.pad(ids, (order - 1, order - 1), value=PAD_ID)
        code = torch.full_like(padded[:, :size], order)
        for offset in range(order):
            code = hash_ids(code, padded[:, offset : offset + size])
        return code % self.table.num_embeddings

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings, (B, T, 2 * N * D), of ids (B, T) with ``PAD_ID`` at their end."""
        parts = []
        for order in self.orders:
            embeddings = self.table(self.buckets(ids, order))
            if self.training and self.dropout:
                embeddings = embeddings * dropout_mask(
                    embeddings, self.dropout, *embeddings.shape[:2], 1
                )
            parts += [embeddings[:, : ids.shape[1]], embeddings[:, order - 1 :]]
        return torch.cat(parts, -1)


class Tagger(Trainable):
    """Encoder, a linear layer, and a CRF or a softmax over the labels of each unit.

    The hidden state of a unit is the forward state at its last token and the backward state at its
    first one: both have read the whole unit.
    """

    def __init__(self, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]) -> None:
        super().__init__()
        config = settings.task
        assert isinstance(config, TaggingConfig)
        self.ngrams: NgramEmbedding | None = None
        if config.ngram_dim:
            self.ngrams = NgramEmbedding(
                *(config.ngram_orders, config.ngram_dim, config.ngram_buckets),
                dropout=config.ngram_dropout,
            )
        self.tags = nn.Embedding(NUM_TAGS, config.kkma_dim) if config.kkma_dim else None
        self.language_models: nn.Module | None = None
        model, feature_dim = settings.model, config.kkma_dim
        if self.ngrams is not None:
            feature_dim += self.ngrams.output_dim
        if config.encoder_dim:
            frozen = build_encoder(model, len(vocab), vocab.tokens, pretrained=True)
            self.language_models = frozen.requires_grad_(False)
            assert isinstance(model, RecurrentConfig)
            model = dataclasses.replace(
                model, hidden_dim=config.encoder_dim, num_layers=1, tie_weights=False
            )
            feature_dim += frozen.output_dim
        self.encoder = build_encoder(
            *(model, len(vocab), vocab.tokens),
            bidirectional=config.bidirectional,
            pretrained=bool(settings.init) and not config.encoder_dim,
            feature_dim=feature_dim,
        )
        self.embedding = self.encoder.embedding
        self.bidirectional = config.bidirectional
        self.output = nn.Linear(self.encoder.output_dim, len(labels))
        self.linear: LinearFeatures | None = None
        if config.linear_buckets:
            self.linear = LinearFeatures(
                *(vocab.tokens, len(labels), config.linear_buckets, config.linear_dropout)
            )
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
            inputs: int64 (B, T), or (B, T, 2), id and tag, with task.kkma_dim.
            lengths: int64 (B,) on the CPU, tokens of each row; None: T.
            is_unit: bool (B, T), True at the last token of each unit; each row has one or more.

        Returns:
            float32 (B, U, L), and int64 (B,) on the CPU, the units of each row.
        """
        ids, tags = inputs, None
        if self.tags is not None:
            ids, tags = inputs.unbind(-1)
        features = self._features(ids, tags, lengths)
        encoded = self.encoder(ids, lengths=lengths, features=features, needs_state=False)
        last = compressed(torch.arange(ids.shape[1], device=ids.device), is_unit)  # (B, U)
        hidden = encoded.output
        if self.bidirectional:
            first = torch.cat([torch.zeros_like(last[:, :1]), last[:, :-1] + 1], 1)
            forward, backward = hidden.chunk(2, -1)
            hidden = torch.cat([_at(forward, last), _at(backward, first)], -1)
        else:
            hidden = _at(hidden, last)
        scores = self.output(hidden).float()
        if self.linear is not None:
            scores = scores + self.linear(ids, last, tags).float()
        return scores, is_unit.sum(1).cpu()

    def _features(self, ids: Tensor, tags: Tensor | None, lengths: Tensor | None) -> Tensor | None:
        """Return what the encoder reads beside the embeddings of tokens, (B, T, F)."""
        features = []
        if self.ngrams is not None:
            features.append(self.ngrams(ids))
        if self.tags is not None:
            features.append(self.tags(tags))
        if self.language_models is not None:
            self.language_models.eval()  # no dropout
            # A language model begins each line after the <eos> of the line before.
            padded = F.pad(ids, (1, 0), value=EOS_ID)
            longer = None if lengths is None else lengths + 1
            states = self.language_models(padded, lengths=longer, needs_state=False)
            features.append(states.raw_output[:, 1:])
        return torch.cat(features, -1) if features else None

    def nll(self, scores: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        """Return the negative log-likelihood in nats, summed over the batch.

        Args:
            scores: float32 (B, U, L).
            targets: int64 (B, U); rows with a label that is not in [0, L) are left out.
            counts: int64 (B,), units of each row.
        """
        num_labels = scores.shape[-1]
        valid = valid_mask(targets, counts)
        known = ((targets < num_labels) | ~valid).all(1)
        targets = torch.where(valid & known[:, None], targets, 0)
        if self.crf is not None:
            return torch.where(known, self.crf.nll(scores, targets, counts), 0.0).sum()
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
        valid = valid_mask(units, counts)
        return torch.where(valid, units, 0.0).sum(1)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Return the values (B, U, D) of (B, T, D) at the indices (B, U)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def compressed(values: Tensor, mask: Tensor) -> Tensor:
    """Move the values, (B, T) or (T,), at which a mask (B, T) is True to the beginning of each row.

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


def allowed_labels(labels: Sequence[str], scheme: Scheme) -> AllowedTransitions:
    """Return the transitions that the scheme of the labels of spans allows."""
    return AllowedTransitions(
        torch.tensor([may_follow(label, None, scheme) for label in labels]),
        torch.tensor([[may_follow(label, old, scheme) for label in labels] for old in labels]),
        torch.tensor([may_follow("", label, scheme) for label in labels]),
    )
