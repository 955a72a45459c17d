"""One training run from settings to metrics.json: puts the parts together, knows no Hydra."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from korlm.config import (
    Mode,
    Precision,
    ResumeFrom,
    TrainerConfig,
    TrainSettings,
)
from korlm.dataset.batches import Batches, RankBatches, build_batches
from korlm.dataset.prepared import Prepared
from korlm.dataset.vocab import BOS_ID, EOS, EOS_ID
from korlm.detokenizers.base import Detokenizer
from korlm.detokenizers.registry import copy_to_run, load_from_run
from korlm.detokenizers.streaming import StreamingDetokenizer
from korlm.evaluation.metrics import exp, metrics, table
from korlm.generation.sampling import sample_ids
from korlm.models.base import LanguageModel
from korlm.models.neural import NeuralLM
from korlm.models.ngram.arpa import read_arpa
from korlm.models.ngram.model import NgramLM
from korlm.models.registry import build_model
from korlm.modules.state import State
from korlm.runs.checkpoint import (
    Checkpoint,
    load_checkpoint,
    random_states,
    restore_random_states,
    resume_command,
    save_checkpoint,
)
from korlm.runs.device import choose_device
from korlm.training import advice
from korlm.training.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.training.ngram import NgramTrainer
from korlm.training.optimizers import build_optimizer
from korlm.training.state import Progress
from korlm.training.stop import StopSignal, TrainingInterrupted
from korlm.training.tensorboard import NullLogger, TensorBoardLogger
from korlm.training.trainer import ADVICE, Trainer
from korlm.training.validation import evaluate
from korlm.utils import threads
from korlm.utils.errors import (
    CheckpointError,
    ConfigError,
    Interrupted,
    PreparedError,
    TrainingError,
    output_errors,
)
from korlm.utils.io.atomic_files import write_figures
from korlm.utils.io.locks import alone
from korlm.utils.memory import keep_freed_memory, peak_memory_mb, reset_peak_memory

logger = logging.getLogger(__name__)


def uses_bf16(config: TrainerConfig, device: torch.device) -> bool:
    """Whether training runs in bf16; auto: where the processor or GPU multiplies it natively.

    Elsewhere bf16 is emulated and slower than fp32. MPS stays in fp32.
    """
    if config.precision is not Precision.auto:
        if config.precision is Precision.bf16 and device.type == "mps":
            raise ConfigError("trainer.precision=bf16: not on MPS; use trainer.precision=fp32")
        return config.precision is Precision.bf16
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, test, bool)() for test in tests)
    return False


def training_device(group: ProcessGroup, config: TrainerConfig) -> torch.device:
    """The device of this process: each of several has a GPU of its own, or they share the CPU.

    Raises:
        ConfigError: more processes on this machine than GPUs.
    """
    device = choose_device(config)
    if group.is_alone or device.type == "cpu":
        return device
    there, wanted = torch.cuda.device_count() if device.type == "cuda" else 1, group.place
    if wanted.local_size > there:
        raise ConfigError(
            f"trainer.device={config.device.value}: {wanted.local_size} processes on this machine, "
            f"{there} of {device.type}: give torchrun --nproc-per-node {there}, or "
            "trainer.device=cpu"
        )
    device = torch.device(device.type, wanted.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


ValidationCallback = Callable[[int, float, Mapping[str, float]], None]


class TrainingSession:
    """A run directory and everything that works in it.

    Args:
        settings: of the run; on resuming, those that the checkpoint carries.
        plain: the same as plain dicts, for checkpoints.
        prepared: the text.
        folder: the run directory.
        resumed: last.pt of the session before, or None.
        group: the processes that train together; the first one alone writes and tells.
        watch: told (step, share of all steps, figures of valid) of each validation; ends the run by
            an exception.
    """

    def __init__(
        self,
        settings: TrainSettings,
        plain: dict[str, Any],
        prepared: Prepared,
        folder: Path,
        resumed: Checkpoint | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
        watch: ValidationCallback | None = None,
    ) -> None:
        self.group, self.watch = group, watch
        self.settings, self.prepared, self.folder = settings, prepared, folder
        # What the prepared corpus was made with, which prepared=DIR leaves open.
        self.plain = {**plain, **prepared.manifest["settings"]}
        self.device = training_device(group, settings.trainer)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.bf16 = uses_bf16(settings.trainer, self.device)
        torch.manual_seed(settings.seed)
        self.model: LanguageModel = build_model(
            settings.model, len(prepared.vocab), prepared.vocab.tokens, prepared.vocab.counts
        )
        matrices = [weight.numel() for weight, _ in self.model.muon_weights()]
        rows = settings.batches.batch_size // group.size
        most = settings.trainer.threads
        if most is None and not self.bf16:  # figures are not to depend on the machine's cores
            most = min(threads.all_threads(), threads.SAME_IN_FP32)
        threads.configure_threads(most, rows * max(matrices, default=0))
        counted = isinstance(self.model, NgramLM)
        if counted and self.device.type == "mps":  # has no float64
            self.device = torch.device("cpu")
        self.model.to(self.device)
        group.broadcast_parameters(self.model)
        if not group.is_main_process:  # dropout differs from process to process
            torch.manual_seed(settings.seed + group.rank)
        self.optimizer = build_optimizer(self.model, settings.optimizer, self.bf16)
        self.progress = Progress()
        state: State | None = None
        if resumed is not None:
            state = self._local_state(self._restore(resumed))
        if isinstance(self.model, NgramLM) and self.model.config.arpa and not self.progress.step:
            # Before anything is written: a file that is refused leaves no run directory behind.
            started = time.perf_counter()
            arpa = Path(self.model.config.arpa)
            self.model.set_tables(read_arpa(arpa, prepared.vocab.tokens, self.model.order))
            self.model.to(self.device)
            self.progress.seconds += time.perf_counter() - started
        ids = {split: prepared.ids(split) for split in prepared.stats}
        text, seed, device = settings.batches, settings.seed, self.device
        train = self._share(build_batches(ids["train"], text, not counted, seed, "train", device))
        # All splits are evaluated in the same way, train included.
        self.batches: dict[str, Batches] = {
            split: self._share(build_batches(ids[split], text, False, seed, split, device))
            for split in ids
        }
        self.checkpoints = folder / "checkpoints"
        first_step = self.progress.step + 1 if resumed is not None else 0
        self.tracker: TensorBoardLogger = NullLogger()
        if group.is_main_process:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            copy_to_run(prepared.folder, folder)
            self.tracker = TensorBoardLogger(folder / "tensorboard", first_step)
        self.stop = StopSignal(group)
        self.trainer = Trainer(
            model=self.model,
            optimizer=self.optimizer,
            schedule=settings.schedule,
            config=settings.trainer,
            train=train,
            device=self.device,
            bf16=self.bf16,
            progress=self.progress,
            state=state,
            validate=self._validate,
            save=self.save,
            point=self.tracker.log_train,
            stop=self.stop,
            group=group,
        )
        if counted:
            tokens = prepared.vocab.tokens
            self.trainer = NgramTrainer(
                **vars(self.trainer), ids=ids["train"], tokens=tokens, folder=folder
            )

    def _share(self, batches: Batches) -> Batches:
        """What this process works on."""
        group = self.group
        return batches if group.is_alone else RankBatches(batches, group.rank, group.size)

    def _local_state(self, state: State | None) -> State | None:
        """What the model had read in the rows of this process, of what it had read in all."""
        if state is None or self.group.is_alone:
            return state
        return tuple(part[self.group.rank :: self.group.size] for part in state)

    def _gather_state(self) -> State | None:
        """What the model has read in the rows of all processes, in the order of the rows."""
        state, size = self.trainer.state, self.group.size
        if self.group.is_alone or not self.trainer.train.carries_state:
            return state if self.group.is_alone else None
        shares = self.group.gather(None if state is None else [part.cpu() for part in state])
        if state is None:
            return None
        whole = tuple(part.new_empty(len(part) * size, *part.shape[1:]).cpu() for part in state)
        for rank, share in enumerate(shares):
            for place, part in zip(whole, share or [], strict=True):
                place[rank::size] = part
        return whole

    def _restore_random(self, states: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Puts this process's random numbers back, if as many processes go on as were stopped."""
        of_all = states if isinstance(states, list) else [states]
        if len(of_all) == self.group.size:
            restore_random_states(of_all[self.group.rank])
        elif self.group.is_main_process:
            logger.warning(
                "%d processes go on where %d stopped: dropout draws other numbers from here on "
                "than an unbroken run would have",
                self.group.size,
                len(of_all),
            )

    def _restore(self, checkpoint: Checkpoint) -> State | None:
        """Puts everything back where a session left it; gives what the model had read."""
        if checkpoint["fingerprint"] != self.prepared.fingerprint:
            raise PreparedError(
                f"{self.prepared.folder}: its fingerprint {self.prepared.fingerprint} is not that "
                f"of the checkpoint, {checkpoint['fingerprint']}: the text or its preparation has "
                "changed since; start a new run, or bring back the text"
            )
        try:
            self.model.load_state_dict(checkpoint["model"])
            self.progress = Progress.restore(checkpoint["progress"])
            if self.settings.resume_from is ResumeFrom.best:
                self._begin_at_best()
                return None
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self._restore_random(checkpoint["rng"])
            state = checkpoint["state"]
            return None if state is None else tuple(part.to(self.device) for part in state)
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{self.folder}/checkpoints/{self.settings.resume_from.value}.pt: does not fit its "
                f"own settings ({reason})"
            ) from error

    def _begin_at_best(self) -> None:
        """Go on from best.pt, which holds neither moments nor random numbers nor a state."""
        self.progress.validated_step = self.progress.step
        if self.group.is_main_process:
            logger.warning(
                "going on from the best model, of step %d, with a new state of the optimizer: the "
                "figures will differ from those of an unbroken run",
                self.progress.step,
            )

    def checkpoint(self) -> Checkpoint:
        """Model, settings and vocabulary: what it takes to use the model anywhere."""
        spelling, learned = self.prepared.spelling.arrays(), self.prepared.learned
        return {
            "config": self.plain,
            "fingerprint": self.prepared.fingerprint,
            "prepared": str(self.prepared.folder.resolve()),
            "vocab": {
                "tokens": list(self.prepared.vocab.tokens),
                "counts": list(self.prepared.vocab.counts),
            },
            "spelling": {
                name: torch.from_numpy(array.astype("int64")) for name, array in spelling.items()
            },
            "learned": None
            if learned is None
            else torch.frombuffer(bytearray(learned), dtype=torch.uint8),
            "model": self.model.state_dict(),
            "optimizer": None,
            "progress": self.progress.plain(),
        }

    def save(self) -> None:
        """Writes last.pt: the model and all that it takes to go on as if nothing had happened."""
        state = self._gather_state()
        rng = self.group.gather(random_states())
        if not self.group.is_main_process:
            return
        checkpoint = {
            **self.checkpoint(),
            "optimizer": self.optimizer.state_dict(),
            "state": None if state is None else [part.contiguous() for part in state],
            "rng": rng[0] if self.group.is_alone else rng,
        }
        save_checkpoint(self.checkpoints / "last.pt", checkpoint)

    def _figures(self, split: str, progress: bool = False) -> dict[str, float]:
        """The figures of metrics.json of a split, by a pass over it."""
        reset_peak_memory()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        tally = evaluate(
            self.model,
            self.batches[split],
            self.device,
            self.stop,
            progress and self.group.is_main_process,
            self.group,
        )
        peak = peak_memory_mb()
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device) / (1 << 20)
        return metrics(tally, self.prepared.stats[split], peak)

    def _validate(self) -> float:
        """Measures valid, writes best.pt if it is the best yet, and lets the model write a text."""
        figures = self._figures("valid")
        loss, step = figures["loss"], self.progress.step
        if not self.group.is_main_process:
            return loss
        is_best = loss < self.progress.best_loss and math.isfinite(figures["perplexity"])
        # A counted model is its own best, even if its loss is infinite.
        if is_best or isinstance(self.trainer, NgramTrainer):
            best = {**self.progress.plain(), "best_loss": loss, "best_step": step}
            save_checkpoint(self.checkpoints / "best.pt", {**self.checkpoint(), "progress": best})
        self.tracker.log_validation(step, figures, min(loss, self.progress.best_loss))
        if self.settings.trainer.sample_tokens:
            self.tracker.sample(step, self._sample())
        if self.watch is not None:
            self.watch(step, step / self.trainer.total_steps, figures)
        return loss

    def _sample(self) -> dict[str, str]:
        """Tokens drawn from the model as they are, and what they make as Korean text."""
        mode, count = self.settings.batches.mode, self.settings.trainer.sample_tokens
        start_id = EOS_ID if mode is Mode.stream else BOS_ID
        self.model.eval()
        ids = sample_ids(self.model, start_id, count, 0.8, self.settings.seed)
        tokens = [self.prepared.vocab.tokens[i] for i in ids]
        drawn = " ".join("\n\n" if token == EOS else token for token in tokens)
        if self._recomposer is None:
            return {"samples": drawn}
        stream = StreamingDetokenizer(self._recomposer)
        text = "".join(map(stream.add, tokens)) + stream.end()
        # Four blanks would begin a line of program code in Markdown.
        lines = (" ".join(line.split()) for line in text.splitlines())
        return {"samples": "\n\n".join(lines), "samples/tokens": drawn}

    @functools.cached_property
    def _recomposer(self) -> Detokenizer | None:
        """Writes tokens as text, if that is known of the run's tokenizer."""
        return load_from_run(self.plain["tokenizer"]["name"], self.folder)

    def fit(self) -> dict[str, dict[str, float]]:
        """Trains to the end, evaluates the best model on every split, writes metrics.json.

        Raises:
            Interrupted: on Ctrl-C, with last.pt written; the message tells how to go on.
        """
        self._announce()
        taken = f"{self.folder}: another process trains in there; wait for it or end it first"
        with contextlib.ExitStack() as stack:
            if self.group.is_main_process:
                stack.enter_context(alone(self.checkpoints / ".lock", taken))
            return self._fit()

    def _fit(self) -> dict[str, dict[str, float]]:
        """Trains and evaluates; whatever ends it, TensorBoard has what there is to tell."""
        try:
            with self.stop:
                self._train()
                # From here on the model is the best one, and last.pt must stay what it is.
                return self._finish()
        except OSError:
            with output_errors(self.folder, again=self._resume_hint()):
                raise
        except TrainingInterrupted:
            raise Interrupted(
                f"stopped at step {self.progress.step} of {self.trainer.total_steps}; go on with: "
                + resume_command(self.folder, self.group.size)
            ) from None
        finally:
            with contextlib.suppress(OSError):  # a full disk has had its say
                self.tracker.close()

    def _resume_hint(self) -> str:
        """What to do when what broke off this run is mended."""
        if (self.checkpoints / "last.pt").is_file():
            return f"go on with: {resume_command(self.folder, self.group.size)}"
        return "run the same command again"

    def _train(self) -> None:
        """Trains to the end, or to where the user stops it; last.pt is written there."""
        try:
            self.trainer.run()
        except TrainingInterrupted:
            self.save()
            raise
        self.save()

    def _announce(self) -> None:
        if not self.group.is_main_process:
            return
        counts = self.prepared.stats["train"]
        logger.info(
            "%s: %s tokens of train, a vocabulary of %s",
            self.prepared.folder,
            f"{counts.num_tokens:,}",
            f"{len(self.prepared.vocab):,}",
        )
        unknown = advice.on_unknown(self.prepared.stats["valid"], self.prepared.vocab_config)
        if unknown:
            logger.warning("%s", unknown)
        if isinstance(self.model, NgramLM):
            config = self.model.config
            what = f"of {config.arpa}" if config.arpa else f"counting ({config.smoothing.value})"
            logger.info("an n-gram model of order %d: %s: %s", config.order, what, self.folder)
            return
        logger.info(
            "training a %s of %s parameters on %s%s in %s for %s steps%s: %s",
            self.settings.model.name,
            f"{self.num_parameters:,}",
            self.device.type if self.group.size > 1 else self.device,
            f" by {self.group.size} processes" if self.group.size > 1 else "",
            "bf16" if self.bf16 else "fp32",
            f"{self.trainer.total_steps:,}",
            f", from step {self.progress.step:,} on" if self.progress.step else "",
            self.folder,
        )
        steps = (len(self.trainer.train), self.trainer.total_steps)
        if few := advice.on_steps(self.settings.trainer, *steps):
            logger.warning("%s", few)
        logger.info("%s", advice.PERPLEXITIES)

    @property
    def num_parameters(self) -> int:
        """Those that are learned, what is shared counted once; of an n-gram model its n-grams."""
        if isinstance(self.model, NgramLM):
            return self.model.num_grams
        return sum(parameter.numel() for parameter in self.model.parameters())

    def _training_figures(self) -> dict[str, float]:
        """What training itself took; seconds are those of all sessions, validations included."""
        progress = self.progress
        tokens = progress.epoch * self.trainer.train.num_tokens + progress.epoch_tokens
        return {
            "num_parameters": self.num_parameters,
            "steps": progress.step,
            "best_step": progress.best_step,
            "num_tokens": tokens,
            "seconds": progress.seconds,
            "tokens_per_second": tokens / max(progress.seconds, 1e-9),
        }

    def _finish(self) -> dict[str, dict[str, float]]:
        """Figures of the best model."""
        self.group.any(False)  # the first has written its last checkpoint when all have come here
        best_loss = self.progress.best_loss
        if not isinstance(self.trainer, NgramTrainer):
            if math.isinf(best_loss):
                raise TrainingError(
                    f"the training has diverged: valid perplexity was infinite at each validation "
                    f"up to step {self.progress.step}, and there is no best model: " + ADVICE
                )
            if best_loss > math.log(len(self.prepared.vocab)) and self.group.is_main_process:
                logger.warning(
                    "the best valid perplexity, %.4g, is worse than guessing among the %s tokens "
                    "of the vocabulary: train longer or lower optimizer.lr and matrix_lr",
                    exp(best_loss),
                    f"{len(self.prepared.vocab):,}",
                )
        best = load_checkpoint(self.checkpoints / "best.pt")
        self.model.load_state_dict(best["model"])
        splits = {split: self._figures(split, progress=True) for split in self.batches}
        if not self.group.is_main_process:
            return splits
        write_figures(self.folder / "training.json", self._training_figures())
        self._show_embeddings()
        self.tracker.finish(self.progress.step, splits, self.plain)
        if (
            isinstance(self.trainer, NgramTrainer)
            and self.trainer.network_steps > self.progress.step
        ):
            self.tracker.baseline(self.trainer.network_steps, splits)
        self.tracker.close()
        write_figures(self.folder / "metrics.json", splits)  # the last: with it a run is finished
        logger.info("best model, of step %d:\n%s", best["progress"]["best_step"], table(splits))
        logger.info("%s: metrics.json, checkpoints, tensorboard", self.folder)
        return splits

    def _show_embeddings(self) -> None:
        """Those of the best model, for TensorBoard's projector; n-grams have none."""
        number = self.settings.trainer.projector_tokens
        if number and isinstance(self.model, NeuralLM):
            vocab = self.prepared.vocab
            with torch.no_grad():
                matrix = self.model.embedding.full_weight()
            self.tracker.embeddings(matrix, vocab.tokens, vocab.counts, number)
