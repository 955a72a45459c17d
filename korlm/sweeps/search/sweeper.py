"""Hydra's sweeper: asks the search for trials and has the launcher run them as jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from korlm.config import SearchConfig
from korlm.config.objective import check_objective
from korlm.sweeps.callback import SweepTable
from korlm.sweeps.search.space import Space, read_space
from korlm.utils.errors import ConfigError, require_extra

if TYPE_CHECKING:
    from korlm.sweeps.search.study import Proposal, Search


class OptunaSweeper(Sweeper):
    """hydra/sweeper=optuna.

    Args:
        settings: see ``SearchConfig``.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = SearchConfig(**settings)
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Takes what Hydra gives, and makes the launcher."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        # Jobs are composed without the file of the sweep group, but with what was typed of Hydra's
        # own settings: hydra.sweeper.n_trials is one only where this sweeper is chosen.
        chosen = f"hydra/sweeper={config.hydra.runtime.choices['hydra/sweeper']}"
        if chosen not in config.hydra.overrides.hydra:
            with read_write(config):
                config.hydra.overrides.hydra.insert(0, chosen)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Searches until there are as many trials as were asked for.

        Args:
            arguments: overrides as typed, those of Hydra left out.

        Raises:
            KorlmError: what is to be searched makes no sense, or no trial comes to a figure.
        """
        assert self.config is not None and self.hydra_context is not None
        loader = self.hydra_context.config_loader
        space = read_space(self.settings.params, arguments, loader)
        objective = self._objective(space, arguments)
        with require_extra("optuna"):
            from korlm.sweeps.search.study import opened
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        # No table of a search that is refused; any other is ordered by what its jobs minimise.
        table, SweepTable.folder = SweepTable.folder, None
        with opened(folder, space, self.settings, objective) as search:
            SweepTable.folder, SweepTable.objective = table, objective
            OmegaConf.save(self.config, folder / "multirun.yaml")
            return self._run(search)

    def _objective(self, space: Space, arguments: Sequence[str]) -> str:
        """The objective of the jobs, whose settings are composed here for the first time."""
        example_overrides = space.example_overrides()
        settings = self._composed(example_overrides)
        chosen = [argument for argument in arguments if argument.startswith("sweep=")]
        if chosen and self._composed([*chosen, *example_overrides]) != settings:
            raise ConfigError(
                f"{chosen[-1]}: sets something outside hydra.sweeper.params; what all trials share "
                "stands there too, as KEY: VALUE, so that the best trial can be typed"
            )
        check_objective(str(settings["objective"]))
        return str(settings["objective"])

    def _composed(self, overrides: list[str]) -> dict[str, Any]:
        """The settings of a job."""
        assert self.config is not None and self.hydra_context is not None
        loader = self.hydra_context.config_loader
        tree = loader.load_sweep_config(self.config, overrides)
        plain = OmegaConf.to_container(tree, resolve=False)
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items() if key != "hydra"}

    def _run(self, search: Search) -> list[Sequence[JobReturn]]:
        """Runs trials until there are enough."""
        assert self.launcher is not None
        returns: list[Sequence[JobReturn]] = []
        while proposals := search.propose(self.settings.n_jobs):
            legal = [proposal for proposal in proposals if self._is_legal(search, proposal)]
            if legal:
                jobs = [proposal.overrides for proposal in legal]
                returns.append(self.launcher.launch(jobs, initial_job_idx=legal[0].number))
                for proposal, job in zip(legal, returns[-1], strict=True):
                    search.tell(proposal.number, _result(job))
            search.check()
        search.require_result()
        return returns

    def _is_legal(self, search: Search, proposal: Proposal) -> bool:
        """Whether Hydra can compose the settings of a trial; if not, the trial has failed."""
        try:
            self.validate_batch_is_legal([proposal.overrides])
        except (HydraException, OmegaConfBaseException) as error:
            why = f": {error.__cause__}".splitlines()[0] if error.__cause__ else ""
            search.tell(proposal.number, ConfigError(f"{error}{why}"))
            return False
        return True


def _result(job: JobReturn) -> float | BaseException:
    """What a job gave, or what it failed with."""
    result = job._return_value  # its property prints failures, which the job has done
    if job.status is JobStatus.COMPLETED:
        return float(result)
    assert isinstance(result, BaseException)
    return result
