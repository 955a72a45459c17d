"""Command: corpus or prepared corpus -> run directory with a trained and evaluated model."""

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
from korlm.config.serialization import settings_from_plain
from korlm.runs.directories import is_finished, resumed_checkpoint
from korlm.sweeps.command import pruning_callback, stage
from korlm.sweeps.folder import is_inside
from korlm.sweeps.results import finished_objective
from korlm.utils import dist_env
from korlm.utils.errors import ConfigError, enough_memory

if TYPE_CHECKING:
    from korlm.dataset.prepare import TextEncoding
    from korlm.dataset.prepared import Prepared
    from korlm.utils.distributed import ProcessGroup

logger = logging.getLogger(__name__)


@stage("train")
def main(settings: TrainSettings) -> float:
    """Train a new or a resumed run; return the objective for sweepers to minimize."""
    run_dir, resumed, objective = output_dir(), None, settings.objective
    if is_sweep():
        if is_finished(run_dir):
            logger.info("%s: finished before", run_dir)
            return finished_objective(objective, run_dir)
        is_interrupted = (run_dir / "checkpoints" / "last.pt").is_file()
        settings = dataclasses.replace(settings, resume=str(run_dir) if is_interrupted else None)
    if settings.resume:
        settings, resumed = _load_resumed(settings)
        if not is_sweep():  # the default depends on the task, which the command need not repeat
            objective = settings.objective
    encoding = None
    if settings.init and resumed is None:
        from korlm.tasks.pretrained import with_shapes_of

        settings, encoding = with_shapes_of(settings, cli.command_overrides())
    env = dist_env.current_rank()
    if settings.batches.batch_size % env.size:
        raise ConfigError(
            f"batches.batch_size={settings.batches.batch_size}: must be a multiple of {env.size}, "
            "the number of processes"
        )
    if settings.model.name == "ngram" and env.size > 1:
        raise ConfigError(
            "model=ngram: is counted by a single process; start it without torchrun, in a sweep "
            "with hydra.launcher.tasks_per_node=1"
        )
    if env.is_main_process:
        from korlm.detokenizers.registry import ensure_trained

        prepared = _open_or_prepare(settings, resumed, encoding)
        ensure_trained(prepared.manifest["settings"]["tokenizer"]["name"], prepared.folder)

    from korlm.utils.distributed import ProcessGroup

    group = ProcessGroup(env)
    if env.is_main_process:
        group.publish(str(run_dir), str(prepared.folder.resolve()))
    else:  # only rank 0 prepares the corpus and has a run directory
        run_dir, prepared = _wait_for_main_process(group)

    from korlm.training.session import build_session

    advice = "lower model.hidden_dim, model.embedding_dim or batches.batch_size"
    memory = enough_memory(f"model={settings.model.name}", advice)
    with group, pruning_callback(objective) as pruning, memory:
        callbacks = () if pruning is None else (pruning,)
        session = build_session(settings, prepared, run_dir, resumed, group, callbacks)
        split, _, key = objective.partition(".")
        return cost(objective, session.fit()[split][key])


def _wait_for_main_process(group: ProcessGroup) -> tuple[Path, Prepared]:
    """Return the run directory and the prepared corpus of rank 0."""
    from korlm.dataset.prepared import open_prepared

    run_dir, folder = group.wait_for()
    return Path(run_dir), open_prepared(Path(folder))


def _load_resumed(command: TrainSettings) -> tuple[TrainSettings, dict[str, object]]:
    """Return the settings and the checkpoint of an interrupted run.

    The overrides of this command are applied to the stored settings. The settings ``prepare`` and
    ``outputs`` are those of this command: a run from another person must not choose folders and
    hosts on this machine.

    Args:
        command: settings of this command.

    Raises:
        ConfigError: an override may not change in a resumed run.
        CheckpointError: the checkpoint is missing or damaged.
    """
    assert command.resume is not None
    own = ("resume", "resume_from")
    overrides = [o for o in cli.command_overrides() if key_of(o) not in own]
    if is_sweep():
        overrides = []  # they are those of the job, and in the checkpoint
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
    is_overridden = any(key_of(override) == "outputs" for override in overrides)
    if not is_overridden and not is_inside(run_dir, Path(settings.outputs)):
        settings = dataclasses.replace(settings, outputs=command.outputs)
    settings = dataclasses.replace(
        settings, prepare=command.prepare, resume_from=command.resume_from
    )
    return settings, checkpoint


def _open_or_prepare(
    settings: TrainSettings, resumed: dict[str, object] | None, encoding: TextEncoding | None
) -> Prepared:
    """Return the prepared corpus of the settings, or of a resumed run; prepare it if missing.

    Args:
        settings: of the run.
        resumed: the checkpoint of a resumed run.
        encoding: of the language models that the run starts from; None: of the text.

    Raises:
        ConfigError: settings of the corpus beside ``prepared=DIR``.
    """
    from korlm.dataset.prepare import prepare
    from korlm.dataset.prepared import open_prepared

    previous = Path(str(resumed.get("prepared"))) if resumed else Path()
    if settings.prepared is None and (previous / "manifest.json").is_file():
        return open_prepared(previous)  # the same ids, even if the text has changed since
    if settings.prepared is None:
        return prepare(
            settings.corpus,
            settings.tokenizer,
            settings.vocab,
            Path(settings.outputs),
            cluster=settings.prepare,
            encoding=encoding,
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
