"""Compare rescoring over a prefix tree with scoring every hypothesis in padded batches.

    python scripts/bench/rescore.py outputs/runs/DIR LISTS [--hypotheses 2000] [--batch 1000]

korlm scores a prefix that several hypotheses share once, as a node of a tree. The peer scores the
distinct hypotheses of a batch in padded rows, sorted by length, with 16, 64 or 256 rows at a time;
the fastest counts. Tokenizing, the same for both, is measured apart. The advantage of the tree
grows with the number of tokens per node. Exit code 1 if the scores differ by 1e-4 nats or more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from bench_utils import argument_parser, in_turns, time_calls

from korlm.corpus.records import LineBlock
from korlm.rescoring.encoded_texts import normalize_spaces
from korlm.rescoring.formats.reader import open_lists
from korlm.rescoring.prefix_tree import PrefixTree, tree_nats
from korlm.runs.trained_run import TrainedRun

Ints = npt.NDArray[np.int64]
PADDED_ROWS = (16, 64, 256)
ROUNDS = 3
TOLERANCE = 1e-4  # nats


def tree_scores(run: TrainedRun, ids: Ints, lengths: Ints) -> npt.NDArray[np.float64]:
    """Return the nats of each hypothesis, computed over a prefix tree as korlm.rescore does."""
    tree = PrefixTree.build(ids, lengths)
    nats = tree_nats(run.model, tree, run.start_id)[tree.node_of]
    return np.add.reduceat(nats, np.cumsum(lengths) - lengths)


@torch.inference_mode()
def padded_scores(
    run: TrainedRun, ids: Ints, lengths: Ints, num_rows: int
) -> npt.NDArray[np.float64]:
    """Return the nats of each hypothesis, computed in padded batches of ``num_rows``."""
    begins, scores = np.cumsum(lengths) - lengths, np.empty(len(lengths))
    order = np.argsort(-lengths, kind="stable")
    for first in range(0, len(order), num_rows):
        rows = order[first : first + num_rows]
        positions = np.arange(int(lengths[rows[0]]))
        is_token = positions < lengths[rows, None]
        targets = np.where(is_token, ids[np.where(is_token, begins[rows, None] + positions, 0)], 0)
        inputs = np.concatenate([np.full((len(rows), 1), run.start_id), targets[:, :-1]], 1)
        nats, _ = run.model.token_nll(torch.from_numpy(inputs), torch.from_numpy(targets))
        scores[rows] = nats.double().sum(1).numpy()
    return scores


def tokenize(run: TrainedRun, texts: list[str], batch_size: int) -> list[tuple[Ints, Ints]]:
    """Return ids and lengths of the distinct hypotheses of each batch; print the speed."""
    batches: list[tuple[Ints, Ints]] = []

    def read_batches() -> None:
        for at in range(0, len(texts), batch_size):
            distinct = list(dict.fromkeys(texts[at : at + batch_size]))
            encoded = list(text_encoder.read([LineBlock("text", "", 1, distinct)]))
            lengths = np.concatenate([part.lengths for part in encoded])
            batches.append((np.concatenate([part.ids for part in encoded]), lengths))

    with run.text_encoder() as text_encoder:
        text_encoder.read_texts(texts[:1])  # start the tokenizer
        seconds = time_calls(read_batches).wall
    print(f"tokenizing: {len(texts) / seconds:,.0f} hypotheses/s")
    return batches


def main() -> None:
    """Measure both, print hypotheses per second and the largest difference of scores."""
    parser = argument_parser(__doc__)
    parser.add_argument("run", type=Path, help="directory of a trained run")
    parser.add_argument("lists", type=Path, metavar="LISTS", help="file with n-best lists")
    parser.add_argument("--hypotheses", type=int, default=2000, help="hypotheses to score")
    parser.add_argument("--batch", type=int, default=1000, help="hypotheses of a prefix tree")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = TrainedRun.load(Path(options.run))
    texts = [
        normalize_spaces(hyp.text) for nbest in open_lists(options.lists) for hyp in nbest.hyps
    ]
    texts = texts[: options.hypotheses]
    batches = tokenize(run, texts, options.batch)
    num_tokens = sum(len(ids) for ids, _ in batches)
    num_nodes = sum(
        len(level.ids) for batch in batches for level in PrefixTree.build(*batch).levels
    )

    def score_all(scores: Callable[..., npt.NDArray[np.float64]], *arguments: int) -> None:
        for batch in batches:
            scores(run, *batch, *arguments)

    variants = {"prefix tree": partial(score_all, tree_scores)}
    variants |= {
        f"padded, {rows} rows": partial(score_all, padded_scores, rows) for rows in PADDED_ROWS
    }
    durations = in_turns({n: partial(time_calls, v) for n, v in variants.items()}, ROUNDS)
    fastest = {name: min(times).wall for name, times in durations.items()}
    for name, seconds in fastest.items():
        print(f"{name}: {len(texts) / seconds:,.0f} hypotheses/s")
    tree = fastest.pop("prefix tree")
    print(
        f"{num_tokens:,} tokens, {num_nodes:,} nodes ({num_tokens / num_nodes:.1f} tokens per "
        f"node); the tree is {min(fastest.values()) / tree:.2f} times as fast as the best padded"
    )
    difference = max(
        np.abs(tree_scores(run, *batch) - padded_scores(run, *batch, 64)).max() for batch in batches
    )
    print(f"largest difference of scores: {difference:.1e} nats")
    raise SystemExit(bool(difference >= TOLERANCE))


if __name__ == "__main__":
    main()
