"""Benchmark of language models of Korean: trains them on one text, writes a table.

    scripts/leaderboard                          all rows, on konlpy's texts
    scripts/leaderboard --only lstm,syllable     rows whose name has one of these parts
    scripts/leaderboard --corpus text 'corpus.files=[book.txt]'
    scripts/leaderboard --quick                  two small models, to try it

Each row is a run of korlm.train, with the command that reproduces it. Rows are kept: the same
command, interrupted or given again, trains what is missing, and ``--only`` adds rows to those that
are there. The folder (``--output``) then has ``leaderboard.html`` and ``leaderboard.md``.

Bits per character count the spelling of unknown tokens and can be compared between all rows; their
intervals are those of korlm.evaluate (2,000 bootstrap samples), those of pairs are Wilson's.
"""

from __future__ import annotations

import argparse
import html
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

import korlm
from korlm.evaluation.pairs.accuracy import accuracies, score_pairs
from korlm.evaluation.pairs.templates import pairs_of, phenomena
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import KorlmError
from korlm.utils.io.atomic_files import atomic_write, write_json
from korlm.utils.machine import available_cores

TOKENIZERS = (
    *("jamo", "syllable", "sentencepiece", "eojeol", "kkma", "okt"),
    *("komoran", "hannanum", "kiwi", "mecab"),
)
MODELS = ("ngram", "window", "rnn", "gru", "lstm", "transformer")
NEURAL_TOKENIZERS = ("syllable", "kkma", "kiwi")  # of the models besides n-gram and LSTM
QUICK = ("trainer.max_steps=5", "trainer.sample_tokens=0")

COLUMNS = {
    "row": "model and tokenizer",
    "bits": "bits per character (95\u00a0%)",
    "pairs": "minimal pairs, % (95\u00a0%)",
    "minutes": "training, minutes",
    "size": "parameters, MB",
    "command": "command",
}
ROW = "row.json"
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 78em; padding: 0 1em; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: 4px 14px 4px 0; border-bottom: 1px solid #8884; text-align: left; }}
td.number {{ text-align: right; white-space: nowrap; }}
code {{ font-size: 12px; }}
</style></head>
<body><h1>{title}</h1><p>{note}</p>
<div class="wide"><table><thead><tr>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table></div></body></html>
"""


def settings_of(options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the name of each row -> overrides of korlm.train."""
    rows = {}
    tokenizers = ("jamo", "syllable") if options.quick else TOKENIZERS
    for model in ("ngram", "lstm") if options.quick else MODELS:
        for tokenizer in tokenizers:
            if model in ("ngram", "lstm") or tokenizer in NEURAL_TOKENIZERS:
                rows[f"{model}-{tokenizer}"] = [f"model={model}", f"tokenizer={tokenizer}"]
    if options.quick:
        rows = {name: rows[name] for name in ("ngram-syllable", "lstm-jamo")}
        rows["lstm-jamo"] += QUICK
    if options.only:
        parts = options.only.split(",")
        rows = {n: row for n, row in rows.items() if any(part in n for part in parts)}
    return rows


def train(name: str, overrides: Sequence[str], options: argparse.Namespace) -> bool:
    """Train a row, or continue it; return whether it is complete."""
    folder = options.output / name
    command = [sys.executable, "-m", "korlm.train"]
    if (folder / "checkpoints" / "last.pt").is_file() and not (folder / "training.json").is_file():
        command.append(f"resume={folder}")
    else:
        command += [*overrides, *corpus_of(options), f"hydra.run.dir={folder}"]
    return subprocess.run(command, check=False).returncode == 0


def corpus_of(options: argparse.Namespace) -> list[str]:
    """Return the overrides that all rows have in common."""
    return [f"corpus={options.corpus}", *options.overrides]


def measure(name: str, overrides: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a trained row."""
    folder = options.output / name
    trained = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    with korlm.load(folder) as run:
        assert isinstance(run, TrainedRun)
        splits = run.evaluate()
        split = "test" if "test" in splits else "valid"
        kinds = list(phenomena())[: 1 if options.quick else None]
        pairs = [pair for kind in kinds for pair in pairs_of(kind, 10 if options.quick else 120)]
        accuracy = accuracies(pa.concat_tables(score_pairs(run, name, pairs)))["all"]
    command = ["scripts/train", *overrides, *corpus_of(options)]
    return {
        "row": name,
        "split": split,
        "bits": splits[split]["bits_per_char"],
        "bits_interval": splits[split]["intervals"]["bits_per_char"],
        "pairs": accuracy.accuracy,
        "pairs_interval": [accuracy.low, accuracy.high],
        "minutes": trained["seconds"] / 60,
        "parameters": trained.get("num_parameters"),
        "megabytes": (folder / "checkpoints" / "best.pt").stat().st_size / 1e6,
        "machine": machine(),
        "command": shlex.join(command),
    }


def machine() -> str:
    """Return what the training time depends on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    processor = platform.processor() or platform.machine()
    return f"{processor}, {available_cores()} cores, {device}, PyTorch {torch.__version__}"


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return all finished rows of a folder, the fewest bits per character first."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"*/{ROW}")]
    return sorted(rows, key=lambda row: (row["bits"], row["row"]))


def cells_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of a row of the table."""

    def percent(share: float | None) -> str:
        return "-" if share is None else f"{100 * share:.1f}"

    low, high = row["bits_interval"]
    return {
        "row": row["row"],
        "bits": f"{row['bits']:.3f} ({low:.3f} to {high:.3f})",
        "pairs": f"{percent(row['pairs'])} ({' to '.join(map(percent, row['pairs_interval']))})",
        "minutes": f"{row['minutes']:.1f}",
        "size": f"{row['parameters'] or 0:,}, {row['megabytes']:.1f}",
        "command": row["command"],
    }


def note_of(rows: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> str:
    """Return what the rows have in common."""
    machines = " / ".join(dict.fromkeys(row["machine"] for row in rows))
    splits = " and ".join(dict.fromkeys(row["split"] for row in rows))
    text = shlex.join(corpus_of(options))
    date = datetime.now().astimezone().date()
    return f"{text}, {splits}; korlm {korlm.__version__}, {date}; {machines}."


def markdown_lines(rows: Sequence[Mapping[str, Any]], note: str) -> Iterator[str]:
    """Yield the lines of the Markdown table."""
    yield from ("# Language models of Korean", "", note, "")
    yield f"| {' | '.join(COLUMNS.values())} |"
    yield f"| {' | '.join('---' for _ in COLUMNS)} |"
    for row in rows:
        cells = cells_of(row)
        cells["command"] = f"`{cells['command']}`"
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells.values())} |"


def page_of(rows: Sequence[Mapping[str, Any]], note: str) -> str:
    """Return the HTML page, which needs no other files."""
    body = []
    for row in rows:
        cells = {key: html.escape(cell) for key, cell in cells_of(row).items()}
        parts = [f"<td>{cells.pop('row')}</td>"]
        command = f"<td><code>{cells.pop('command')}</code></td>"
        parts += [f'<td class="number">{cell}</td>' for cell in cells.values()]
        body.append(f"<tr>{''.join([*parts, command])}</tr>")
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in COLUMNS.values())
    title = "Language models of Korean"
    return PAGE.format(title=title, note=html.escape(note), heads=heads, rows="\n".join(body))


def write_tables(options: argparse.Namespace) -> None:
    """Write both tables with all finished rows."""
    rows = read_rows(options.output)
    note = note_of(rows, options)
    for name, text in (
        ("leaderboard.md", "\n".join([*markdown_lines(rows, note), ""])),
        ("leaderboard.html", page_of(rows, note)),
    ):
        with atomic_write(options.output / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def main() -> int:
    """Train, measure and write; return 1 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("overrides", nargs="*", help="settings of korlm.train for all rows")
    parser.add_argument("--corpus", default="konlpy", help="choice of the group corpus")
    parser.add_argument("--only", default="", help="rows whose name has one of these parts: a,b")
    parser.add_argument("--quick", action="store_true", help="two small models, to try it")
    parser.add_argument("--output", type=Path, help="folder of the rows; outputs/leaderboard")
    options = parser.parse_intermixed_args()
    default = "leaderboard-quick" if options.quick else "leaderboard"
    options.output = options.output or Path("outputs") / default
    rows = settings_of(options)
    if not rows:
        parser.error(f"--only {options.only}: no row has such a name")
    failed = []
    for number, (name, overrides) in enumerate(rows.items(), 1):
        print(f"{number} of {len(rows)}: {name}", flush=True)
        if (options.output / name / ROW).is_file():
            continue
        try:
            trained = (options.output / name / "training.json").is_file()
            if not trained and not train(name, overrides, options):
                failed.append(name)  # korlm.train has said why
                continue
            figures = measure(name, overrides, options)
        except KorlmError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
            continue
        write_json(options.output / name / ROW, figures)
        write_tables(options)
    if failed:
        print(f"not done: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
    if any(options.output.glob(f"*/{ROW}")):
        write_tables(options)
        print(options.output / "leaderboard.html")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
