"""Settings of text generation and completion."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from korlm.config.commands.inference import InferenceSettings
from korlm.config.registry import register
from korlm.config.validation import MAX_SEED, setting


class GenerateMode(enum.Enum):
    """Kinds of output."""

    text = "text"
    complete = "complete"


@register("", "generate")
@dataclass
class GenerateSettings(InferenceSettings):
    """Generate text with a trained model, or complete the last eojeol of a prompt.

    Writes to standard output, one line per sentence; blank lines separate texts of several lines.
    Everything after prompt= is text, up to the next key=value. mode=complete prints the most
    probable completions of the last eojeol, which may end within a syllable: one line each, with
    the eojeol, a tab, and its probability given the prompt.

      python -m korlm.generate run=outputs/runs/DIR                            a sentence
      python -m korlm.generate run=outputs/runs/DIR prompt="나는 학교에, "         after a prompt
      python -m korlm.generate run=outputs/runs/DIR num_samples=3 sentences=5  three longer texts
      python -m korlm.generate run=outputs/runs/DIR beams=8 num_samples=3      beam search
      python -m korlm.generate run=outputs/runs/DIR prompts=prompts.txt        one prompt per line
      python -m korlm.generate run=outputs/runs/DIR mode=complete prompt="밥을 먹ㅇ"
    """

    prompt: str | None = setting(
        None, "Beginning of the text, no quotes needed; null: the start of a sentence."
    )
    prompts: str | None = setting(
        None, "File with one prompt per line; -: standard input.", is_path=True
    )
    num_samples: int = setting(
        1, "Texts per prompt; with beams the best ones.", min=1, max=1_000_000
    )
    max_tokens: int = setting(
        100, "Longest text, without its prompt.", unit="tokens", min=1, max=1_000_000
    )
    sentences: int = setting(
        1, "Sentences after which a text ends.", unit="sentences", min=1, max=1_000_000
    )
    temperature: float = setting(
        0.8,
        "Below 1 sharpens the distribution, above 1 flattens it; 0: the most probable token.",
        min=0,
        max=1e6,
    )
    top_k: int | None = setting(
        None, "Sample from this number of most probable tokens; null: from all.", min=1
    )
    top_p: float = setting(
        0.95,
        "Sample from the fewest tokens that have this probability together; 1: from all.",
        above=0,
        max=1,
    )
    repetition_penalty: float = setting(
        1.0, "Above 1: lower the probability of tokens already in the text; 1.2 is usual.", above=0
    )
    beams: int | None = setting(None, "Beam size of beam search; null: sample.", min=1, max=10_000)
    length_penalty: float = setting(
        0.6,
        "Of beam search: 0 prefers short texts, 1 compares mean log-probabilities.",
        min=0,
        max=1e6,
    )
    seed: int | None = setting(
        None, "Random seed; null: other texts each time.", min=0, max=MAX_SEED
    )
    mode: GenerateMode = setting(
        GenerateMode.text,
        "complete: the most probable completions of the last eojeol instead of a text.",
        renamed_from="complete",
        renamed_values={"true": "complete", "false": "text"},
    )
    num_completions: int = setting(
        5, "Eojeols that mode=complete prints.", min=1, max=1_000_000, renamed_from="k"
    )
    max_expansions: int = setting(
        64,
        "Search limit of mode=complete: more finds rarer eojeols and takes longer.",
        unit="tokens",
        min=1,
        max=1_000_000,
        renamed_from="effort",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt is not None and self.prompts is not None:
            self._fail("prompts", "prompt= is given as well; leave one of them out")
        if self.beams is None:
            if self.temperature == 0 and self.num_samples > 1:
                self._fail("num_samples", "temperature=0 yields one text; raise it or use beams=N")
        elif self.mode is GenerateMode.complete:
            self._fail("beams", "mode=complete has its own search; leave one of them out")
        elif self.num_samples > self.beams:
            self._fail("num_samples", f"beams={self.beams} yields at most {self.beams} texts")

    def without_effect(self) -> dict[str, str]:
        sampling = ("temperature", "top_k", "top_p", "repetition_penalty", "seed")
        writing = ("num_samples", "max_tokens", "sentences", "length_penalty")
        if self.mode is GenerateMode.complete:
            return dict.fromkeys((*sampling, *writing), "mode=complete generates no text")
        reasons = dict.fromkeys(("num_completions", "max_expansions"), "only mode=complete uses it")
        if self.beams is not None:
            return reasons | dict.fromkeys(sampling, "beam search does not sample")
        return reasons | {"length_penalty": "only beam search (beams=N) uses it"}
