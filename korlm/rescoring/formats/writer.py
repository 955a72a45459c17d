"""Write rescored lists in their input format, or only the best texts; files appear atomically."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from korlm.config import LengthUnit, ListFormat
from korlm.rescoring.formats.json_lists import OUTPUT, list_key
from korlm.rescoring.nbest import NBest
from korlm.rescoring.rescore import Rescored, RescoredList
from korlm.utils.errors import ConfigError, output_errors
from korlm.utils.io.atomic_files import atomic_folder, atomic_write
from korlm.utils.io.streams import is_non_utf8_terminal

# JSON keys of lengths, as in metrics.json.
LENGTH_KEYS = {
    LengthUnit.token: "num_tokens",
    LengthUnit.eojeol: "num_eojeol",
    LengthUnit.char: "num_chars",
}


Writer = Callable[[Iterable[RescoredList]], None]


def _one_best_line(nbest: NBest, hyps: Sequence[Rescored]) -> str:
    """Format ``utterance text`` of the best hypothesis, for the scoring of Kaldi and ESPnet."""
    # Texts in JSON may have line ends.
    return " ".join([nbest.utt, *hyps[0].hypothesis.text.split()]) + "\n"


def _text_lines(sign: int, hyps: Sequence[Rescored]) -> str:
    """Format lines of ``name total text``: hypothesis name, combined score, text."""
    lines = (f"{h.hypothesis.name} {sign * h.total:.6f} {h.hypothesis.text}" for h in hyps)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _records(sign: int, unit: LengthUnit, hyps: Sequence[Rescored]) -> list[dict[str, Any]]:
    """Return the input objects with ``total_score``, ``lm_log_prob`` and ``num_...`` added."""
    return [
        {
            **hyp.hypothesis.fields,
            "total_score": sign * hyp.total,
            "lm_log_prob": hyp.log_prob,
            LENGTH_KEYS[unit]: hyp.length,
        }
        for hyp in hyps
    ]


def _json_lines(nbest: NBest, records: list[dict[str, Any]]) -> str:
    """Format a list as in the input: one object, or one for each hypothesis."""
    key = nbest.fields and list_key(nbest.fields)
    if nbest.fields and key:
        records = [{**nbest.fields, key: records}]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _espnet_json_entry(nbest: NBest, records: list[dict[str, Any]]) -> str:
    """Format an utterance of ESPnet1's data.json with ``output`` sorted."""
    record = {**(nbest.fields or {}), OUTPUT: records}
    return ": ".join(json.dumps(part, ensure_ascii=False) for part in (nbest.utt, record))


def _write_espnet(folder: Path, sign: int, lists: Iterable[RescoredList]) -> None:
    """Append to ``text`` and ``score`` in the folders 1best_recog, 2best_recog, ...

    Files are closed after each call, since there are two for each rank.
    """
    lines: dict[tuple[int, str], list[str]] = collections.defaultdict(list)
    for nbest, hyps in lists:
        for rank, hyp in enumerate(hyps, 1):
            lines[rank, "text"].append(f"{nbest.utt} {hyp.hypothesis.text}".rstrip() + "\n")
            lines[rank, "score"].append(f"{nbest.utt} {sign * hyp.total:.6f}\n")
    for (rank, table), rows in lines.items():
        rank_folder = folder / f"{rank}best_recog"
        rank_folder.mkdir(exist_ok=True)
        with open(rank_folder / table, "a", encoding="utf-8", newline="\n") as file:
            file.writelines(rows)


def check_output(output: str, list_format: ListFormat, one_best: bool) -> None:
    """Raise before any computation if the format cannot be written to the output.

    Raises:
        ConfigError: names the setting.
    """
    is_folder = list_format is ListFormat.espnet and not one_best
    if is_folder and output == "-":
        raise ConfigError(
            "output=-: ESPnet's lists are a folder: give output=FOLDER, or one_best=true for lines "
            "'utterance text'"
        )
    if is_folder and Path(output).exists():
        raise ConfigError(f"output={output}: exists already; move it or give another folder")
    if not is_folder and output != "-" and Path(output).is_dir():
        raise ConfigError(f"output={output}: is a folder; give a file")


@contextlib.contextmanager
def open_writer(
    output: str, list_format: ListFormat, one_best: bool, sign: int, unit: LengthUnit
) -> Iterator[Writer]:
    """Open the output; yield a function that writes lists to it.

    ``output`` is a file, a folder for ESPnet's format, or - for stdout; ``sign`` is -1 to write
    costs.
    """
    if list_format is ListFormat.espnet and not one_best:
        path = Path(output)
        with output_errors(path, "output=FOLDER"), atomic_folder(path) as folder:
            yield functools.partial(_write_espnet, folder, sign)
        return
    separators = itertools.chain(['{"utts": {\n'], itertools.repeat(",\n"))

    def format_list(nbest: NBest, hyps: Sequence[Rescored]) -> str:
        if one_best:
            return _one_best_line(nbest, hyps)
        if list_format is ListFormat.text:
            return _text_lines(sign, hyps)
        records = _records(sign, unit, hyps)
        if list_format is ListFormat.jsonl:
            return _json_lines(nbest, records)
        return next(separators) + _espnet_json_entry(nbest, records)

    with _new_file(output) as file:
        yield lambda lists: file.writelines(format_list(*rescored) for rescored in lists)
        if list_format is ListFormat.espnet_json and not one_best:
            file.write("\n}}\n")


@contextlib.contextmanager
def _new_file(output: str) -> Iterator[TextIO]:
    if output == "-":
        yield from _stdout()
        return
    path = Path(output).resolve()  # a symbolic link is kept
    with output_errors(path, "output=FILE"), contextlib.ExitStack() as stack:
        target = path
        if not path.exists() or path.is_file():  # a device or pipe cannot be replaced
            path.parent.mkdir(parents=True, exist_ok=True)
            target = stack.enter_context(atomic_write(path))
        yield stack.enter_context(open(target, "w", encoding="utf-8", newline="\n"))


def _stdout() -> Iterator[TextIO]:
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and not is_non_utf8_terminal():  # Windows has other encodings
        reconfigure(encoding="utf-8", newline="\n")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:  # as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
