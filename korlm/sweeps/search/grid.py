"""Run all combinations of values, after checking the settings of every job."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from korlm.config import CorpusConfig, GridConfig, PrepareSettings, TrainSettings
from korlm.config.error_messages import format_config_error
from korlm.config.serialization import to_settings
from korlm.sweeps.folder import job_name
from korlm.sweeps.search.base import KorlmSweeper
from korlm.sweeps.search.space import swept_keys
from korlm.utils.errors import ConfigError, KorlmError


class GridSweeper(KorlmSweeper):
    """The default sweeper, hydra/sweeper=basic; it replaces Hydra's sweeper of this name.

    Hydra's sweeper composes the settings of all jobs first, but does not validate them: an invalid
    value of the last of 20 jobs would be reported hours later.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = GridConfig(**settings)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Check the settings of all jobs, then run them; nothing is written before the checks.

        Raises:
            ConfigError: the settings of a job are wrong, or a file of its corpus does not exist.
        """
        params = self.settings.params or {}
        typed = [*(f"{key}={value}" for key, value in params.items()), *arguments]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        jobs = combinations(parser.parse_overrides(typed))
        self._check_all(jobs, swept_keys(typed))
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        returns: list[Sequence[JobReturn]] = []
        size = self.settings.max_batch_size or max(1, len(jobs))
        for first in range(0, len(jobs), size):
            batch = jobs[first : first + size]
            returns.append(self.launcher.launch(batch, initial_job_idx=first))
            for job in returns[-1]:
                _ = job.return_value  # raises the exception of a failed job
        return returns

    def _check_all(self, jobs: Sequence[Sequence[str]], swept: frozenset[str]) -> None:
        assert self.config is not None
        checked: list[CorpusConfig] = []
        for number, overrides in enumerate(jobs):
            try:
                self._check(overrides, checked)
            except (KorlmError, HydraException, OmegaConfBaseException) as error:
                reason = format_config_error(error, self.config.hydra.job.config_name)
                name = job_name(number, overrides, swept)
                which = f" (job {name}, {number + 1} of {len(jobs)}; no job was started)"
                raise ConfigError(reason + which * (len(jobs) > 1)) from error

    def _check(self, overrides: Sequence[str], checked: list[CorpusConfig]) -> None:
        """Check the settings of a job, and that the files of its corpus exist."""
        loader = self.hydra_context.config_loader
        tree = loader.load_sweep_config(self.config, list(overrides))
        with open_dict(tree):
            del tree["hydra"]
        settings = to_settings(tree)
        reads_text = isinstance(settings, (PrepareSettings, TrainSettings))
        if not reads_text or getattr(settings, "prepared", None) or settings.corpus in checked:
            return
        from korlm.corpus.sources import find_sources  # slow import

        find_sources(settings.corpus)
        checked.append(settings.corpus)


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """Return the overrides of each job; of several overrides of a key, the last one counts."""
    choices: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigError(
                f"{override.input_line}: an interval needs hydra/sweeper=optuna; give "
                "several values, such as 0.01,0.02 or range(1,4)"
            )
        if override.is_sweep_override():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    return [list(job) for job in itertools.product(*choices.values())]
