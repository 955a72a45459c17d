"""How much of a text comes back from Kkma's morphs, in equal eojeols and in errors.

    python scripts/bench/recompose.py outputs/prepared/FOLDER [--split valid]

Learns on train, puts the split together again and compares with the text. Rows: what is told beside
the morphs. An eojeol counts as equal where it stands in the longest common sequence of the eojeols
of its line; errors are edits over the characters of the text, blanks included. With kiwipiepy
its join does the same with the same morphemes; it needs their tags.
"""

from __future__ import annotations

import argparse
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rapidfuzz.distance import LCSseq, Levenshtein

from korlm.dataset.storage.shards import read_columns, shard_paths
from korlm.detokenizers.kkma.detokenizer import KkmaDetokenizer, untrained_spacing
from korlm.detokenizers.kkma.training import train_detokenizer
from korlm.detokenizers.kkma.training_data import read_aligned_tokens
from korlm.detokenizers.registry import MAX_TOKENS
from korlm.utils.errors import install_command

# Kkma's tags that the Sejong tags of kiwi spell in another way.
SEJONG = {
    **{"NNM": "NNB", "VXV": "VX", "VXA": "VX", "MDT": "MM", "MDN": "MM", "MAC": "MAJ"},
    **{"JKM": "JKB", "JKI": "JKV", "EPH": "EP", "EPT": "EP", "EPP": "EP", "ETD": "ETM"},
    **{tag: "EF" for tag in ("EFN", "EFQ", "EFO", "EFA", "EFI", "EFR")},
    **{"ECE": "EC", "ECD": "EC", "ECS": "EC", "XPV": "XPN", "OL": "SL", "OH": "SH", "ON": "SN"},
    **{"UN": "NNG", "EMO": "SW", "NR": "NR"},
}
BARE = dict(zip("ㄴㄹㅁㅂ", "\u11ab\u11af\u11b7\u11b8", strict=True))


class Line(NamedTuple):
    """A line of text and Kkma's analysis of it."""

    text: str
    morphs: list[str]
    tags: list[str]
    eojeol: list[int]


Writer = Callable[[Line], str]


def lines_of(folder: Path, split: str) -> Iterator[Line]:
    """The lines of a split that have morphs."""
    for path in shard_paths(folder / "tokens", split):
        for batch in read_columns(path, ["text", "morphs", "tags", "eojeol"]):
            for row in batch.to_pylist():
                if row["morphs"]:
                    text = " ".join(unicodedata.normalize("NFC", row["text"]).split())
                    yield Line(text, row["morphs"], row["tags"], row["eojeol"])


def measure(name: str, lines: Sequence[Line], write: Writer) -> Counter[tuple[str, str]]:
    """Prints the figures of one way of writing; gives the eojeols that went wrong."""
    equal = eojeols = edits = chars = 0
    failed: Counter[tuple[str, str]] = Counter()
    begin = time.perf_counter()
    written = [write(line) for line in lines]
    seconds = time.perf_counter() - begin
    for line, text in zip(lines, written, strict=True):
        wanted, found = line.text.split(), text.split()
        equal += LCSseq.similarity(wanted, found)
        eojeols += len(wanted)
        edits += Levenshtein.distance(line.text, text)
        chars += len(line.text)
        if len(wanted) == len(found):
            failed.update((a, b) for a, b in zip(wanted, found, strict=True) if a != b)
    print(
        f"{name:44} {100 * equal / eojeols:7.2f} % {100 * edits / chars:7.3f} % {seconds:7.1f} s",
        flush=True,
    )
    return failed


def kiwi_writers() -> dict[str, Writer]:
    """Kiwi's join with blanks told and with its own; empty, with the reason printed, without it."""
    try:
        from kiwipiepy import Kiwi
    except ImportError as error:
        print(f"kiwipiepy's join: skipped ({error}): {install_command('kiwipiepy')}")
        return {}
    kiwi = Kiwi()

    def sejong(morph: str, tag: str) -> tuple[str, str]:
        if tag[:1] == "E" and morph[0] in BARE:
            morph = BARE[morph[0]] + morph[1:]
        return morph, "SN" if tag == "NR" and morph[0].isdigit() else SEJONG.get(tag, tag)

    def told(line: Line) -> str:
        words: dict[int, list[tuple[str, str]]] = {}
        for morph, tag, number in zip(line.morphs, line.tags, line.eojeol, strict=True):
            words.setdefault(number, []).append(sejong(morph, tag))
        # It may part what stood together; that is not its task here.
        return " ".join(kiwi.join(word).replace(" ", "") for word in words.values())

    def guessed(line: Line) -> str:
        return str(kiwi.join([sejong(m, t) for m, t in zip(line.morphs, line.tags, strict=True)]))

    return {"kiwipiepy: tags, blanks": told, "kiwipiepy: tags": guessed}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("prepared", type=Path, help="folder of a prepared corpus of Kkma's tokens")
    parser.add_argument("--split", default="valid")
    parser.add_argument("--failures", type=int, default=0, help="eojeols that fail most, so many")
    options = parser.parse_args()
    begin = time.perf_counter()
    detokenizer = train_detokenizer(read_aligned_tokens(options.prepared, "train", MAX_TOKENS))
    rules = KkmaDetokenizer({}, untrained_spacing())
    print(
        f"learnt in {time.perf_counter() - begin:.1f} s: {len(detokenizer.decisions):,} decisions"
    )
    lines = list(lines_of(options.prepared, options.split))
    print(f"{'told beside the morphs':44} {'eojeols':>9} {'errors':>9}")
    measure("morphs one after another: blanks", lines, _plain)
    measure("rules alone: blanks", lines, lambda x: rules.detokenize(x.morphs, None, x.eojeol))
    detokenize = detokenizer.detokenize
    failed = measure("tags, blanks", lines, lambda x: detokenize(x.morphs, x.tags, x.eojeol))
    measure("blanks", lines, lambda x: detokenize(x.morphs, None, x.eojeol))
    measure("tags", lines, lambda x: detokenize(x.morphs, x.tags))
    measure("nothing", lines, lambda x: detokenize(x.morphs))
    for name, write in kiwi_writers().items():
        measure(name, lines, write)
    for (wanted, found), count in failed.most_common(options.failures):
        print(f"{count:5} {wanted} {found}")


def _plain(line: Line) -> str:
    words: dict[int, str] = {}
    for morph, number in zip(line.morphs, line.eojeol, strict=True):
        words[number] = words.get(number, "") + morph
    return " ".join(words.values())


if __name__ == "__main__":
    main()
