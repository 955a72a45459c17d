"""Settings of the ways in which a trained model is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from korlm.config.commands.inference import UseSettings
from korlm.config.data import CorpusConfig
from korlm.config.validation import MISSING, Group, path_field, paths_field, setting
from korlm.utils.errors import ConfigError


@dataclass
class CacheConfig(Group):
    """The neural cache (Grave et al. 2017)."""

    _group: ClassVar[str] = "cache"

    sizes: list[int] = field(default_factory=lambda: [100, 500, 2000])
    # hidden states that are kept; several values are tried on valid; []: no cache
    flatness: list[float] = setting(lambda: [0.0, 0.2, 0.4, 0.8, 1.6], renamed_from="thetas")
    # how much likeness of hidden states counts; several values are tried on valid

    def __post_init__(self) -> None:
        _all_above(self._group, "sizes", self.sizes, 0)
        _all_above(self._group, "flatness", self.flatness, 0, equal=True)
        if not self.flatness:
            raise ConfigError(
                "cache.flatness=[]: needs a value; 'cache.sizes=[]' leaves the cache out"
            )


@dataclass
class DynamicConfig(Group):
    """Dynamic evaluation (Krause et al. 2018)."""

    _group: ClassVar[str] = "dynamic"

    segment: int = 20
    # tokens after which the parameters change; fewer adapt sooner and take longer
    learning_rates: list[float] = setting(
        lambda: [1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3], renamed_from="rates"
    )
    # of learning, rising; tried on valid until one is worse; []: no dynamic evaluation
    decays: list[float] = field(default_factory=lambda: [1e-3, 1e-2])
    # back to the trained parameters, rising; tried on valid until one is worse than those before,
    # of which the first is none
    tune_tokens: int = 5000
    # of valid on which rates and decays are tried
    statistics_tokens: int = 10000
    # of train on which the size of each parameter's gradients is measured

    def __post_init__(self) -> None:
        self._at_least(1, "segment", "tune_tokens", "statistics_tokens")
        _all_above(self._group, "learning_rates", self.learning_rates, 0)
        _all_above(self._group, "decays", self.decays, 0)


@dataclass
class BootstrapConfig(Group):
    """How sure the figures are: what is drawn with replacement, and how often."""

    _group: ClassVar[str] = "bootstrap"

    samples: int = 2000
    # draws; as many random signs for the tests of two rows
    seed: int = 1
    # of the draws
    block: int = 1
    # documents that follow each other and are drawn together: more than 1 where neighbours belong
    # together, such as the lines of articles that are a document each

    def __post_init__(self) -> None:
        self._at_least(100, "samples")
        self._at_most(1_000_000, "samples")
        self._at_least(0, "seed")
        self._at_least(1, "block")


@dataclass
class EvaluateSettings(UseSettings):
    """python -m korlm.evaluate: runs -> a table of what they are worth on a text."""

    run: Any = paths_field(default=MISSING)
    # the directory of a run; several: a list, or a glob such as 'outputs/runs/*'
    corpus: CorpusConfig | None = None
    # any text, all of its documents; null: valid and test of what the run was trained on
    ngram: str | None = path_field(None)
    # the directory of another run, of model=ngram as a rule, to mix with
    mix: list[str] = paths_field()
    # the directories of more runs to mix with
    prepared: str | None = path_field(None)
    # where the text of the run lies now; null: where it lay in training
    test: bool = True
    # report test too, if there is one, with the settings that are best on valid
    adapt: bool | None = None
    # neural cache and dynamic evaluation; null: for one run alone
    cache: CacheConfig = field(default_factory=CacheConfig)
    dynamic: DynamicConfig = field(default_factory=DynamicConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    plot: bool = True
    # draw breakdown_<text>.png
    outputs: str = path_field("outputs")
    # the folder under which evaluations of several runs go; that of one goes into the run's own
    output: str | None = path_field(None)
    # a new folder for this evaluation, such as for a run on a disk that cannot be written; null:
    # RUN/evaluations/<date>_<time>, of several runs OUTPUTS/evaluations/<date>_<time>

    def __post_init__(self) -> None:
        super().__post_init__()
        self.run = run_list(self.run)
        if self.corpus is not None and self.corpus.name in ("train", "valid", "test"):
            raise ConfigError(
                f"corpus.name={self.corpus.name}: is the name of a split; give the text another"
            )


def run_list(run: Any) -> list[str]:
    """The runs that a setting names: one, or a list of them.

    >>> run_list("outputs/runs/*")
    ['outputs/runs/*']
    """
    runs = list(run) if isinstance(run, Sequence) and not isinstance(run, str) else [run]
    if not runs or not all(isinstance(part, str | int) and str(part) for part in runs):
        raise ConfigError(f"run={run}: must be the directory of a run, a list of such, or a glob")
    return [str(part) for part in runs]


def _all_above(
    group: str, key: str, values: Sequence[float], low: float, equal: bool = False
) -> None:
    """Refuses a list with a number that is too small or not finite, or that is out of order."""
    for value in values:
        if not (low < value < float("inf") or (equal and value == low)):
            limit = f"{low} or more" if equal else f"above {low}"
            raise ConfigError(f"{group}.{key}={values}: each must be a finite number, {limit}")
    if sorted(set(values)) != list(values):
        raise ConfigError(f"{group}.{key}={values}: must rise from value to value")
