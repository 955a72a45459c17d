"""Stage: corpus or prepared corpus -> run directory with a trained and evaluated model."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.cli import command as cli
from korlm.cli.arguments import key_of
from korlm.cli.output_dirs import is_sweep, output_dir
from korlm.config import TrainSettings
from korlm.config.objective import cost
from korlm.config.serialization import plain_settings, settings_from_plain
from korlm.config.stored import read_json
from korlm.runs.directories import is_finished, resumed_checkpoint
from korlm.sweeps.command import pruning_callback, stage
from korlm.sweeps.folder import is_inside
from korlm.sweeps.results import damaged_figures
from korlm.utils import dist_env
from korlm.utils.errors import CheckpointError, ConfigError, enough_memory

if TYPE_CHECKING:
    from korlm.dataset.prepared import Prepared
    from korlm.training.distributed import ProcessGroup

logger = logging.getLogger(__name__)


@stage("train")
def main(settings: TrainSettings) -> float:
    """Trains, or goes on training; gives the objective, for sweepers to minimise."""
    run_dir, resumed, objective = output_dir(), None, settings.objective
    if is_sweep():
        if is_finished(run_dir):
            logger.info("%s: finished before", run_dir)
            return _finished_objective(objective, run_dir / "metrics.json")
        broken = (run_dir / "checkpoints" / "last.pt").is_file()
        settings = dataclasses.replace(settings, resume=str(run_dir) if broken else None)
    if settings.resume:
        settings, resumed = _take_up(settings)
    place = dist_env.place()
    if settings.batches.batch_size % place.size:
        raise ConfigError(
            f"batches.batch_size={settings.batches.batch_size}: {place.size} processes cannot "
            f"divide it evenly: give a multiple of {place.size}, or another number of processes"
        )
    if settings.model.name == "ngram" and not place.is_alone:
        raise ConfigError(
            "model=ngram: is counted by one process, which reads the text once; start it without "
            "torchrun, in a sweep with hydra.launcher.tasks_per_node=1"
        )
    if place.is_main_process:
        from korlm.detokenizers.registry import ensure_trained

        prepared = _prepared(settings, resumed)
        ensure_trained(prepared.manifest["settings"]["tokenizer"]["name"], prepared.folder)

    from korlm.training.distributed import ProcessGroup

    group = ProcessGroup(place)
    if place.is_main_process:
        group.tell(str(run_dir), str(prepared.folder.resolve()))
    else:  # the first one alone prepares the corpus and has a run directory
        run_dir, prepared = _hear(group)

    from korlm.training.session import TrainingSession

    plain = plain_settings(settings)
    advice = "lower model.hidden_dim, model.embedding_dim or batches.batch_size"
    memory = enough_memory(f"model={settings.model.name}", advice)
    with group, pruning_callback(objective) as watch, memory:
        run = TrainingSession(settings, plain, prepared, run_dir, resumed, group, watch)
        return _objective(objective, run.fit())


def _finished_objective(name: str, path: Path) -> float:
    """Return the objective of a job that is finished.

    Raises:
        CheckpointError: its metrics.json is damaged.
    """
    try:
        return _objective(name, read_json(path))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(damaged_figures(path, error)) from error


def _objective(name: str, splits: dict[str, dict[str, float]]) -> float:
    """What a sweeper minimises."""
    split, _, key = name.partition(".")
    return cost(name, splits[split][key])


def _hear(group: ProcessGroup) -> tuple[Path, Prepared]:
    """The run directory and the prepared corpus of the first process."""
    from korlm.dataset.prepared import open_prepared

    run_dir, folder = group.hear()
    return Path(run_dir), open_prepared(Path(folder))


def _take_up(command: TrainSettings) -> tuple[TrainSettings, dict[str, object]]:
    """Return the settings and the checkpoint of a broken-off run, with this command's on top.

    Args:
        command: settings of this command. Where prepared corpora go and who tokenizes is its
            affair: a run that somebody else made must not choose folders and hosts here.
    """
    assert command.resume is not None
    own = ("resume", "resume_from")
    overrides = [o for o in cli.command_overrides() if key_of(o) not in own]
    if is_sweep():
        overrides = []  # the job is known by them: they are in the checkpoint
    for override in overrides:
        if not override.startswith(
            ("trainer.", "prepare.", "outputs=", "prepared=", "objective=", "imports=")
        ):
            raise ConfigError(
                f"{override}: a resumed run keeps its settings; only trainer.*, prepare.*, "
                "outputs, prepared, objective and imports may change"
            )
    from korlm.runs.checkpoint import load_checkpoint, settings_of

    path = resumed_checkpoint(command.resume, command.resume_from.value)
    run_dir = path.parents[1]
    checkpoint = load_checkpoint(path)
    settings = settings_from_plain(settings_of(checkpoint, path), overrides)
    chosen = any(key_of(override) == "outputs" for override in overrides)
    if not chosen and not is_inside(run_dir, Path(settings.outputs)):
        settings = dataclasses.replace(settings, outputs=command.outputs)
    settings = dataclasses.replace(
        settings, prepare=command.prepare, resume_from=command.resume_from
    )
    return settings, checkpoint


def _prepared(settings: TrainSettings, resumed: dict[str, object] | None) -> Prepared:
    """The prepared corpus that was named, or the one of the settings, made if it is missing."""
    from korlm.dataset.prepare import prepare
    from korlm.dataset.prepared import open_prepared

    there = Path(str(resumed.get("prepared"))) if resumed else Path()
    if settings.prepared is None and (there / "manifest.json").is_file():
        return open_prepared(there)  # the very ids, whatever became of the text since
    if settings.prepared is None:
        return prepare(
            settings.corpus,
            settings.tokenizer,
            settings.vocab,
            Path(settings.outputs),
            cluster=settings.prepare,
        )
    for override in cli.command_overrides():
        if override.startswith(("corpus", "tokenizer", "vocab", "prepare.")):
            raise ConfigError(
                f"{override}: has no effect beside prepared={settings.prepared}; leave one out"
            )
    return open_prepared(Path(settings.prepared))


if __name__ == "__main__":
    with dist_env.exit_immediately():
        main()
