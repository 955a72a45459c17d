"""Measure how much of a text is restored from Kkma's morphemes: identical eojeols and errors.

    python scripts/bench/recompose.py outputs/prepared/FOLDER [--split valid]

Trains the detokenizer on train, detokenizes --split, and compares with the text. Each row is an
input: the morphemes with or without tags and spaces. Identical eojeols are those in the longest
common subsequence with the eojeols of the line; errors are edit operations per character of the
text, spaces included. If kiwipiepy is installed, its ``join`` (which needs tags) gets the same
morphemes.
"""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench_utils import argument_parser
from rapidfuzz.distance import LCSseq, Levenshtein

from korlm.dataset.storage.shards import read_columns, shard_paths
from korlm.detokenizers.kkma.detokenizer import KkmaDetokenizer, untrained_spacing
from korlm.detokenizers.kkma.training import train_detokenizer
from korlm.detokenizers.kkma.training_data import read_aligned_tokens
from korlm.detokenizers.registry import MAX_TOKENS
from korlm.utils.errors import install_command

# Kkma's tags -> the Sejong tags of kiwi, where they differ.
SEJONG = {
    **{"NNM": "NNB", "VXV": "VX", "VXA": "VX", "MDT": "MM", "MDN": "MM", "MAC": "MAJ"},
    **{"JKM": "JKB", "JKI": "JKV", "EPH": "EP", "EPT": "EP", "EPP": "EP", "ETD": "ETM"},
    **{tag: "EF" for tag in ("EFN", "EFQ", "EFO", "EFA", "EFI", "EFR")},
    **{"ECE": "EC", "ECD": "EC", "ECS": "EC", "XPV": "XPN", "OL": "SL", "OH": "SH", "ON": "SN"},
    **{"UN": "NNG", "EMO": "SW", "NR": "NR"},
}
# A final consonant as a letter of its own -> the jamo that kiwi expects.
FINALS = dict(zip("ㄴㄹㅁㅂ", "\u11ab\u11af\u11b7\u11b8", strict=True))


class Line(NamedTuple):
    """A line of text and Kkma's analysis."""

    text: str
    morphs: list[str]
    tags: list[str]
    eojeol: list[int]


Detokenize = Callable[[Line], str]


def read_split(folder: Path, split: str) -> Iterator[Line]:
    """Yield the lines of a split that have morphemes, with normalized spaces."""
    for path in shard_paths(folder / "tokens", split):
        for batch in read_columns(path, ["text", "morphs", "tags", "eojeol"]):
            for row in batch.to_pylist():
                if row["morphs"]:
                    text = " ".join(unicodedata.normalize("NFC", row["text"]).split())
                    yield Line(text, row["morphs"], row["tags"], row["eojeol"])


def measure(name: str, lines: Sequence[Line], detokenize: Detokenize) -> Counter[tuple[str, str]]:
    """Print a row of the table; return the (text, restored) eojeols that differ, with counts."""
    identical = num_eojeols = edits = chars = 0
    failures: Counter[tuple[str, str]] = Counter()
    started = time.perf_counter()
    restored = [detokenize(line) for line in lines]
    seconds = time.perf_counter() - started
    for line, text in zip(lines, restored, strict=True):
        expected, actual = line.text.split(), text.split()
        identical += LCSseq.similarity(expected, actual)
        num_eojeols += len(expected)
        edits += Levenshtein.distance(line.text, text)
        chars += len(line.text)
        if len(expected) == len(actual):
            failures.update((a, b) for a, b in zip(expected, actual, strict=True) if a != b)
    print(
        f"{name:44} {100 * identical / num_eojeols:7.2f} % {100 * edits / chars:7.3f} % "
        f"{seconds:7.1f} s",
        flush=True,
    )
    return failures


def kiwi_variants() -> dict[str, Detokenize]:
    """Return kiwi's join with given and with predicted spaces; nothing if it is not installed."""
    try:
        from kiwipiepy import Kiwi
    except ImportError as error:
        print(f"kiwipiepy's join: skipped ({error}): {install_command('kiwipiepy')}")
        return {}
    kiwi = Kiwi()

    def sejong(morph: str, tag: str) -> tuple[str, str]:
        if tag[:1] == "E" and morph[0] in FINALS:
            morph = FINALS[morph[0]] + morph[1:]
        return morph, "SN" if tag == "NR" and morph[0].isdigit() else SEJONG.get(tag, tag)

    def given_spaces(line: Line) -> str:
        words: dict[int, list[tuple[str, str]]] = {}
        for morph, tag, number in zip(line.morphs, line.tags, line.eojeol, strict=True):
            words.setdefault(number, []).append(sejong(morph, tag))
        # Kiwi may insert spaces into an eojeol; the eojeols are given here.
        return " ".join(kiwi.join(word).replace(" ", "") for word in words.values())

    def predicted_spaces(line: Line) -> str:
        return str(kiwi.join([sejong(m, t) for m, t in zip(line.morphs, line.tags, strict=True)]))

    return {"kiwipiepy: tags, spaces": given_spaces, "kiwipiepy: tags": predicted_spaces}


def concatenate(line: Line) -> str:
    """Return the morphemes of each eojeol, concatenated."""
    eojeols: dict[int, str] = {}
    for morph, number in zip(line.morphs, line.eojeol, strict=True):
        eojeols[number] = eojeols.get(number, "") + morph
    return " ".join(eojeols.values())


def main() -> None:
    """Train the detokenizer and print a row per input."""
    parser = argument_parser(__doc__)
    parser.add_argument("prepared", type=Path, help="folder of a corpus prepared with Kkma")
    parser.add_argument("--split", default="valid", help="split that is restored")
    parser.add_argument(
        "--failures", type=int, default=0, help="print this many of the most frequent failures"
    )
    options = parser.parse_args()
    started = time.perf_counter()
    trained = train_detokenizer(read_aligned_tokens(options.prepared, MAX_TOKENS))
    seconds = time.perf_counter() - started
    print(f"trained in {seconds:.1f} s: {len(trained.decisions):,} decisions")
    rules = KkmaDetokenizer({}, untrained_spacing())
    lines = list(read_split(options.prepared, options.split))
    print(f"{'input: morphemes and ...':44} {'eojeols':>9} {'errors':>9}")
    measure("spaces (concatenated)", lines, concatenate)
    measure("spaces (rules only)", lines, lambda x: rules.detokenize(x.morphs, None, x.eojeol))
    detokenize = trained.detokenize
    failures = measure("tags, spaces", lines, lambda x: detokenize(x.morphs, x.tags, x.eojeol))
    measure("spaces", lines, lambda x: detokenize(x.morphs, None, x.eojeol))
    measure("tags", lines, lambda x: detokenize(x.morphs, x.tags))
    measure("nothing else", lines, lambda x: detokenize(x.morphs))
    for name, variant in kiwi_variants().items():
        measure(name, lines, variant)
    for (expected, actual), count in failures.most_common(options.failures):
        print(f"{count:5} {expected} {actual}")


if __name__ == "__main__":
    main()
