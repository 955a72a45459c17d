"""Shared fixtures: a small corpus, and korlm's commands, run in this process or in others."""

import os

# As in the commands: waiting threads of PyTorch must not spin while other processes run.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import copy
import functools
import importlib
import json
import logging
import random
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from command_server import CommandServer
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.config_store import ConfigStore

from korlm import config
from korlm.utils.io import checksums

# Every command with its required arguments.
COMMANDS: dict[str, list[str]] = {
    "prepare": [],
    "train": [],
    "evaluate": ["run=x"],
    "predict": ["run=x", "input=x"],
    "score": ["run=x", "input=x"],
    "pairs": ["run=x"],
    "rescore": ["run=x", "nbest=x"],
    "serve": ["run=x"],
    "export": ["run=x"],
    "generate": ["run=x"],
    "report": ["runs=[x]"],
}
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, for a fixed order of sums; restore the number that the test changed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Handle signals as in a terminal: nohup ignores SIGHUP, background shells ignore SIGINT."""
    numbers = [getattr(signal, name, signal.SIGTERM) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def fresh_fonts() -> Iterator[None]:
    """Clear the font caches before and after a test that hides fonts."""
    from korlm.utils import plotting

    cached = (plotting.fonts, plotting.drawable_chars, plotting.log_missing_font)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


WHO = ["나는", "너는", "친구가", "동생이", "어머니께서", "선생님은", "아이들이", "할머니는"]
WHEN = ["오늘", "어제", "아침에", "저녁에", "주말마다", "가끔"]
WHAT = [
    "학교에 갔다.",
    "밥을 먹었다.",
    "책을 읽는다.",
    "노래를 부른다.",
    "영화를 봤다.",
    "잠을 잔다.",
]


def sentences(count: int, seed: int) -> list[str]:
    """Return random simple Korean sentences."""
    rng = random.Random(seed)
    return [" ".join(rng.choice(words) for words in (WHO, WHEN, WHAT)) for _ in range(count)]


@dataclass
class TinyCorpus:
    """Three files of simple sentences with fixed splits."""

    train: Path
    valid: Path
    test: Path

    @property
    def overrides(self) -> list[str]:
        """Return the overrides that select the three files."""
        files = [f"corpus.{split}=[{getattr(self, split)}]" for split in ("train", "valid", "test")]
        return ["corpus=text", *files]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    folder = tmp_path_factory.mktemp("tiny")
    paths = []
    for seed, (split, count) in enumerate((("train", 240), ("valid", 40), ("test", 40))):
        path = folder / f"{split}.txt"
        path.write_text("\n".join(sentences(count, seed)) + "\n", encoding="utf-8")
        paths.append(path)
    return TinyCorpus(*paths)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a prepared corpus of a few dozen sentences; tests must not change it."""
    from tiny_runs import prepare_tiny

    return prepare_tiny(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Return a function that loads a run of ``TINY_RUNS``; its first call trains it.

    Tests share the runs and must not change them.
    """
    from tiny_runs import train_tiny_run

    folder = tmp_path_factory.mktemp("tiny_runs")
    return functools.cache(lambda name: train_tiny_run(folder, name))


@pytest.fixture(scope="session")
def tiny_task_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Return a function that loads a run of ``TASKS``; as ``tiny_run``."""
    from task_cases import train_task_run

    folder = tmp_path_factory.mktemp("tiny_task_runs")
    return functools.cache(lambda name: train_task_run(folder, name))


def new_checksums(path: Path, **changes: Any) -> None:
    """Change values of manifest.json or config.json, and renew the checksums of all files.

    This simulates a deliberate change; accidental damage leaves the checksums as they were.
    """
    values = {**json.loads(path.read_text("utf-8")), **changes}
    names = [name for name in values.get(checksums.CRC32_KEY, ()) if (path.parent / name).is_file()]
    whole = checksums.with_checksums(values, path.parent, [path.parent / name for name in names])
    path.write_text(json.dumps(whole), "utf-8")


def flip_bit(path: Path, fraction: float) -> None:
    """Flip one bit of a file, at a fraction of its length."""
    data = bytearray(path.read_bytes())
    data[min(int(fraction * len(data)), len(data) - 1)] ^= 0x10
    path.write_bytes(data)


def note_disk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that records every fsync and every rename, in order."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        events.append("fsync")
        fsync(descriptor)

    def note_replace(source: Any, target: Any) -> None:
        events.append(f"replace {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    return events


SMALL = [
    *("model.embedding_dim=16", "model.hidden_dim=16", "model.num_layers=1"),
    *("batches.batch_size=4", "batches.bptt_length=8", "trainer.epochs=2", "trainer.threads=1"),
    *("trainer.device=cpu", "trainer.precision=fp32", "trainer.sample_tokens=5"),
    "optimizer.lr=0.01",
]
LIGHT = ["tokenizer=syllable", *SMALL]


@pytest.fixture(scope="session")
def server() -> Iterator[CommandServer]:
    """Yield a server that runs commands in forked processes."""
    with CommandServer() as started:
        yield started


@dataclass
class Ended:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """Return the one line that reports a user's mistake."""
        lines = self.err.splitlines()
        assert self.code == 1, f"exit code {self.code}, stderr: {self.err}"
        assert len(lines) == 1, f"not one line: {self.err}"
        return lines[0]


Command = Callable[..., Ended]
store_schemas_once = functools.cache(config.store_schemas)


def copy_all_but_schemas(self: CachingConfigRepository, delegate: IConfigRepository) -> None:
    store = ConfigStore.instance()  # copies each schema that it returns
    self.delegate, self.cache = copy.deepcopy(delegate, {id(store): store}), {}


@pytest.fixture
def korlm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return a function that runs ``korlm("train", "key=value", ...)`` in an empty folder.

    Two slow steps are avoided: schemas are stored once per session, and Hydra does not copy all of
    them for each command.
    """
    mains = {name: importlib.import_module(f"korlm.{name}").main for name in COMMANDS}
    monkeypatch.setattr(config, "store_schemas", store_schemas_once)
    monkeypatch.setattr(CachingConfigRepository, "__init__", copy_all_but_schemas)
    monkeypatch.chdir(tmp_path)
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level

    def run(command: str, *overrides: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [command, *overrides])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        capsys.readouterr()
        code: object = 0
        try:
            mains[command]()
        except SystemExit as end:
            code = end.code
        finally:
            for handler in logging.getLogger().handlers[:]:
                if handler not in handlers:
                    logging.getLogger().removeHandler(handler)
                    handler.close()
            logging.getLogger().setLevel(level)
        captured = capsys.readouterr()
        return Ended(int(str(code or 0)), captured.out, captured.err)

    return run
