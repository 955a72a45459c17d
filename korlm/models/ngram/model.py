"""The n-gram language model: tables of probabilities and backoff weights, searched in batches.

Axes: B batch, T time, V vocabulary, N n-grams of one order.

An n-gram is found as in a trie: its key is the id of its first k - 1 tokens * V + its last token,
and its id is the key's place among the sorted keys of order k. What is not found has the id of the
last entry of the table, which no key equals, and whose backoff weight is 1: so nothing is ever
searched outside a table and no case is apart. All n-grams of a batch are found at once, order by
order.

An <eos> or <bos> that is read begins a sentence. It is kept as <eos>, after which the n-grams that
begin sentences stand in the tables; none of these has tokens before it, so that contexts end there
by themselves. The model scores a stream as KenLM scores its sentences one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.config import NgramConfig
from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID
from korlm.models.base import LanguageModel
from korlm.models.ngram.counts import count_grams, max_order
from korlm.models.ngram.smoothing import NgramTable, estimate
from korlm.modules.state import State
from korlm.utils.errors import ConfigError

NO_KEY = np.iinfo(np.int64).max


class NgramLM(LanguageModel):
    """N-gram model with backoff; uniform until its tables are set.

    A state is the last order - 1 ids, int64 (B, order - 1), <pad> where nothing was read.

    Args:
        config: order and smoothing.
        vocab_size: V.
    """

    def __init__(
        self, config: NgramConfig, vocab_size: int, tokens: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.order = config.order
        self.config = config
        uniform = np.full(vocab_size, -np.log(vocab_size - 2))
        uniform[[PAD_ID, BOS_ID]] = -np.inf
        empty = [np.zeros(0) for _ in range(2)]
        no_grams = [NgramTable(np.zeros(0, np.int64), *empty) for _ in range(config.order - 1)]
        self.set_tables(
            [NgramTable(np.arange(vocab_size), uniform, np.zeros(vocab_size)), *no_grams]
        )

    def set_tables(self, tables: Sequence[NgramTable]) -> None:
        """Takes over tables of all orders, the unigrams' V entries first, onto the CPU."""
        assert len(tables) == self.order and len(tables[0].keys) == self.vocab_size
        for k, table in enumerate(tables, start=1):
            last = [0] if k > 1 else []  # unigrams are all there
            self._set(f"log_probs_{k}", np.concatenate([table.log_probs, last]), torch.float32)
            self._set(f"backoffs_{k}", np.concatenate([table.backoffs, last]), torch.float32)
            if k > 1:
                self._set(f"keys_{k}", np.append(table.keys, NO_KEY), torch.int64)

    def _set(self, name: str, values: npt.NDArray[Any], dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.from_numpy(values).to(dtype))

    def tables(self) -> list[NgramTable]:
        """The tables as ``set_tables`` takes them."""
        found = []
        for k in range(1, self.order + 1):
            end = None if k == 1 else -1
            keys = self._keys(k)[:end].cpu().numpy() if k > 1 else np.arange(self.vocab_size)
            floats = (self._log_probs(k)[:end], self._backoffs(k)[:end])
            found.append(NgramTable(keys, *(part.double().cpu().numpy() for part in floats)))
        return found

    def fit(self, ids: npt.NDArray[Any], check: Callable[[], None] = lambda: None) -> None:
        """Counts the n-grams of a text and smooths them as the settings say.

        Args:
            ids: (N,) of train, <eos> after each sentence.
            check: called now and then; may raise, to stop.

        Raises:
            ConfigError: the text has no n-gram so long.
        """
        longest = max_order(ids)
        if longest < self.order:
            raise ConfigError(
                f"model.order={self.order}: no sentence of train is so long, the longest n-grams "
                f"are of order {longest}: lower model.order or give more text"
            )
        grams = count_grams(ids, self.vocab_size, self.order, check)
        check()
        self.set_tables(estimate(grams, self.config))

    @property
    def num_grams(self) -> int:
        """N-grams of all orders."""
        sizes = [len(self._log_probs(k)) - 1 for k in range(2, self.order + 1)]
        return self.vocab_size + sum(sizes)

    def _keys(self, k: int) -> Tensor:
        return self.get_buffer(f"keys_{k}")

    def _log_probs(self, k: int) -> Tensor:
        return self.get_buffer(f"log_probs_{k}")

    def _backoffs(self, k: int) -> Tensor:
        return self.get_buffer(f"backoffs_{k}")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Makes room first: how many n-grams there are stands in the checkpoint alone."""
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and not name.endswith("_1"):
                self.register_buffer(name, buffer.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def initial_state(self, batch_size: int) -> State:
        """Nothing read: <pad>, int64 (batch_size, order - 1)."""
        shape = (batch_size, self.order - 1)
        return (torch.full(shape, PAD_ID, device=self._log_probs(1).device),)

    def _find(self, k: int, prefixes: Tensor, tokens: Tensor) -> Tensor:
        """Ids of the n-grams of order k with these first k - 1 tokens (ids) and last tokens."""
        table = self._keys(k)
        keys = prefixes * self.vocab_size + tokens
        at = torch.searchsorted(table, keys)
        return torch.where(table[at] == keys, at, len(table) - 1)

    def _read(self, inputs: Tensor, state: State | None) -> Tensor:
        """(B, order - 1 + T): what was read before and now, each sentence begun by <eos>."""
        (before,) = state or self.initial_state(len(inputs))
        return torch.cat([before, inputs.masked_fill(inputs == BOS_ID, EOS_ID)], 1)

    def _after(self, read: Tensor, lengths: Tensor | None) -> State:
        """The last order - 1 ids of each row, or those before its end."""
        memory = self.order - 1
        if lengths is None:
            return (read[:, read.shape[1] - memory :],)
        last = lengths.to(read.device)[:, None] + torch.arange(memory, device=read.device)
        return (read.gather(1, last),)

    def _suffix_ids(self, read: Tensor, longest: int) -> list[Tensor]:
        """Ids of the n-grams of 1, 2, ... ``longest`` tokens that end at each new token.

        Args:
            read: (B, order - 1 + T).
            longest: at most order.

        Returns:
            A tensor (B, T) for each length.
        """
        T, beginning = read.shape[1] - self.order + 1, read
        found = [read[:, self.order - 1 :]]
        for k in range(2, longest + 1):
            beginning = self._find(k, beginning[:, :-1], read[:, k - 1 :])
            found.append(beginning[:, beginning.shape[1] - T :])
        return found

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.log_probs``."""
        read = self._read(inputs, state)
        contexts = self._suffix_ids(read, self.order - 1)[: self.order - 1]
        # What the contexts of k tokens and more weigh together, for each k up to order.
        total = torch.zeros(inputs.shape, dtype=torch.float64, device=inputs.device)
        totals = [total]
        for k, ids in reversed(list(enumerate(contexts, start=1))):
            total = total + self._backoffs(k)[ids]
            totals.insert(0, total)
        result = totals[0][..., None].float() + self._log_probs(1)  # (B, T, V)
        rows = result.view(-1, self.vocab_size)
        for k, ids in enumerate(contexts, start=2):
            table, parents = self._keys(k), ids.flatten() * self.vocab_size
            first = torch.searchsorted(table, parents)
            sizes = torch.searchsorted(table, parents + self.vocab_size) - first
            row = torch.repeat_interleave(sizes)
            nth = torch.arange(len(row), device=row.device) - (sizes.cumsum(0) - sizes)[row]
            at = first[row] + nth
            known = self._log_probs(k)[at] + totals[k - 1].flatten()[row]
            rows[row, table[at] - parents[row]] = known.float()
        return result, self._after(read, lengths)

    def advance(self, inputs: Tensor, state: State | None = None) -> State:
        """See ``LanguageModel.advance``."""
        return self._after(self._read(inputs, state), None)

    def token_nll(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.token_nll``; looks up the targets alone."""
        read = self._read(inputs, state)
        grams = self._of_targets(read, targets)
        result = self._log_probs(1)[targets].double()
        for k, (context, found) in enumerate(grams, start=2):
            backed_off = result + self._backoffs(k - 1)[context]
            is_there = found < len(self._keys(k)) - 1
            result = torch.where(is_there, self._log_probs(k)[found].double(), backed_off)
        nats = torch.where(targets == PAD_ID, 0.0, -result).float()
        return nats, self._after(read, lengths)

    def _of_targets(self, read: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For orders 2, 3, ...: ids of the targets' contexts and of both together, each (B, T)."""
        memory = self.order - 1
        following = read[:, memory + 1 :]
        if bool(((following == targets[:, :-1]) | (following == PAD_ID)).all()):
            # Text is read on: each n-gram of targets but the longest is the next one's context.
            row = torch.cat([read[:, : memory + 1], targets], 1)
            ending = self._suffix_ids(row, self.order)
            return [(c[:, :-1], g[:, 1:]) for c, g in itertools.pairwise(ending)]
        contexts = self._suffix_ids(read, memory)[:memory]
        return [(c, self._find(k, c, targets)) for k, c in enumerate(contexts, start=2)]
