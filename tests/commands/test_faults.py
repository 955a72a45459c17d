"""kill -9 at any moment: repeating the command leads to the results of an undisturbed run.

The moments are random. A failure prints a line such as ``KORLM_FAULTS=1234`` that reproduces it;
``KORLM_FAULTS=all`` kills before each change to the file system in turn.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from command_server import CommandServer, Ended
from conftest import LIGHT, TinyCorpus
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from korlm.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")

ASKED = os.environ.get("KORLM_FAULTS", "")
SEED = int(ASKED) if ASKED.isdecimal() else random.SystemRandom().randrange(10**6)
# Commands killed at random moments, every other one twice: 11 kills per test session.
TRIES = {"prepare": 2, "train": 3, "sweep": 2}
TIMES = ("seconds", "tokens_per_second", "peak_memory_mb")
PAGE = 4096  # bytes; the unit of the size of a disk
FEW_STEPS = [
    *LIGHT,
    *("batches.batch_size=20", "trainer.eval_every=7", "trainer.log_every=2"),
    # A checkpoint at every check of the time.
    *("trainer.checkpoint_every_minutes=0.00001", "trainer.sample_tokens=5"),
]


def commands(tiny: TinyCorpus) -> dict[str, list[str]]:
    train = [*tiny.overrides, *FEW_STEPS]
    return {
        "prepare": ["prepare", *tiny.overrides, "tokenizer=syllable"],
        "train": ["train", *train],
        "sweep": ["train", "-m", *train, "trainer.epochs=1", "seed=1,2"],
    }


@dataclass
class Undisturbed:
    """The results of an undisturbed command."""

    command: list[str]
    ended: Ended
    pages: int
    results: dict[str, Any]


@pytest.fixture(scope="module")
def undisturbed(
    server: CommandServer, tiny: TinyCorpus, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Undisturbed]:
    actual = {}
    for kind, command in commands(tiny).items():
        folder = tmp_path_factory.mktemp(kind)
        ended = server.run(folder, *command)
        assert ended.code == 0, ended.err
        pages = sum(-(-path.stat().st_size // PAGE) for path in folder.rglob("*") if path.is_file())
        actual[kind] = Undisturbed(command, ended, pages, results(folder))
        shutil.rmtree(folder)
    return actual


def results(folder: Path, finished: bool = True) -> dict[str, Any]:
    """Return the results of a command, without times; check that no file is half-written."""
    outputs = folder / "outputs"
    actual: dict[str, Any] = {}
    for path in (outputs / "prepared").rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            actual[str(path.relative_to(outputs))] = path.read_bytes()
    runs = [path.parent for path in outputs.rglob("metrics.json")]
    for number, run in enumerate(sorted(runs, key=_seed)):
        actual |= {f"run {number}, {name}": value for name, value in run_results(run).items()}
    for table in outputs.glob("sweeps/*/results.tsv"):
        assert not finished or (table.parent / "sweep.png").is_file()
        rows = [line.split("\t") for line in table.read_text("utf-8").splitlines()]
        kept = [at for at, name in enumerate(rows[0]) if name not in ("job", *TIMES)]
        actual["table"] = [[row[at] for at in kept] for row in rows]
    given_up = [run for run in outputs.glob("runs/*") if run not in runs]
    for path in outputs.rglob("*"):
        if not any(path.is_relative_to(run) for run in given_up):
            assert path.suffix not in (".tmp", ".building"), path
            assert not finished or (path.suffix != ".partial" and path.name != ".lock"), path
    return actual


def _seed(run: Path) -> str:
    return "".join(re.findall(r"seed=\d+", (run / ".hydra" / "overrides.yaml").read_text("utf-8")))


def run_results(run: Path) -> dict[str, Any]:
    """Return metrics, weights and curves of a run, without times."""
    actual: dict[str, Any] = {}
    for name in ("metrics.json", "training.json"):
        text = (run / name).read_text("utf-8")
        actual[name] = json.loads(text, object_hook=without_times)
    for name in ("last.pt", "best.pt"):
        checkpoint = load_checkpoint(run / "checkpoints" / name)
        checkpoint["progress"] = without_times(checkpoint["progress"])
        del checkpoint["prepared"]  # its path
        actual[name] = flat(checkpoint)
    events = EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "tensors": 0}).Reload()
    for tag in events.Tags()["scalars"]:
        if "tokens_per_second" not in tag:
            actual[tag] = sorted({(point.step, point.value) for point in events.Scalars(tag)})
    actual["tags"] = sorted(events.Tags()["tensors"])
    for path in (run / "tensorboard").rglob("*.tsv"):
        actual[path.name] = path.read_text("utf-8")
    return actual


def without_times(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if key not in TIMES}


def flat(tree: Any) -> Any:
    """Return a tree with tensors as lists, which can be compared."""
    if isinstance(tree, torch.Tensor):
        return tree.tolist()
    if isinstance(tree, dict):
        return {str(key): flat(value) for key, value in tree.items()}
    return [flat(value) for value in tree] if isinstance(tree, list) else tree


def again(folder: Path, command: list[str]) -> list[str]:
    """Return the command after a kill: the same, or one that resumes the run or sweep."""
    if "-m" in command:
        sweeps = [path.parent for path in folder.glob("outputs/sweeps/*/multirun.yaml")]
        if sweeps and (sweeps[-1] / "multirun.yaml").stat().st_size:
            return ["train", "-m", f"resume={sweeps[-1]}"]
    for last in folder.glob("outputs/runs/*/checkpoints/last.pt"):
        return ["train", f"resume={last.parents[1]}"]
    return command


def differences(actual: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    return [key for key in sorted({*actual, *expected}) if actual.get(key) != expected.get(key)]


# These curves have a point every trainer.log_every steps. A stop in between writes its own point
# and restarts the count. Checkpoints after a kill are at such points.
COUNTED_ANEW = ("loss/train", "perplexity/train", "train/grad_norm", "train/lr")


def check(
    server: CommandServer,
    folder: Path,
    expected: Undisturbed,
    deaths: list[Any],
    ignored: tuple[str, ...] = (),
) -> None:
    """Kill a command at some moments, one run after the other; then let it end."""
    details = f"KORLM_FAULTS={SEED}: {deaths}"
    command = again(folder, expected.command)
    for death in deaths:
        ended = server.run(folder, *command, **death)
        assert ended.code in (-9, 0), f"{details}\n{ended.err}"
        command = again(folder, expected.command)
        if ended.code == 0:  # it ended before it could be killed
            break
    ended = server.run(folder, *command)
    assert ended.code == 0, f"{details}\n{command}\n{ended.err}"
    assert not ended.err, f"{details}\n{ended.err}"
    different = differences(results(folder), expected.results)
    different = [name for name in different if not name.endswith(ignored)]
    assert not different, f"{details}\n{folder}\n{ended.out}"


KILLS = [(kind, number) for kind, count in TRIES.items() for number in range(count)]


@pytest.mark.skipif(ASKED == "all", reason="all moments are tried")
@pytest.mark.parametrize(("kind", "number"), KILLS)
def test_killed_at_any_moment(
    server: CommandServer,
    undisturbed: dict[str, Undisturbed],
    tmp_path: Path,
    kind: str,
    number: int,
) -> None:
    rng = random.Random(f"{SEED} {kind} {number}")
    expected = undisturbed[kind]
    if number % 2:  # by time, between any two instructions
        deaths = [{"after": rng.uniform(0, expected.ended.seconds)}]
    else:  # twice, right before a change of the file system
        deaths = [{"change": rng.randrange(len(expected.ended.changes))} for _ in range(2)]
    check(server, tmp_path, expected, deaths)


@pytest.mark.parametrize(("kind", "name"), [("prepare", "SIGHUP"), ("train", "SIGTERM")])
def test_terminated_at_any_moment(
    server: CommandServer,
    undisturbed: dict[str, Undisturbed],
    tmp_path: Path,
    kind: str,
    name: str,
) -> None:
    """The signals of a cluster's time limit and of a closed terminal act like Ctrl-C."""
    expected, rng = undisturbed[kind], random.Random(f"{SEED} {kind} {name}")
    after = rng.uniform(0.1, expected.ended.seconds)
    number = int(getattr(signal, name))
    ended = server.run(tmp_path, *expected.command, after=after, number=number)
    details = f"KORLM_FAULTS={SEED}: {name} after {after} s: {ended}"
    if ended.code == -number:  # the signal came before the command could handle it
        assert not list(tmp_path.iterdir()), details
    else:
        assert ended.code in (0, 130), details
    if ended.code == 130:
        assert len(ended.err.splitlines()) == 1, details
        assert "interrupted" in ended.err or "resume with: " in ended.err, details
        if "interrupted" in ended.err:
            assert not list(tmp_path.glob("outputs/runs/*")), details
        assert not list(tmp_path.rglob("*.tmp")), details
    check(server, tmp_path, expected, [], ignored=COUNTED_ANEW if ended.code else ())


@pytest.mark.skipif(ASKED != "all", reason="takes minutes: KORLM_FAULTS=all")
@pytest.mark.parametrize("kind", TRIES)
def test_killed_at_every_change(
    server: CommandServer, undisturbed: dict[str, Undisturbed], tmp_path: Path, kind: str
) -> None:
    failed = []
    for change, what in enumerate(undisturbed[kind].ended.changes):
        folder = tmp_path / str(change)
        try:
            check(server, folder, undisturbed[kind], [{"change": change}])
        except AssertionError as error:
            failed.append(f"{change} {what}: {error}"[:1500])
        else:
            shutil.rmtree(folder)
    print(f"{kind}: killed at {len(undisturbed[kind].ended.changes)} changes")
    assert not failed, "\n".join(failed)


def test_the_clock_jumps(
    server: CommandServer, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    """It jumps by hours within each run, and from one run to the next."""
    expected, rng = undisturbed["train"], random.Random(f"{SEED} clock")
    after = rng.uniform(0.5, 1) * expected.ended.seconds
    deaths = [{"after": after, "clock": 7200.0}, {"after": after / 2, "clock": -7200.0}]
    check(server, tmp_path, expected, deaths)


def test_nobody_reads_stdout(
    server: CommandServer, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    expected = undisturbed["sweep"]
    ended = server.run(tmp_path, *expected.command, unheard=True)
    assert (ended.code, ended.err) == (0, "")
    assert not differences(results(tmp_path), expected.results)


def test_commands_that_start_together_prepare_once(
    server: CommandServer, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    prepare, train, sweep = (undisturbed[kind] for kind in TRIES)
    commands = [train.command, prepare.command, sweep.command, train.command]
    ends = server.together(tmp_path, commands)
    assert [ended.code for ended in ends] == [0] * 4, ends
    assert not any(ended.err for ended in ends), ends
    assert sum("tokenizing " in ended.out for ended in ends) == 1
    runs = list(tmp_path.glob("outputs/runs/*"))
    assert len(runs) == 2
    for run in runs:
        actual = {f"run 0, {name}": value for name, value in run_results(run).items()}
        assert not differences(actual, {name: train.results[name] for name in actual})
    shutil.rmtree(tmp_path / "outputs" / "runs")
    assert not differences(results(tmp_path), {**sweep.results, **prepare.results})


# --- a full disk ---------------------------------------------------------------------------------


class Disk:
    """A small file system in memory; a context manager."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "none")

    def _mount(self, *words: str) -> None:
        subprocess.run(["mount", *words, str(self.folder)], check=True, capture_output=True)

    def __enter__(self) -> Disk:
        return self

    def __exit__(self, *error: object) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)

    def grow(self, size: int) -> None:
        """Make the disk larger."""
        self._mount("-o", f"remount,size={size}")


@pytest.fixture(scope="module")
def mounting(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip the test if the user may not mount."""
    try:
        Disk(tmp_path_factory.mktemp("disk") / "small", PAGE).__exit__()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("cannot mount a small disk")


@pytest.mark.parametrize("kind", TRIES)
def test_the_disk_is_full_at_any_moment(
    mounting: None,
    server: CommandServer,
    undisturbed: dict[str, Undisturbed],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    expected = undisturbed[kind]
    most = expected.pages
    sizes = [random.Random(f"{SEED} {request.node.name}").randrange(2, most)]
    if ASKED == "all":
        sizes = list(range(2, most))
    failed = []
    for size in sizes:
        with Disk(tmp_path / str(size), size * PAGE) as disk:
            try:
                fill(server, disk, expected, f"KORLM_FAULTS={SEED}: {size} of {most} pages")
            except AssertionError as error:
                failed.append(str(error)[:1500])
    assert not failed, "\n".join(failed)


def fill(server: CommandServer, disk: Disk, expected: Undisturbed, details: str) -> None:
    """Run a command on a disk that is too small, enlarge it and run the command again."""
    ended = server.run(disk.folder, *expected.command)
    details += f"\n{ended.err}"
    assert ended.code in (0, 1), details
    if ended.code == 1 and "-m" not in expected.command:
        assert len(ended.err.splitlines()) == 1, details
        assert "resume=/" in ended.err or "run the same command again" in ended.err, details
    assert "Traceback" not in ended.err, details
    results(disk.folder, finished=False)
    disk.grow(1 << 30)
    command = again(disk.folder, expected.command)
    if "resume=/" in ended.err:
        assert command != expected.command, details
    ended = server.run(disk.folder, *command)
    assert ended.code == 0, f"{details}\n{command}\n{ended.err}"
    actual = differences(results(disk.folder), expected.results)
    assert not actual, f"{details}\n{command}\n{actual}\n{ended.out}"
