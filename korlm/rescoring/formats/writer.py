"""Write rescored lists in their input format, or only the best texts; files appear atomically."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from korlm.config import LengthUnit, ListFormat
from korlm.rescoring.formats.espnet_json import OUTPUT
from korlm.rescoring.formats.jsonl import list_key
from korlm.rescoring.rescore import Rescored, RescoredList
from korlm.utils.errors import ConfigError, output_errors
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.streams import shows_text

# JSON keys of lengths, as in metrics.json.
LENGTH_KEYS = {
    LengthUnit.token: "num_tokens",
    LengthUnit.eojeol: "num_eojeol",
    LengthUnit.char: "num_chars",
}


class Writer(Protocol):
    """Writes n-best lists."""

    def write(self, lists: list[RescoredList]) -> None:
        """Write some lists."""


class OneBestWriter:
    """Writes ``utterance text`` of the best hypotheses, for the scoring of Kaldi and ESPnet."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, lists: list[RescoredList]) -> None:
        """See ``Writer``."""
        for nbest, hyps in lists:
            # Texts in JSON may have line ends.
            self.file.write(" ".join([nbest.utt, *hyps[0].hypothesis.text.split()]) + "\n")


class TextWriter:
    """Writes lines of ``name total text``: hypothesis name, combined score, text.

    Args:
        file: to write to.
        sign: -1 to write costs, as in the input.
    """

    def __init__(self, file: TextIO, sign: int) -> None:
        self.file, self.sign = file, sign

    def write(self, lists: list[RescoredList]) -> None:
        """See ``Writer``."""
        for _, hyps in lists:
            for hyp in hyps:
                line = f"{hyp.hypothesis.name} {self.sign * hyp.total:.6f} {hyp.hypothesis.text}"
                self.file.write(line.rstrip() + "\n")


class JsonlWriter:
    """Writes the input objects with ``total_score``, ``lm_log_prob`` and ``num_...`` added.

    Args:
        file: to write to.
        sign: -1 if scores in the file are costs.
        unit: length unit, which names the key of the length.
    """

    def __init__(self, file: TextIO, sign: int, unit: LengthUnit) -> None:
        self.file, self.sign, self.length_key = file, sign, LENGTH_KEYS[unit]

    def write(self, lists: list[RescoredList]) -> None:
        """See ``Writer``."""
        for nbest, hyps in lists:
            records = self._records(hyps)
            key = nbest.fields and list_key(nbest.fields)
            if nbest.fields and key:
                records = [{**nbest.fields, key: records}]
            for record in records:
                self.file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _records(self, hyps: Sequence[Rescored]) -> list[dict[str, Any]]:
        return [
            {
                **hyp.hypothesis.fields,
                "total_score": self.sign * hyp.total,
                "lm_log_prob": hyp.log_prob,
                self.length_key: hyp.length,
            }
            for hyp in hyps
        ]


class EspnetJsonWriter(JsonlWriter):
    """Writes ESPnet1's data.json with ``output`` sorted and the same keys added.

    ``close`` writes the end of the file.
    """

    def __init__(self, file: TextIO, sign: int, unit: LengthUnit) -> None:
        super().__init__(file, sign, unit)
        self._separator = '{"utts": {\n'

    def write(self, lists: list[RescoredList]) -> None:
        """See ``Writer``."""
        for nbest, hyps in lists:
            record = {**(nbest.fields or {}), OUTPUT: self._records(hyps)}
            name, value = (json.dumps(part, ensure_ascii=False) for part in (nbest.utt, record))
            self.file.write(f"{self._separator}{name}: {value}")
            self._separator = ",\n"

    def close(self) -> None:
        """Write the end of the file."""
        self.file.write("\n}}\n")


class EspnetWriter:
    """Writes folders 1best_recog, 2best_recog, ... with ``text`` and ``score``.

    Args:
        folder: to write to.
        sign: -1 to write costs.
    """

    def __init__(self, folder: Path, sign: int) -> None:
        self.folder, self.sign = folder, sign

    def write(self, lists: list[RescoredList]) -> None:
        """See ``Writer``; files are closed after each call, since there is one per n-best rank."""
        lines: dict[tuple[int, str], list[str]] = collections.defaultdict(list)
        for nbest, hyps in lists:
            for rank, hyp in enumerate(hyps, 1):
                lines[rank, "text"].append(f"{nbest.utt} {hyp.hypothesis.text}".rstrip() + "\n")
                lines[rank, "score"].append(f"{nbest.utt} {self.sign * hyp.total:.6f}\n")
        for (rank, table), rows in lines.items():
            folder = self.folder / f"{rank}best_recog"
            folder.mkdir(exist_ok=True)
            with open(folder / table, "a", encoding="utf-8", newline="\n") as file:
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
    """Open the output.

    Args:
        output: a file, a folder for ESPnet's format, or - for stdout.
        list_format: of the lists.
        one_best: write only the best hypotheses.
        sign: -1 to write costs.
        unit: length unit.
    """
    if list_format is ListFormat.espnet and not one_best:
        with _new_folder(Path(output)) as folder:
            yield EspnetWriter(folder, sign)
        return
    with _new_file(output) as file:
        if one_best:
            yield OneBestWriter(file)
        elif list_format is ListFormat.espnet_json:
            writer = EspnetJsonWriter(file, sign, unit)
            yield writer
            writer.close()
        elif list_format is ListFormat.jsonl:
            yield JsonlWriter(file, sign, unit)
        else:
            yield TextWriter(file, sign)


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    temporary = path.with_name(path.name + ".tmp")
    with output_errors(path, "output=FOLDER"):
        shutil.rmtree(temporary, ignore_errors=True)  # of a command that was killed
        temporary.mkdir(parents=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


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
    if reconfigure is not None and not shows_text():  # Windows has other encodings
        reconfigure(encoding="utf-8", newline="\n")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:  # as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
