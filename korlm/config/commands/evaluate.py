"""Settings of the evaluation of trained models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from korlm.config.commands.inference import InferenceSettings
from korlm.config.groups.corpus import CorpusConfig
from korlm.config.registry import register
from korlm.config.validation import MAX_SEED, MISSING, Group, setting
from korlm.utils.errors import ConfigError


@dataclass
class CacheConfig(Group):
    """Neural cache (Grave et al. 2017)."""

    _group: ClassVar[str] = "cache"

    sizes: list[int] = setting(
        lambda: [100, 500, 2000],
        "Hidden states kept; several values are tuned on valid; []: no cache.",
        min=1,
        increasing=True,
    )
    flatness: list[float] = setting(
        lambda: [0.0, 0.2, 0.4, 0.8, 1.6],
        "Factor of the similarity of hidden states; several values are tuned on valid.",
        min=0,
        increasing=True,
        renamed_from="thetas",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.flatness:
            self._fail("flatness", "needs a value; 'cache.sizes=[]' disables the cache")


@dataclass
class DynamicConfig(Group):
    """Dynamic evaluation (Krause et al. 2018)."""

    _group: ClassVar[str] = "dynamic"

    segment: int = setting(
        20, "Tokens between updates; fewer adapt faster and take longer.", unit="tokens", min=1
    )
    learning_rates: list[float] = setting(
        lambda: [1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3],
        "Learning rates, tried on valid from 0 on until one does not lower the loss; []: no "
        "dynamic evaluation.",
        above=0,
        increasing=True,
        renamed_from="rates",
    )
    decays: list[float] = setting(
        lambda: [1e-3, 1e-2],
        "Decays towards the trained parameters, tried on valid from 0 on until one does not lower "
        "the loss.",
        above=0,
        increasing=True,
    )
    tune_tokens: int = setting(
        5000, "Tokens of valid on which rates and decays are tried.", unit="tokens", min=1
    )
    statistics_tokens: int = setting(
        10000, "Tokens of train for the mean squared gradients.", unit="tokens", min=1
    )


@dataclass
class BootstrapConfig(Group):
    """Bootstrap confidence intervals and paired randomization tests."""

    _group: ClassVar[str] = "bootstrap"

    samples: int = setting(
        2000, "Bootstrap samples, and random sign flips of paired tests.", min=100, max=1_000_000
    )
    seed: int = setting(1, "Seed of the samples.", min=0, max=MAX_SEED)
    block: int = setting(
        1,
        "Consecutive documents (of other tasks: examples) drawn together: more than 1 where "
        "neighbours depend on each other, such as the lines of an article.",
        unit="documents",
        min=1,
    )


@register("", "evaluate")
@dataclass
class EvaluateSettings(InferenceSettings):
    """Evaluate trained models, with confidence intervals and paired tests.

    One run: on valid and test, or on any text (corpus=...), with the state carried over or reset at
    each sentence, with a neural cache, with dynamic evaluation, mixed with other runs, and with all
    of these, tuned on valid. Writes RUN/evaluations/<date>_<time>.
    Runs of other tasks: the metrics of the task on valid and test, or on any text with labels
    (corpus=..., read as the run's own text unless its settings differ), with intervals over
    examples and paired tests against the first run.
    Several runs: each as it was trained, in one table. Writes outputs/evaluations/<date>_<time>.
    Files: metrics.json, documents.tsv, bands.tsv (by frequency in train), positions.tsv (by
    position in the sentence), breakdown_<text>.png, evaluate.log.

      python -m korlm.evaluate run=outputs/runs/DIR                   one run
      python -m korlm.evaluate run=outputs/runs/DIR corpus=text 'corpus.files=[FILE]'
      python -m korlm.evaluate 'run=[outputs/runs/A,outputs/runs/B]'  two runs, compared
      python -m korlm.evaluate 'run=outputs/runs/*' corpus=text 'corpus.files=[FILE]'
      python -m korlm.evaluate run=outputs/runs/DIR ngram=outputs/runs/NGRAM
      python -m korlm.evaluate run=outputs/runs/DIR 'mix=[RUN,RUN]'   a mixture
      python -m korlm.evaluate run=outputs/runs/DIR 'dynamic.learning_rates=[]'
    """

    run: Any = setting(
        MISSING,
        "Run directory; latest: the newest in outputs/runs; several: a list, or a glob such as "
        "'outputs/runs/*'.",
        is_path=True,
    )
    corpus: CorpusConfig | None = setting(
        None, "Text to evaluate on; null: valid and test of the run's own corpus."
    )
    ngram: str | None = setting(
        None, "Another run to mix with, usually of model=ngram.", is_path=True
    )
    mix: list[str] = setting(list, "More runs to mix with.", is_path=True)
    prepared: str | None = setting(
        None,
        "Prepared corpus of the run, if it was moved; null: where training found it.",
        is_path=True,
    )
    test: bool = setting(True, "Evaluate on test too, if it exists, tuned on valid.")
    adapt: bool | None = setting(
        None, "Evaluate with neural cache and dynamic evaluation; null: for a single run only."
    )
    cache: CacheConfig = setting(CacheConfig)
    dynamic: DynamicConfig = setting(DynamicConfig)
    bootstrap: BootstrapConfig = setting(BootstrapConfig)
    plot: bool = setting(True, "Draw breakdown_<text>.png.")
    outputs: str = setting("outputs", "Folder of evaluations of several runs.", is_path=True)
    output: str | None = setting(
        None, "New folder of this evaluation; null: chosen as described above.", is_path=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.run = run_list(self.run)
        if self.corpus is not None and self.corpus.name in ("train", "valid", "test"):
            raise ConfigError(
                f"corpus.name={self.corpus.name}: is the name of a split; choose another name"
            )


def run_list(run: Any) -> list[str]:
    """Return the runs that a setting names: one, or a list of them.

    >>> run_list("outputs/runs/*")
    ['outputs/runs/*']
    """
    runs = list(run) if isinstance(run, Sequence) and not isinstance(run, str) else [run]
    if not runs or not all(isinstance(part, str | int) and str(part) for part in runs):
        raise ConfigError(f"run={run}: must be the directory of a run, a list of such, or a glob")
    return [str(part) for part in runs]
