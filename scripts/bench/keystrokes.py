"""Keystrokes that completion saves, and how long an answer takes, on lines of real text.

    python scripts/bench/keystrokes.py outputs/runs/DIR valid.txt --lines 200

Lines are typed by the keys of the two-set keyboard, shift aside; a blank is a key, and so is the
choice of a completion, which writes the whole eojeol and the blank behind it. After each key the
user sees the k likeliest eojeols and takes the right one as soon as it stands there, if that saves
a key. Saved is 1 - keys typed / keys without completion, for k shown and for one. One thread.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from korlm.corpus.files import read_lines
from korlm.generation.completion import MAX_EXPANSIONS, Completer
from korlm.runs.trained_run import TrainedRun
from korlm.text.hangul import keys_of


def prefixes(eojeol: str) -> Iterator[tuple[str, int]]:
    """What is typed after each key of an eojeol, none included, and how many keys are left."""
    keys = keys_of(eojeol)
    for typed in range(len(keys)):
        yield keys[:typed], len(keys) - typed


class Typist:
    """Types lines and takes completions."""

    def __init__(self, completer: Completer, shown: int, effort: int) -> None:
        self.completer, self.shown, self.effort = completer, shown, effort
        self.keys = 0
        self.typed = {1: 0, shown: 0}
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.blank_seconds: list[float] = []

    def type_line(self, line: str) -> None:
        """Types a line, with completion and without."""
        before = ""
        for eojeol in line.split():
            needed = {shown: len(keys_of(eojeol)) + 1 for shown in self.typed}
            self.keys += len(keys_of(eojeol)) + 1
            for keys, left in prefixes(eojeol):
                offered = self._ask(before + keys, new_blank=not keys)
                for shown in self.typed:
                    if eojeol in offered[:shown]:
                        needed[shown] = min(needed[shown], len(keys) + 1)
                if left == 1 or needed[1] < len(keys_of(eojeol)) + 1:
                    break
            for shown, count in needed.items():
                self.typed[shown] += count
            before += eojeol + " "

    def _ask(self, text: str, new_blank: bool) -> list[str]:
        start, cpu_start = time.perf_counter(), time.thread_time()
        found = self.completer.complete(text, self.shown, self.effort)
        seconds = time.perf_counter() - start
        (self.blank_seconds if new_blank else self.seconds).append(seconds)
        self.cpu_seconds.append(time.thread_time() - cpu_start)
        return [completion.text for completion in found.eojeols]


def main() -> None:
    """Types the lines and prints one figure a line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--lines", type=int, default=200, help="drawn from the file")
    parser.add_argument("--shown", type=int, default=3, help="completions on the screen")
    parser.add_argument("--effort", type=int, default=MAX_EXPANSIONS, help="of each search")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [line for line in read_lines(options.file) if line.strip()]
    lines = random.Random(options.seed).sample(lines, min(options.lines, len(lines)))
    with Completer(TrainedRun.load(Path(options.run))) as completer:
        completer.complete("시작 ")  # Kkma starts
        gc.freeze()  # as the command does
        typist = Typist(completer, options.shown, options.effort)
        for line in lines:
            typist.type_line(line)
    print(f"lines {len(lines)}, keys {typist.keys}, effort {options.effort}")
    for shown, typed in sorted(typist.typed.items()):
        print(f"keystrokes saved, {shown} shown: {1 - typed / typist.keys:.1%}")
    for name, seconds in (
        ("a key", typist.seconds),
        ("a blank, the context read anew", typist.blank_seconds),
        ("both, CPU time of the thread", typist.cpu_seconds),
    ):
        median, high = np.quantile(seconds, [0.5, 0.95]) * 1000
        print(f"{name}: median {median:.1f} ms, 95 % within {high:.1f} ms, {len(seconds)} times")


if __name__ == "__main__":
    main()
