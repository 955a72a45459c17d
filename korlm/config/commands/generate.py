"""Settings of the texts that a trained model writes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from korlm.config.commands.inference import UseSettings
from korlm.config.validation import path_field, setting


class GenerateMode(enum.Enum):
    """Kinds of output: a text, or the likeliest next eojeols."""

    text = "text"
    complete = "complete"


@dataclass
class GenerateSettings(UseSettings):
    """python -m korlm.generate: run, prompts -> text, or the likeliest next eojeols."""

    prompt: str | None = None
    # what the text begins with, to the letter: it needs no quotes; null: the start of a sentence
    prompts: str | None = path_field(None)
    # a file with a prompt on each line; -: standard input
    num_samples: int = 1
    # texts for each prompt; with beams the best ones
    max_tokens: int = 100
    # of each text, its prompt not counted
    sentences: int = 1
    # after which a text ends, even if it has fewer tokens
    temperature: float = 0.8
    # below 1 sharpens the distribution, above 1 flattens it; 0: always the likeliest token
    top_k: int | None = None
    # draw from so many of the likeliest tokens; null: from all
    top_p: float = 0.95
    # draw from the fewest tokens that have this share of the probability; 1: from all
    repetition_penalty: float = 1.0
    # above 1 makes tokens unlikelier that the text has already; 1.2 is usual
    beams: int | None = None
    # hypotheses that beam search keeps, in place of drawing; null: draw
    length_penalty: float = 0.6
    # of beam search: 0 prefers short texts, 1 compares mean log-probabilities
    seed: int = 1
    # of the draws
    mode: GenerateMode = setting(
        GenerateMode.text,
        renamed_from="complete",
        renamed_values={"true": "complete", "false": "text"},
    )
    # complete: the likeliest next eojeols with their probabilities, instead of a text
    num_completions: int = setting(5, renamed_from="k")
    # eojeols that mode=complete gives
    max_expansions: int = setting(64, renamed_from="effort")
    # tokens that mode=complete reads at most to find them: more find rarer ones and take longer

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(
            1,
            "num_samples",
            "max_tokens",
            "sentences",
            "top_k",
            "beams",
            "num_completions",
            "max_expansions",
        )
        self._at_most(
            1_000_000, "num_samples", "max_tokens", "sentences", "num_completions", "max_expansions"
        )
        self._at_most(10_000, "beams")
        self._at_least(0, "temperature", "length_penalty", "seed")
        self._above(0, "top_p", "repetition_penalty")
        self._at_most(1, "top_p")
        for key in ("temperature", "length_penalty"):
            self._at_most(1e6, key)
        if self.seed >= 1 << 63:
            self._fail("seed", "must be below 2^63")
        if self.prompt is not None and self.prompts is not None:
            self._fail("prompts", "prompt= is given as well; leave one of them out")
        if self.beams is None:
            if self.temperature == 0 and self.num_samples > 1:
                self._fail("num_samples", "temperature=0 gives one text; raise it or use beams=N")
        elif self.mode is GenerateMode.complete:
            self._fail("beams", "mode=complete searches by itself; leave one of them out")
        elif self.num_samples > self.beams:
            self._fail("num_samples", f"beams={self.beams} give no more than {self.beams} texts")

    def without_effect(self) -> dict[str, str]:
        """See ``Group.without_effect``."""
        drawing = ("temperature", "top_k", "top_p", "repetition_penalty", "seed")
        writing = ("num_samples", "max_tokens", "sentences", "length_penalty")
        if self.mode is GenerateMode.complete:
            return dict.fromkeys((*drawing, *writing), "mode=complete generates no text")
        found = dict.fromkeys(("num_completions", "max_expansions"), "only mode=complete uses it")
        if self.beams is not None:
            return found | dict.fromkeys(drawing, "with beams= nothing is drawn")
        return found | {"length_penalty": "it belongs to beam search, and beams= is not given"}
