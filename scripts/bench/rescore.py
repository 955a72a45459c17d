"""Hypotheses a second, beginnings read once against each hypothesis read by itself.

    python scripts/bench/rescore.py outputs/runs/DIR LISTS [--hypotheses 2000] [--batch 1000]

The other way reads the distinct hypotheses of a batch in padded rows, those of similar length side
by side; its best number of rows counts. Tokenizing is timed apart, both ways need it. The more
tokens a node of the shared beginnings stands for, the faster is the shared way. Limit: the two
differ by less than 1e-4 nats; exit code 1 beyond it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from korlm.corpus.lines import LineBlock
from korlm.rescoring.formats.reader import open_lists
from korlm.rescoring.lm_scorer import normalize_spaces
from korlm.rescoring.prefix_tree import PrefixTree, tree_nats
from korlm.runs.trained_run import TrainedRun, load_run

Ints = npt.NDArray[np.int64]
CPU = torch.device("cpu")


def shared(run: TrainedRun, ids: Ints, lengths: Ints) -> npt.NDArray[np.float64]:
    """Nats of each hypothesis, as korlm.rescore has them."""
    tree = PrefixTree.of(ids, lengths)
    nats = tree_nats(run.model, tree, run.start_id, CPU)[tree.node_of]
    return np.add.reduceat(nats, np.cumsum(lengths) - lengths)


@torch.inference_mode()
def padded(run: TrainedRun, ids: Ints, lengths: Ints, rows: int) -> npt.NDArray[np.float64]:
    """Nats of each hypothesis, ``rows`` at once, padded."""
    begins, found = np.cumsum(lengths) - lengths, np.empty(len(lengths))
    order = np.argsort(-lengths, kind="stable")
    for first in range(0, len(order), rows):
        chosen = order[first : first + rows]
        steps = np.arange(int(lengths[chosen[0]]))
        inside = steps < lengths[chosen, None]
        targets = np.where(inside, ids[np.where(inside, begins[chosen, None] + steps, 0)], 0)
        inputs = np.concatenate([np.full((len(chosen), 1), run.start_id), targets[:, :-1]], 1)
        nats, _ = run.model.token_nll(torch.from_numpy(inputs), torch.from_numpy(targets))
        found[chosen] = nats.double().sum(1).numpy()
    return found


def fastest(ways: dict[str, Callable[[], object]], rounds: int = 3) -> dict[str, float]:
    """Seconds of each way, the least of some rounds that take turns."""
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="a trained run")
    parser.add_argument("lists", type=Path, help="n-best lists")
    parser.add_argument("--hypotheses", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = load_run(Path(options.run))
    texts = [
        normalize_spaces(hyp.text) for nbest in open_lists(options.lists) for hyp in nbest.hyps
    ]
    texts = texts[: options.hypotheses]
    batches = []
    with run.reader() as reader:
        reader.read_texts(texts[:1])
        begun = time.perf_counter()
        for at in range(0, len(texts), options.batch):
            distinct = list(dict.fromkeys(texts[at : at + options.batch]))
            readings = list(reader.read([LineBlock("text", "", 1, distinct)]))
            lengths = np.concatenate([reading.lengths for reading in readings])
            batches.append((np.concatenate([r.ids for r in readings]), lengths))
        print(f"tokenizing: {len(texts) / (time.perf_counter() - begun):,.0f} hypotheses a second")
    tokens = sum(len(ids) for ids, _ in batches)
    nodes = sum(len(level.ids) for batch in batches for level in PrefixTree.of(*batch).levels)
    ways: dict[str, Callable[[], object]] = {}
    ways["shared"] = lambda: [shared(run, *batch) for batch in batches]
    for rows in (16, 64, 256):
        ways[f"padded, {rows} rows"] = partial(
            lambda n: [padded(run, *batch, n) for batch in batches], rows
        )
    seconds = fastest(ways)
    for name, taken in seconds.items():
        print(f"{name}: {len(texts) / taken:,.0f} hypotheses a second")
    differing = max(np.abs(shared(run, *b) - padded(run, *b, 64)).max() for b in batches)
    ratio = min(taken for name, taken in seconds.items() if name != "shared") / seconds["shared"]
    print(
        f"{tokens:,} tokens, {nodes:,} nodes ({tokens / nodes:.1f} tokens each); "
        f"shared {ratio:.2f} times as fast as the best padded"
    )
    print(f"largest difference {differing:.1e} nats")
    raise SystemExit(bool(differing >= 1e-4))


if __name__ == "__main__":
    main()
