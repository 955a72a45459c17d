"""Get trials from a search, and let the launcher run them as jobs (hydra/sweeper=optuna)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from korlm.cli.arguments import key_of
from korlm.config import SearchConfig
from korlm.config.metrics import LANGUAGE_MODELING, check_objective
from korlm.sweeps.callback import SweepTable
from korlm.sweeps.results import changes_tokens
from korlm.sweeps.search.base import KorlmSweeper
from korlm.sweeps.search.space import Space, read_space
from korlm.utils.errors import ConfigError

if TYPE_CHECKING:
    from korlm.sweeps.search.study import Proposal, Search

logger = logging.getLogger(__name__)

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
