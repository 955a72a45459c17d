"""Sweepers, which propose the jobs of a sweep: all combinations of values, or a search (Optuna)."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from korlm.cli.arguments import key_of
from korlm.config import CorpusConfig, GridConfig, PrepareSettings, SearchConfig, TrainSettings
from korlm.config.error_messages import format_config_error
from korlm.config.metrics import LANGUAGE_MODELING, check_objective
from korlm.config.serialization import to_settings
from korlm.sweeps.callback import SweepTable
from korlm.sweeps.folder import job_name
from korlm.sweeps.results import changes_tokens
from korlm.sweeps.search.space import Space, read_space, swept_keys
from korlm.utils.errors import ConfigError, KorlmError

if TYPE_CHECKING:
    from korlm.sweeps.search.study import Proposal, Search

logger = logging.getLogger(__name__)


class JobLoader(ConfigLoaderImpl):
    """Hydra's loader, which composes each combination of choices once.

    Hydra reads and merges 30 files for each job when it is checked, and again when it starts, in
    0.16 s of CPU time. Setting the other values of a job in a copy takes 0.01 s. All jobs must
    share one ``master_config``: what is composed for one job is used for the others.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        super().__init__(loader.get_search_path())
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Return the settings of a job."""
        overrides = OverridesParser.create().parse_overrides(sweep_overrides)
        values = [override for override in overrides if _is_value(override)]
        choices = tuple(str(o.input_line) for o in overrides if not _is_value(o))
        if choices not in self._composed:
            self._composed[choices] = super().load_sweep_config(master_config, list(choices))
        tree = copy.deepcopy(self._composed[choices])
        self._apply_overrides_to_config(values, tree)
        # What Hydra derives from the overrides: their list and override_dirname. Then, as Hydra:
        # values resolved earlier in the sweep (the time in folder names) stay the same.
        of_task = [override for override in overrides if not override.is_hydra_override()]
        tree.hydra.overrides.task = [override.input_line for override in of_task]
        form = tree.hydra.job.config.override_dirname
        tree.hydra.job.override_dirname = get_overrides_dirname(of_task, **form)
        OmegaConf.copy_cache(from_config=master_config, to_config=tree)
        return tree


def _is_value(override: Override) -> bool:
    """Return True if an override sets a value within a composed tree.

    False if it may choose a file of a group, or is another top-level key, which is then composed.
    """
    key = override.key_or_group
    is_value = "." in key or key == "seed" or isinstance(override.value(), dict)
    return is_value and not override.is_hydra_override()


class KorlmSweeper(Sweeper):
    """Base class of sweepers; ``setup`` stores Hydra's context and settings, and the launcher."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store Hydra's context and create the launcher."""
        self.config = config
        self.hydra_context = HydraContext(
            JobLoader(hydra_context.config_loader), hydra_context.callbacks
        )
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=task_function, config=config
        )


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


BITS_PER_CHAR = "valid.bits_per_char"


class OptunaSweeper(KorlmSweeper):
    """The sweeper of a hyperparameter search, hydra/sweeper=optuna."""

    def __init__(self, **settings: Any) -> None:
        self.settings = SearchConfig(**settings)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store Hydra's context and create the launcher."""
        # Jobs are composed without the file of the sweep group, but with typed settings of Hydra:
        # hydra.sweeper.n_trials exists only if this sweeper is chosen.
        chosen = f"hydra/sweeper={config.hydra.runtime.choices['hydra/sweeper']}"
        if chosen not in config.hydra.overrides.hydra:
            with read_write(config):
                config.hydra.overrides.hydra.insert(0, chosen)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Search until there are ``n_trials`` trials.

        Raises:
            KorlmError: the search space is invalid, or no trial has a result.
        """
        loader = self.hydra_context.config_loader
        space = read_space(self.settings.params, arguments, loader)
        objective = self._objective(space, arguments)
        if objective != self.config.objective:
            with read_write(self.config):
                self.config.objective = objective  # the launcher reads results by it
            fixed = {**space.fixed, "objective": f"objective={objective}"}
            space = dataclasses.replace(space, fixed=fixed)
        from korlm.sweeps.search.study import open_search  # slow import

        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        # No results table if the search is rejected; otherwise it is ordered by the objective.
        table, SweepTable.folder = SweepTable.folder, None
        with open_search(folder, space, self.settings, objective) as search:
            SweepTable.folder, SweepTable.objective = table, objective
            OmegaConf.save(self.config, folder / "multirun.yaml")
            return self._run(search)

    def _objective(self, space: Space, arguments: Sequence[str]) -> str:
        """Return the objective of the jobs, from their settings.

        Language models of different tokens have no perplexities that can be compared; without a
        given objective it is bits per character.
        """
        example_overrides = space.example_overrides()
        settings = self._composed(example_overrides)
        chosen = [argument for argument in arguments if argument.startswith("sweep=")]
        if chosen and self._composed([*chosen, *example_overrides]) != settings:
            raise ConfigError(
                f"{chosen[-1]}: sets something outside hydra.sweeper.params; put settings that all "
                "trials share there, too, as KEY: VALUE, so that the best trial can be repeated"
            )
        objective, task = str(settings["objective"]), str(settings["task"]["name"])
        check_objective(objective, task)
        varied = next(filter(changes_tokens, map(key_of, space.searched)), None)
        is_default = OmegaConf.is_interpolation(self.config, "objective")
        is_given = "objective" in space.fixed or not is_default
        if varied is None or is_given or task != LANGUAGE_MODELING:
            return objective
        logger.warning(
            "%s changes the tokens, so %s cannot be compared: minimizing %s; objective=SPLIT.KEY "
            "chooses another metric",
            *(varied, objective, BITS_PER_CHAR),
        )
        return BITS_PER_CHAR

    def _composed(self, overrides: list[str]) -> dict[str, Any]:
        """Return the settings of a job, given its overrides."""
        loader = self.hydra_context.config_loader
        tree = loader.load_sweep_config(self.config, overrides)
        settings = OmegaConf.to_container(tree, resolve=False)
        assert isinstance(settings, dict)
        settings["objective"] = tree.objective  # its default depends on the task
        return {str(key): value for key, value in settings.items() if key != "hydra"}

    def _run(self, search: Search) -> list[Sequence[JobReturn]]:
        """Run trials until ``n_trials`` is reached."""
        returns: list[Sequence[JobReturn]] = []
        while proposals := search.propose(self.settings.n_jobs):
            legal = [proposal for proposal in proposals if self._is_legal(search, proposal)]
            if legal:
                jobs = [proposal.overrides for proposal in legal]
                returns.append(self.launcher.launch(jobs, initial_job_idx=legal[0].number))
                for proposal, job in zip(legal, returns[-1], strict=True):
                    search.record(proposal.number, _result(job))
            search.check()
        search.require_result()
        return returns

    def _is_legal(self, search: Search, proposal: Proposal) -> bool:
        """Return True if Hydra can compose the settings of a trial; record a failure if not."""
        try:
            self.validate_batch_is_legal([proposal.overrides])
        except (HydraException, OmegaConfBaseException) as error:
            why = f": {error.__cause__}".splitlines()[0] if error.__cause__ else ""
            search.record(proposal.number, ConfigError(f"{error}{why}"))
            return False
        return True


def _result(job: JobReturn) -> float | BaseException:
    """Return the value of a job, or the exception with which it failed."""
    result = job._return_value  # the property would log failures a second time
    if job.status is JobStatus.COMPLETED:
        return float(result)
    assert isinstance(result, BaseException)
    return result
