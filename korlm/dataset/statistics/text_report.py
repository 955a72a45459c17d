"""Formats the statistics of a corpus as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from korlm.dataset.statistics.scan import Statistics
from korlm.tokenizers.analysis import NORMAL_STATUSES
from korlm.utils.io.tables import text_table, tsv_cell

TEXT_CHARS = 50


def describe(statistics: Statistics) -> str:
    """Return the statistics as text."""
    parts = [
        _splits(statistics["splits"]),
        _unusual_statuses(statistics["splits"]),
        _longest(statistics["splits"]),
        _repeated(statistics["repeated_lines"]),
        _ranks(statistics["ranks"]),
        _unknown(statistics["unknown"]),
        _laws(statistics),
    ]
    return "\n\n".join(part for part in parts if part)


_ROWS: tuple[tuple[str, Callable[[Statistics], str]], ...] = (
    ("lines", lambda s: _count(s["num_lines"])),
    ("  blank", lambda s: _count(s["num_blank_lines"])),
    ("  repeats of earlier ones", lambda s: _of(s["num_duplicate_lines"], s["duplicate_share"])),
    ("  that are in train", lambda s: _lines_in_train(s)),
    ("    share of the morphs", lambda s: _percent(s.get("morphs_in_train_share"))),
    ("characters", lambda s: _count(s["num_chars"])),
    ("eojeol", lambda s: _count(s["num_eojeol"])),
    ("morphs", lambda s: _count(s["num_morphs"])),
    ("  an eojeol", lambda s: f"{s['num_morphs'] / max(s['num_eojeol'], 1):.2f}"),
    ("  a line: mean", lambda s: f"{s['morphs_per_line']['mean']:,.1f}"),
    ("          median", lambda s: f"{s['morphs_per_line']['median']:,.10g}"),
    ("          most", lambda s: _count(s["morphs_per_line"]["max"])),
    ("types (different morphs)", lambda s: _count(s["num_types"])),
    ("  once only (hapaxes)", lambda s: _hapaxes(s)),
    ("types / morphs", lambda s: f"{s['type_token_ratio']:.4f}"),
)


def _splits(splits: Statistics) -> str:
    cells = [["", *splits]]
    cells += [[head, *(value(split) for split in splits.values())] for head, value in _ROWS]
    return text_table(cells)


def _count(number: int) -> str:
    return f"{number:,}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def _of(number: int, share: float) -> str:
    return f"{number:,} ({_percent(share)})"


def _lines_in_train(split: Statistics) -> str:
    number = split.get("num_lines_in_train")
    return "" if number is None else _of(number, split["lines_in_train_share"])


def _hapaxes(split: Statistics) -> str:
    return _of(split["num_hapaxes"], split["num_hapaxes"] / max(split["num_types"], 1))


def _unusual_statuses(splits: Statistics) -> str:
    lines = [
        f"  {split}: {count:,} lines {status}"
        for split, counts in splits.items()
        for status, count in counts["status"].items()
        if status not in NORMAL_STATUSES
    ]
    lines += [
        f"  {split}: {counts['num_dropped']:,} characters in no token"
        for split, counts in splits.items()
        if counts["num_dropped"]
    ]
    heading = "lines with problems (each is listed in report.tsv):"
    return "\n".join([heading, *lines]) if lines else ""


def _longest(splits: Statistics) -> str:
    cells = [["longest lines", "characters", "morphs", "document", "line"]]
    for split, counts in splits.items():
        for line in counts["longest_lines"]:
            sizes = (_count(line["num_chars"]), _count(line["num_morphs"]))
            cells.append([f"  {split}", *sizes, _shorten(line["doc_id"]), _count(line["line"])])
    return text_table(cells)


def _repeated(lines: Sequence[Statistics]) -> str:
    rows = [f"  {line['count']:>7,} times  {_shorten(line['text'])}" for line in lines]
    return "\n".join(["most frequent lines of train:", *rows]) if rows else ""


def _ranks(ranks: Sequence[Statistics]) -> str:
    cells = [f"{row['rank']:,} {_shorten(row['morph'])} {row['count']:,}" for row in ranks]
    lines = [cells[begin : begin + 10] for begin in range(0, len(cells), 10)]
    return "\n".join(["rank, morph, count in train:", *("  " + " · ".join(row) for row in lines)])


def _unknown(unknown: Statistics) -> str:
    chosen = unknown["chosen"]
    cells = [[f"unknown in {unknown['split']}", "vocabulary", "tokens", "rate"]]
    cells += [["  the most frequent", *_row(row)] for row in unknown["by_size"]]
    cells += [[f"  vocab.min_freq={row['min_freq']}", *_row(row)] for row in unknown["by_min_freq"]]
    cells.append(["  this vocabulary", *_row(chosen)])
    return text_table(cells)


def _row(row: Statistics) -> list[str]:
    return [_count(row["size"]), _count(row["num_unk"]), _percent(row["rate"])]


def _laws(statistics: Statistics) -> str:
    lines = []
    if (zipf := statistics["zipf"]) is not None:
        lines.append(
            f"Zipf: frequency ~ rank^{zipf['slope']:.3f} (R² {zipf['r_squared']:.3f}; "
            f"{zipf['method']})"
        )
    if (heaps := statistics["heaps"]) is not None:
        points = statistics["splits"]["train"]["types"]
        shown = [point for i, point in enumerate(points) if i % 3 == 0 or i == len(points) - 1]
        lines.append(
            f"Heaps: types ~ morphs^{heaps['slope']:.3f} (R² {heaps['r_squared']:.3f}): "
            + ", ".join(f"{p['num_types']:,} in {p['num_morphs']:,}" for p in shown)
        )
    return "\n".join(lines)


def _shorten(text: str) -> str:
    short = text if len(text) <= TEXT_CHARS else text[: TEXT_CHARS - 1] + "…"
    return tsv_cell(short)
