"""Settings of training runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from korlm.config.commands.prepare import CorpusSettings
from korlm.config.groups.model import ModelConfig, NgramConfig, RecurrentConfig
from korlm.config.groups.task import EncoderTaskConfig, TaggingConfig, TaskConfig
from korlm.config.groups.training import (
    BatchesConfig,
    OptimizerConfig,
    ResumeFrom,
    ScheduleConfig,
    TrainerConfig,
)
from korlm.config.metrics import LANGUAGE_MODELING, check_objective
from korlm.config.registry import register
from korlm.config.validation import MAX_SEED, MISSING, setting
from korlm.utils.errors import ConfigError


@register("", "train")
@dataclass
class TrainSettings(CorpusSettings):
    """Train a model on a Korean corpus: a language model, or a model of another task.

    Prepares the corpus unless that is done already, trains, evaluates the best model, and writes
    outputs/runs/<date>_<time>: checkpoints, metrics.json, train.log, tensorboard.

      python -m korlm.train                                       the texts of konlpy
      python -m korlm.train corpus=text 'corpus.files=[FOLDER]'   your text, split by document
      python -m korlm.train model=gru optimizer.lr=0.01 name=gru  another model
      python -m korlm.train task=classification corpus=tsv corpus.files=reviews.tsv \
          corpus.text_column=review corpus.label_column=label         labels of texts
      python -m korlm.train resume=outputs/runs/DIR               resume a run
      python -m korlm.train -m model=ngram,window,rnn,gru,lstm    a sweep, with a table at its end
      python -m korlm.train -m sweep=lstm_small                   a hyperparameter search
      python -m korlm.train -m resume=outputs/sweeps/DIR          resume a sweep or a search
      python -m korlm.train -m seed=1,2,3 objective=test.loss     sort the table by another metric
      python -m korlm.train -m seed=1,2,3 hydra/launcher=parallel parallel jobs; submitit_slurm: on
                                                                  a cluster
      torchrun --nproc-per-node 2 -m korlm.train                  two GPUs, or two processes
      tensorboard --logdir outputs                                watch runs and sweeps
    """

    task: TaskConfig = setting(MISSING)
    batches: BatchesConfig = setting(MISSING)
    model: ModelConfig = setting(MISSING)
    optimizer: OptimizerConfig = setting(MISSING)
    schedule: ScheduleConfig = setting(MISSING)
    trainer: TrainerConfig = setting(TrainerConfig)
    seed: int = setting(1, "Random seed of parameters, dropout and batches.", min=0, max=MAX_SEED)
    name: str | None = setting(None, "Part of the name of the run directory.")
    prepared: str | None = setting(
        None, "Prepared corpus to train on, instead of corpus, tokenizer and vocab.", is_path=True
    )
    init: list[str] = setting(
        list,
        "Language models that the encoder of a task starts from, with their vocabulary and sizes: "
        "a run, or a forward and a backward one (corpus.reverse=true), of the same tokenizer.",
        is_path=True,
    )
    resume: str | None = setting(
        None, "Directory of an interrupted run to resume; with -m of a sweep.", is_path=True
    )
    resume_from: ResumeFrom = setting(
        ResumeFrom.last,
        "Checkpoint to resume from; best: if last.pt is damaged, with a new optimizer state, so "
        "that results differ from those of an uninterrupted run.",
    )
    objective: str = setting(
        "valid.perplexity",
        "SPLIT.KEY of metrics.json that sorts the table of a sweep and that searches optimize; the "
        "default depends on the task (classification: valid.accuracy).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_objective(self.objective, self.task.name)
        if isinstance(self.task, EncoderTaskConfig) and not isinstance(self.model, RecurrentConfig):
            raise ConfigError(
                f"model={self.model.name}: task={self.task.name} needs model=lstm, gru or rnn"
            )
        if self.init and not getattr(self.task, "starts_from_language_model", False):
            self._fail("init", f"task={self.task.name} cannot start from a language model")
        if getattr(self.task, "starts_from_language_model", False) and not self.init:
            assert isinstance(self.model, RecurrentConfig)
            self.model = self.model.without_head()
        if len(self.init) > 2:
            self._fail("init", "at most two runs: a forward and a backward language model")
        is_one_way = isinstance(self.task, EncoderTaskConfig) and not self.task.bidirectional
        if len(self.init) == 2 and is_one_way:
            self._fail("init", "a backward language model needs task.bidirectional=true")
        if isinstance(self.task, TaggingConfig) and self.task.encoder_dim and len(self.init) != 2:
            raise ConfigError(
                f"task.encoder_dim={self.task.encoder_dim}: reads the states of two language "
                "models; give 'init=[FORWARD,BACKWARD]'"
            )
        if self.corpus.reverse and self.task.name != LANGUAGE_MODELING:
            raise ConfigError(
                "corpus.reverse=true: is for task=language_modeling; a bidirectional encoder reads "
                "both directions"
            )
        if self.name is not None and not re.fullmatch(r"[\w.-]+", self.name):
            self._fail("name", "must consist of letters, digits, _, . and -")

    def without_effect(self) -> dict[str, str]:
        reasons: dict[str, str] = {}
        if self.resume is None:
            reasons["resume_from"] = "it selects the checkpoint of resume=DIR"
        if isinstance(self.model, NgramConfig):
            # trainer.epochs and max_steps are not listed: TensorBoard shows the model's perplexity
            # as a level line over as many steps.
            keys = [
                *("optimizer", "schedule", "trainer.precision", "trainer.clip_norm"),
                *("trainer.early_stopping_patience", "trainer.eval_every", "trainer.log_every"),
                *("trainer.checkpoint_every_minutes", "trainer.projector_tokens"),
            ]
            reasons |= dict.fromkeys(keys, "model=ngram is counted, not trained by gradients")
        return reasons
