"""Build ONNX graphs for sherpa-onnx, which passes inputs and outputs by position.

offline:    x (N, L) int64, x_lens (N,) int64 -> nll (N,), nats of each hypothesis; start and end of
            the sentence are added inside
streaming:  x (N, 1) int64, h0, c0 (num_layers, N, hidden_size) -> log_softmax (N, V), next_h0,
            next_c0; sherpa-onnx starts with zeros and the token sos_id

The offline graph runs the nodes of ``onnx_step`` in a loop (Scan), the streaming graph once. It
packs the parts of a state of any kind into h0 and c0 in turn, so that an LSTM's h are in h0 and its
c in c0. Each part is one row (num_layers), padded with zeros to the longest (hidden_size), and
relative to the initial state, which is thus zeros; integers are exact up to 2^24 in float32.

Axes: N hypotheses (the batch), L tokens, V vocabulary.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from korlm.dataset.vocab import EOS_ID, UNK_ID, Vocab
from korlm.exporting.onnx_graph import FLOAT, INT64, Array, Graph, LoopBody, Shapes
from korlm.exporting.onnx_step import LOG_PROBS, add_step, begin_state, state_shapes
from korlm.models.neural import NeuralLM
from korlm.modules.onnx_nodes import IDS, NEXT
from korlm.utils.errors import ExportError, reading

logger = logging.getLogger(__name__)

LOG_SOFTMAX, NLL = "log_softmax", "nll"
MAX_ID = 1_000_000  # of a recognizer's token
_SYMBOL = re.compile("<.*>|#.*")  # <blk>, <unk>, <sos/eos>, #0: no pieces of text


class TokenTable(NamedTuple):
    """The tokens of a recognizer, R of them.

    Attributes:
        tokens: (R,), by the recognizer's id; empty for an id without a token.
        ids: int64 (R + 1,), the ids of the model. The last one is the input before the first token
            of a sentence: the recognizer's id R, ``sos_id``.
    """

    tokens: Sequence[str]
    ids: npt.NDArray[np.int64]

    @property
    def start_id(self) -> int:
        """The id R."""
        return len(self.tokens)

    def save(self, path: Path) -> None:
        """Write a ``tokens.txt``: token, blank, id on each line."""
        rows = (f"{token} {number}\n" for number, token in enumerate(self.tokens) if token)
        path.write_text("".join(rows), encoding="utf-8", newline="\n")


def tokens_of_run(vocab: Vocab, start_id: int) -> TokenTable:
    """Return the table of a recognizer that has the ids of the model."""
    return TokenTable(vocab.tokens, np.append(np.arange(len(vocab)), start_id))


def read_tokens(path: Path, vocab: Vocab, start_id: int) -> TokenTable:
    """Read the ``tokens.txt`` of a recognizer: token, blank and id on each line.

    Tokens that the model reads as <unk> are logged. ``start_id`` is the id of the input before the
    first token of a sentence.

    Raises:
        ExportError: the file cannot be read, or the model has none of its tokens.
    """
    name = f"recognizer_tokens={path}"
    with (
        reading(name, ExportError, "name another file", "cannot be read"),
        open(path, encoding="utf-8") as file,
    ):
        lines = list(file)  # str.splitlines would also split at characters of tokens
    by_id: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        token, _, digits = line.rstrip().rpartition(" ")
        if not (token and digits.isascii() and digits.isdecimal() and int(digits) <= MAX_ID):
            raise ExportError(
                f"{name}: line {number} must be a token, a blank and an id of at most {MAX_ID:,}"
            )
        by_id[int(digits)] = token
    tokens = [by_id.get(number, "") for number in range(max(by_id, default=-1) + 1)]
    ids = vocab.encode(tokens)
    if not (ids != UNK_ID).any():
        raise ExportError(
            f"{name}: none of its {len(by_id):,} tokens is in the vocabulary of the run: train "
            "with the recognizer's tokenizer"
        )
    unknown = [tokens[number] for number in np.flatnonzero(ids == UNK_ID)]
    unknown = [token for token in unknown if token and not _SYMBOL.fullmatch(token)]
    if unknown:
        logger.warning(
            "%s: %s of %s tokens are not in the vocabulary of the run and are scored as <unk>: %s",
            *(path, f"{len(unknown):,}", f"{len(tokens):,}"),
            " ".join(unknown[:10]) + " ..." * (len(unknown) > 10),
        )
    return TokenTable(tokens, np.append(ids, start_id))


def build_offline(model: NeuralLM, graph: Graph, table: TokenTable) -> bytes:
    """Return the serialized graph that scores whole hypotheses of the ids of ``table``.

    Inputs: ``x``, int64 (N, L), the hypotheses without start and end, and ``x_lens``, int64 (N,),
    their lengths without padding. Output: ``nll``, float32 (N,), -ln p of each with its end.

    Raises:
        ExportError: the model has no ``export_step``.
    """
    body = _loop_body(model, graph)
    loop = Graph("loop.")
    add, axis_0, axis_1 = loop.add, loop.integers([0]), loop.integers([1])
    ids = add("Gather", loop.weight("token_ids", table.ids), "x")
    num_rows, num_tokens = add("Shape", "x", start=0, end=1), add("Shape", "x", start=1)
    column = add("Concat", num_rows, axis_1, axis=0)
    start, eos = (
        add("Expand", loop.weight(name, np.array([[token_id]])), column)
        for name, token_id in (("start", table.ids[-1]), ("eos", EOS_ID))
    )
    zero, one = (loop.weight(f"scalar_{value}", np.array(value)) for value in (0, 1))
    num_steps = add("Add", add("Squeeze", num_tokens, axis_0), one)
    positions = add("Unsqueeze", add("Range", zero, num_steps, one), axis_0)  # (1, L + 1)
    lengths = add("Unsqueeze", "x_lens", axis_1)
    inputs, padded = add("Concat", start, ids, axis=1), add("Concat", ids, eos, axis=1)
    targets = add("Where", add("Equal", positions, lengths), eos, padded)  # (N, L + 1)
    begin = [
        add("Expand", loop.weight(f"begin.{name}", part), _shape(loop, num_rows, part))
        for name, part in begin_state(model).items()
    ]
    steps = [add("Transpose", part, perm=[1, 0]) for part in (inputs, targets)]
    outputs = [f"end.{name}" for name in model.state_names()] + ["log_probs_by_step"]
    loop.add_many("Scan", *begin, *steps, names=outputs, body=body, num_scan_inputs=2)
    log_probs = add("Transpose", outputs[-1], perm=[1, 0])  # (N, L + 1)
    padding = loop.weight("padding", np.array(0, np.float32))
    kept = add("Where", add("LessOrEqual", positions, lengths), log_probs, padding)
    add("Neg", add("ReduceSum", kept, axis_1, keepdims=0), name=NLL)
    return loop.build(
        {"x": (INT64, ["N", "L"]), "x_lens": (INT64, ["N"])},
        {NLL: (FLOAT, ["N"])},
        _metadata(table),
    )


def _loop_body(model: NeuralLM, graph: Graph) -> LoopBody:
    """Return the body of the loop: state, ids (N,), targets (N,) -> new state, log_prob (N,)."""
    add_step(model, graph)
    axis_1 = graph.integers([1])
    targets = graph.add("Unsqueeze", "target", axis_1)
    log_prob = graph.add("GatherElements", LOG_PROBS, targets, axis=1)
    graph.add("Squeeze", log_prob, axis_1, name="log_prob")
    state = state_shapes(model)
    ids: Shapes = dict.fromkeys((IDS, "target"), (INT64, ["batch"]))
    new_state = {NEXT + name: kind for name, kind in state.items()}
    return graph.body({**state, **ids}, {**new_state, "log_prob": (FLOAT, ["batch"])})


def build_streaming(model: NeuralLM, graph: Graph, table: TokenTable) -> bytes:
    """Return the serialized graph of one token; see the module for its inputs and outputs.

    Raises:
        ExportError: the model has no ``export_step``.
    """
    begin = begin_state(model)
    num_layers = (len(begin) + 1) // 2
    hidden_size = max(1, *(part[0].size for part in begin.values()))
    graph.add("Squeeze", "x", graph.integers([1]), name="token")
    graph.add("Gather", graph.weight("token_ids", table.ids), "token", name=IDS)
    packs = {"packed_h": list(begin.items())[::2], "packed_c": list(begin.items())[1::2]}
    for pack, parts in packs.items():
        _unpack(graph, pack, parts)
    add_step(model, graph)
    for pack, parts in packs.items():
        _pack(graph, pack, parts, num_layers, hidden_size)
    public = {"packed_h": "h0", "packed_c": "c0"}
    if table.ids[:-1].tolist() == list(range(model.vocab_size)):
        public[LOG_PROBS] = LOG_SOFTMAX
    else:
        scored = graph.weight("scored_ids", table.ids[:-1])
        graph.add("Gather", LOG_PROBS, scored, axis=1, name=LOG_SOFTMAX)
    public |= {NEXT + name: NEXT + new for name, new in (("packed_h", "h0"), ("packed_c", "c0"))}
    parts_of_state = [prefix + name for name in begin for prefix in ("", NEXT)]
    graph.rename({name: f"part.{name}" for name in parts_of_state} | public)
    packed = (FLOAT, [num_layers, "N", hidden_size])
    return graph.build(
        {"x": (INT64, ["N", 1]), "h0": packed, "c0": packed},
        {
            LOG_SOFTMAX: (FLOAT, ["N", table.start_id]),
            **{NEXT + name: packed for name in ("h0", "c0")},
        },
        {
            **_metadata(table),
            "num_layers": str(num_layers),
            "hidden_size": str(hidden_size),
        },
    )


def _metadata(table: TokenTable) -> dict[str, str]:
    """Return what sherpa-onnx and people read in both graphs."""
    return {
        "model_type": "rnnlm",
        "version": "1",
        "model_author": "korlm",
        "vocab_size": str(table.start_id),
        "sos_id": str(table.start_id),
    }


def _shape(graph: Graph, num_rows: str, part: Array) -> str:
    """Add the shape of N rows of a part of a state, (1, ...); return its name."""
    if part.ndim == 1:
        return num_rows
    return graph.add("Concat", num_rows, graph.integers(list(part.shape[1:])), axis=0)


def _unpack(graph: Graph, pack: str, parts: list[tuple[str, Array]]) -> None:
    """Add the parts of a state, (N, ...), that one input (num_layers, N, hidden_size) holds."""
    for row, (name, part) in enumerate(parts):
        index = graph.weight(f"{pack}.{row}", np.array(row))
        first, end, axis = (graph.integers([at]) for at in (0, part[0].size, 1))
        values = graph.add("Slice", graph.add("Gather", pack, index), first, end, axis)
        shape = [0, *part.shape[1:]] if part.ndim > 1 else [-1]
        values = graph.add("Reshape", values, graph.integers(shape))
        if part.dtype == np.int64:
            values = graph.add("Cast", values, to=INT64)
        graph.add("Add", values, graph.weight(f"begin.{name}", part), name=name)


def _pack(
    graph: Graph, pack: str, parts: list[tuple[str, Array]], num_layers: int, hidden_size: int
) -> None:
    """Add one output (num_layers, N, hidden_size) with parts of the new state."""
    rows = []
    for name, part in parts:
        change = graph.add("Sub", NEXT + name, f"begin.{name}")
        if part.dtype == np.int64:
            change = graph.add("Cast", change, to=FLOAT)
        size = part[0].size
        flat = graph.add("Reshape", change, graph.integers([0, size]))
        padding = graph.integers([0, 0, 0, hidden_size - size])
        rows.append(graph.add("Unsqueeze", graph.add("Pad", flat, padding), graph.integers([0])))
    if not rows:  # a state of one part leaves the second output as it is
        graph.add("Identity", pack, name=NEXT + pack)
        return
    layers = graph.add("Concat", *rows, axis=0)
    missing = graph.integers([0, 0, 0, num_layers - len(rows), 0, 0])
    graph.add("Pad", layers, missing, name=NEXT + pack)
