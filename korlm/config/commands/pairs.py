"""Settings of the accuracy on minimal pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from korlm.config.commands.inference import InferenceSettings, path_list
from korlm.config.registry import register
from korlm.config.validation import MISSING, setting

_ENDINGS = (".tsv", ".tsv.gz", ".jsonl", ".parquet")


@register("", "pairs")
@dataclass
class PairsSettings(InferenceSettings):
    r"""Measure the accuracy of language models on Korean minimal pairs.

    A minimal pair is an acceptable sentence and one that differs in one place and is not acceptable
    (밥을 먹었다, 밥를 먹었다). A model is right if the acceptable one is more probable. korlm has
    14 phenomena of Korean grammar with 120 pairs each (CC0); input=FILE reads your own. Prints the
    accuracy on each phenomenon with a 95 % interval; ties count half, and pairs whose sentences
    have the same tokens are left out.

      python -m korlm.pairs run=outputs/runs/DIR
      python -m korlm.pairs 'run=[outputs/runs/A,outputs/runs/B]'  two models side by side
      python -m korlm.pairs run=outputs/runs/DIR 'phenomena=[counters,plural]' pairs=500
      python -m korlm.pairs run=outputs/runs/DIR output=pairs.tsv  surprisal of each sentence
      python -m korlm.pairs run=outputs/runs/DIR input=mine.tsv    columns good and bad
    """

    run: Any = setting(
        MISSING,
        "Run directory or export; several: a list, or a glob such as 'outputs/runs/*'.",
        is_path=True,
    )
    phenomena: list[str] = setting(list, "Phenomena of korlm's pairs; []: all.")
    pairs: int = setting(120, "Pairs of each phenomenon of korlm's.", min=1, max=100_000)
    input: Any = setting(
        None,
        "Pairs of your own in place of korlm's: a TSV or CSV file in UTF-8, or several: "
        "[FILE,FILE], with the columns good and bad, and perhaps phenomenon; -: TSV on standard "
        "input.",
        is_path=True,
    )
    output: str | None = setting(
        None,
        "File of all pairs with their surprisals in bits: FILE.tsv, FILE.tsv.gz, FILE.jsonl or "
        "FILE.parquet; -: standard output.",
        is_path=True,
    )
    batch_tokens: int = setting(
        4096, "Tokens scored at once.", unit="tokens", min=1, max=10_000_000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output not in (None, "-") and not str(self.output).endswith(_ENDINGS):
            self._fail(
                "output", f"must end in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}, or be -"
            )
        if self.inputs and self.phenomena:
            self._fail("phenomena", "has no effect on pairs of your own; leave it out")

    @property
    def inputs(self) -> list[str]:
        """``input`` as a list, empty for korlm's pairs."""
        return [] if self.input is None else path_list(self.input)
