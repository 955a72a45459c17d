"""Lists in their new order -> the layout they came in. What is written appears when it is whole."""

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

# As in metrics.json.
LENGTHS = {
    LengthUnit.token: "num_tokens",
    LengthUnit.eojeol: "num_eojeol",
    LengthUnit.char: "num_chars",
}


class Writer(Protocol):
    """Takes lists one after the other."""

    def write(self, lists: list[RescoredList]) -> None:
        """Writes some lists."""


class BestWriter:
    """``utterance text`` of the best hypotheses, as Kaldi's and ESPnet's scoring reads it."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, lists: list[RescoredList]) -> None:
        """See ``Writer``."""
        for nbest, hyps in lists:
            # Texts of JSON may have line ends.
            self.file.write(" ".join([nbest.utt, *hyps[0].hypothesis.text.split()]) + "\n")


class TextWriter:
    """``name total text`` a line.

    Args:
        file: to write to.
        sign: -1 if the file shall have costs, as the one that was read.
    """

    def __init__(self, file: TextIO, sign: int) -> None:
        self.file, self.sign = file, sign

    def write(self, lists: list[RescoredList]) -> None:
        """See ``Writer``."""
        for _, hyps in lists:
            for hyp in hyps:
                line = f"{hyp.hypothesis.name} {self.sign * hyp.total:.6f} {hyp.hypothesis.text}"
                self.file.write(line.rstrip() + "\n")


class JsonWriter:
    """The objects as they were read, with ``total_score``, ``lm_log_prob`` and ``num_...`` added.

    Args:
        file: to write to.
        sign: -1 if scores in the file are costs.
        length: what was counted.
    """

    def __init__(self, file: TextIO, sign: int, length: LengthUnit) -> None:
        self.file, self.sign, self.length = file, sign, LENGTHS[length]

    def write(self, lists: list[RescoredList]) -> None:
        """See ``Writer``."""
        for nbest, hyps in lists:
            records = self._records(hyps)
            key = nbest.fields and list_key(nbest.fields)
            whole = [{**nbest.fields, key: records}] if nbest.fields and key else records
            for record in whole:
                self.file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _records(self, hyps: Sequence[Rescored]) -> list[dict[str, Any]]:
        return [
            {
                **hyp.hypothesis.fields,
                "total_score": self.sign * hyp.total,
                "lm_log_prob": hyp.log_prob,
                self.length: hyp.length,
            }
            for hyp in hyps
        ]


class EspnetJsonWriter(JsonWriter):
    """ESPnet1's data.json as it was read, ``output`` in its new order and with the same keys added.

    ``close`` writes the end of the file.
    """

    def __init__(self, file: TextIO, sign: int, length: LengthUnit) -> None:
        super().__init__(file, sign, length)
        self._before = '{"utts": {\n'

    def write(self, lists: list[RescoredList]) -> None:
        """See ``Writer``."""
        for nbest, hyps in lists:
            record = {**(nbest.fields or {}), OUTPUT: self._records(hyps)}
            name, value = (json.dumps(part, ensure_ascii=False) for part in (nbest.utt, record))
            self.file.write(f"{self._before}{name}: {value}")
            self._before = ",\n"

    def close(self) -> None:
        """Write the end of the file."""
        self.file.write("\n}}\n")


class EspnetWriter:
    """1best_recog, 2best_recog, ..., each with ``text`` and ``score``.

    Args:
        folder: to write to.
        sign: -1 if the files shall have costs.
    """

    def __init__(self, folder: Path, sign: int) -> None:
        self.folder, self.sign = folder, sign

    def write(self, lists: list[RescoredList]) -> None:
        """See ``Writer``; files are open no longer than this takes, there may be many."""
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


def check_output(output: str, layout: ListFormat, best: bool) -> None:
    """Refuses an output that the layout cannot be written to, before anything is computed.

    Raises:
        ConfigError: naming the setting.
    """
    is_folder = layout is ListFormat.espnet and not best
    if is_folder and output == "-":
        raise ConfigError(
            "output=-: ESPnet's lists are a folder: give output=FOLDER, or one_best=true for lines "
            "'utterance text'"
        )
    if is_folder and Path(output).exists():
        raise ConfigError(f"output={output}: is there already; move it or give another folder")
    if not is_folder and output != "-" and Path(output).is_dir():
        raise ConfigError(f"output={output}: is a folder; give a file")


@contextlib.contextmanager
def writer(
    output: str, layout: ListFormat, best: bool, sign: int, length: LengthUnit
) -> Iterator[Writer]:
    """Opens the output in a layout.

    Args:
        output: a file, a folder for ESPnet's layout, or - for stdout.
        layout: of the lists.
        best: the best hypotheses alone.
        sign: -1 if scores shall be costs.
        length: what was counted.
    """
    if layout is ListFormat.espnet and not best:
        with _new_folder(Path(output)) as folder:
            yield EspnetWriter(folder, sign)
        return
    with _new_file(output) as file:
        if best:
            yield BestWriter(file)
        elif layout is ListFormat.espnet_json:
            target = EspnetJsonWriter(file, sign, length)
            yield target
            target.close()
        elif layout is ListFormat.jsonl:
            yield JsonWriter(file, sign, length)
        else:
            yield TextWriter(file, sign)


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    building = path.with_name(path.name + ".tmp")
    with output_errors(path, "output=FOLDER"):
        shutil.rmtree(building, ignore_errors=True)  # of a command that was killed
        building.mkdir(parents=True)
        try:
            yield building
            os.replace(building, path)
        finally:
            shutil.rmtree(building, ignore_errors=True)


@contextlib.contextmanager
def _new_file(output: str) -> Iterator[TextIO]:
    if output == "-":
        yield from _stdout()
        return
    path = Path(output).resolve()  # a link stays one
    if path.exists() and not path.is_file():  # a device or a pipe is written to, not replaced
        with (
            output_errors(path, "output=FILE"),
            open(path, "w", encoding="utf-8", newline="\n") as file,
        ):
            yield file
        return
    with output_errors(path, "output=FILE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic_write(path) as temporary,
            open(temporary, "w", encoding="utf-8", newline="\n") as file,
        ):
            yield file


def _stdout() -> Iterator[TextIO]:
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and not shows_text():  # Windows has encodings of its own
        reconfigure(encoding="utf-8", newline="\n")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
