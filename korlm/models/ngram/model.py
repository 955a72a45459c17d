"""Backoff n-gram language model: tables of probabilities and backoff weights, looked up in batches.

Axes: B batch, T time, V vocabulary, N n-grams of one order.

The tables form a trie: the key of an n-gram of order k is (id of its first k - 1 tokens) * V + its
last token, and its id is the index of the key among the sorted keys of order k. An unknown n-gram
has the id of a sentinel at the end of the table, with a key that matches nothing and backoff weight
1, so unknown contexts need no special case. All n-grams of a batch are looked up at once, order by
order.

<eos> and <bos> in the input start a sentence and are both stored as <eos>. N-grams that contain a
sentence start have no tokens before it, so contexts never reach into the previous sentence: a
stream gets the same scores as its sentences one by one in KenLM.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from korlm.config import NgramConfig
from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID
from korlm.models.base import LanguageModel
from korlm.models.ngram.columns import Columns
from korlm.models.ngram.counts import Ids, count_grams, max_order
from korlm.models.ngram.smoothing import NO_KEY, NgramTable, estimate
from korlm.modules.base import State
from korlm.modules.padding import last_steps
from korlm.utils.errors import ConfigError, output_errors


class NgramLM(LanguageModel):
    """N-gram model with backoff; uniform until ``fit`` or ``set_tables``.

    The state is the last order - 1 ids, int64 (B, order - 1), initially <pad>.
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
        """Set the tables of all orders, unigrams (V entries) first, on the CPU."""
        assert len(tables) == self.order and len(tables[0].keys) == self.vocab_size
        for k, table in enumerate(tables, start=1):
            sentinel = [0] if k > 1 else []  # no unigram is unknown
            floats = (np.append(part, sentinel) for part in (table.log_probs, table.backoffs))
            keys = np.append(table.keys, NO_KEY) if k > 1 else table.keys
            self._set_table(k, NgramTable(keys, *floats))

    def _set_table(self, k: int, table: NgramTable) -> None:
        """Set the table of an order, the sentinel included."""
        floats = {"log_probs": table.log_probs, "backoffs": table.backoffs}
        for name, values in floats.items():
            self.register_buffer(f"{name}_{k}", torch.from_numpy(values).to(torch.float32))
        if k > 1:
            self.register_buffer(f"keys_{k}", torch.from_numpy(table.keys).to(torch.int64))

    def tables(self) -> list[NgramTable]:
        """Return the tables of all orders, as ``set_tables`` takes them."""
        tables = []
        for k in range(1, self.order + 1):
            end = None if k == 1 else -1
            keys = self._keys(k)[:end].cpu().numpy() if k > 1 else np.arange(self.vocab_size)
            floats = (self._log_probs(k)[:end], self._backoffs(k)[:end])
            tables.append(NgramTable(keys, *(part.double().cpu().numpy() for part in floats)))
        return tables

    def fit(self, ids: Ids, check: Callable[[], None] = lambda: None) -> None:
        """Count the n-grams of a text and estimate smoothed probabilities.

        Args:
            ids: (N,), the train split with <eos> after each sentence; an array or an ``IdStream``.
            check: called between steps; it may raise to stop.

        Raises:
            ConfigError: no sentence is as long as an n-gram.
            OutputError: the disk of temporary files is full.
        """
        longest = max_order(ids)
        if longest < self.order:
            raise ConfigError(
                f"model.order={self.order}: the longest n-grams of train have order {longest}: "
                "lower model.order or use more text"
            )
        memory = self.config.memory_gb
        limit = None if memory is None else int(memory * 1e9)
        with (
            output_errors(
                Path(tempfile.gettempdir()),
                "folder by the variable TMPDIR",
                "repeat the command, or give another folder by the variable TMPDIR",
            ),
            Columns(limit) as columns,
        ):
            levels = count_grams(ids, self.vocab_size, self.order, check, columns)
            tables = estimate(levels, self.config, columns, check)
        for k, table in enumerate(tables, start=1):
            self._set_table(k, table)

    @property
    def num_grams(self) -> int:
        """Return the number of n-grams of all orders."""
        sizes = [len(self._log_probs(k)) - 1 for k in range(2, self.order + 1)]
        return self.vocab_size + sum(sizes)

    def _keys(self, k: int) -> Tensor:
        return self.get_buffer(f"keys_{k}")

    def _log_probs(self, k: int) -> Tensor:
        return self.get_buffer(f"log_probs_{k}")

    def _backoffs(self, k: int) -> Tensor:
        return self.get_buffer(f"backoffs_{k}")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Resize the buffers first: only the checkpoint has the number of n-grams."""
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and not name.endswith("_1"):
                self.register_buffer(name, buffer.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def initial_state(self, batch_size: int) -> State:
        """See ``LanguageModel.initial_state``."""
        shape = (batch_size, self.order - 1)
        return (torch.full(shape, PAD_ID, device=self._log_probs(1).device),)

    def _find(self, k: int, prefixes: Tensor, tokens: Tensor) -> Tensor:
        """Return the ids of the n-grams of order k: prefixes (ids of order k - 1) + tokens."""
        table = self._keys(k)
        keys = prefixes * self.vocab_size + tokens
        index = torch.searchsorted(table, keys)
        return torch.where(table[index] == keys, index, len(table) - 1)

    def _history(self, inputs: Tensor, state: State | None) -> Tensor:
        """Return state and inputs, (B, order - 1 + T), with <eos> for <bos>."""
        (before,) = state or self.initial_state(len(inputs))
        return torch.cat([before, inputs.masked_fill(inputs == BOS_ID, EOS_ID)], 1)

    def _new_state(self, history: Tensor, lengths: Tensor | None) -> State:
        """Return the last order - 1 valid ids of each row."""
        return (last_steps(history, self.order - 1, lengths),)

    def _suffix_ids(self, history: Tensor, longest: int) -> list[Tensor]:
        """Return the ids of the n-grams of 1, 2, ... ``longest`` tokens that end at each new token.

        ``history`` is (B, order - 1 + T), and each result (B, T).
        """
        T, prefixes = history.shape[1] - self.order + 1, history
        suffixes = [history[:, self.order - 1 :]]
        for k in range(2, longest + 1):
            prefixes = self._find(k, prefixes[:, :-1], history[:, k - 1 :])
            suffixes.append(prefixes[:, prefixes.shape[1] - T :])
        return suffixes

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.log_probs``."""
        history = self._history(inputs, state)
        contexts = self._suffix_ids(history, self.order - 1)[: self.order - 1]
        # backoff[k]: summed log backoff weights of the contexts of more than k tokens.
        total = torch.zeros(inputs.shape, dtype=torch.float64, device=inputs.device)
        backoff = [total]
        for k, ids in reversed(list(enumerate(contexts, start=1))):
            total = total + self._backoffs(k)[ids]
            backoff.insert(0, total)
        log_probs = backoff[0][..., None].float() + self._log_probs(1)  # (B, T, V)
        flat = log_probs.view(-1)
        starts = torch.arange(0, len(flat), self.vocab_size, device=flat.device)  # of the rows
        # Longer n-grams overwrite shorter ones. Those of one context are contiguous in the table.
        for k, ids in enumerate(contexts, start=2):
            table, parents = self._keys(k), ids.flatten() * self.vocab_size
            first = torch.searchsorted(table, parents)
            sizes = torch.searchsorted(table, parents + self.vocab_size) - first
            index = (first - sizes.cumsum(0) + sizes).repeat_interleave(sizes)
            index += torch.arange(len(index), device=index.device)
            place = (starts - parents).repeat_interleave(sizes) + table[index]
            backed_off = backoff[k - 1].flatten().repeat_interleave(sizes)
            flat[place] = (self._log_probs(k)[index] + backed_off).float()
        return log_probs, self._new_state(history, lengths)

    def advance(self, inputs: Tensor, state: State | None = None) -> State:
        """See ``LanguageModel.advance``."""
        return self._new_state(self._history(inputs, state), None)

    def token_nll(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """See ``LanguageModel.token_nll``; looks up the targets only."""
        history = self._history(inputs, state)
        grams = self._target_grams(history, targets)
        log_probs = self._log_probs(1)[targets].double()
        for k, (context, gram) in enumerate(grams, start=2):
            backed_off = log_probs + self._backoffs(k - 1)[context]
            is_known = gram < len(self._keys(k)) - 1
            log_probs = torch.where(is_known, self._log_probs(k)[gram].double(), backed_off)
        nll = torch.where(targets == PAD_ID, 0.0, -log_probs).float()
        return nll, self._new_state(history, lengths)

    def _target_grams(self, history: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the ids of context and of context + target for orders 2, 3, ..., each (B, T)."""
        memory = self.order - 1
        following = history[:, memory + 1 :]
        if bool(((following == targets[:, :-1]) | (following == PAD_ID)).all()):
            # Targets are the inputs shifted by one: the n-gram of a target is the next context.
            row = torch.cat([history[:, : memory + 1], targets], 1)
            suffixes = self._suffix_ids(row, self.order)
            return [(c[:, :-1], g[:, 1:]) for c, g in itertools.pairwise(suffixes)]
        contexts = self._suffix_ids(history, memory)[:memory]
        return [(c, self._find(k, c, targets)) for k, c in enumerate(contexts, start=2)]
