"""A repeated sweep runs only the missing jobs; the metrics stay the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import LIGHT, Command, TinyCorpus
from sweep_results import interrupted_at, results

from korlm.sweeps.folder import (
    begin_sweep,
    job_dir,
    job_settings,
    jobs_by_settings,
    run_command,
    sweep_dir,
    sweep_resume_command,
    with_stored_arguments,
)
from korlm.utils.errors import ConfigError

SHORT = [*LIGHT, "trainer.max_steps=6", "trainer.eval_every=2", "trainer.sample_tokens=0"]


def only_sweep(folder: Path) -> Path:
    (sweep,) = folder.glob("outputs/sweeps/*")
    return sweep


def test_a_value_more(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """The new value comes first, so that the numbers of the jobs change."""
    assert korlm("train", "-m", *tiny.overrides, *SHORT, "seed=1,2").code == 0
    sweep = only_sweep(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/checkpoints/*.pt")}
    ended = korlm("train", "-m", f"resume={sweep}", "seed=7,2,1", "objective=test.loss")
    assert ended.code == 0, ended.err
    assert "3 jobs, best first by test.loss, 2 finished before" in ended.out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path.name for path in sweep.iterdir()} == {
        *("seed=1", "seed=2", "seed=7", "multirun.yaml", "results.tsv", "sweep.png")
    }
    assert set(results(sweep)) == {"seed=1", "seed=2", "seed=7"}
    assert korlm("train", "-m", f"resume={sweep}").code == 0
    assert len(results(sweep)) == 3
    config = (sweep / "seed=7" / ".hydra" / "config.yaml").read_text("utf-8")
    assert "max_steps: 6" in config, "the settings of the sweep hold for jobs that are added"


def test_interrupted_anywhere(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """Jobs killed before last.pt, in the last evaluation or before the start; failed; complete."""
    assert korlm("train", "-m", *tiny.overrides, *SHORT, "seed=1,2,3,4,5").code == 0
    sweep = only_sweep(tmp_path)
    whole = results(sweep)
    for name in ("seed=1", "seed=2", "seed=4"):
        (sweep / name / "metrics.json").unlink()
    shutil.rmtree(sweep / "seed=1" / "checkpoints")
    shutil.rmtree(sweep / "seed=3")
    shutil.rmtree(sweep / "seed=4" / "checkpoints")
    (sweep / "seed=4" / "failed.txt").write_text("the disk is full\n", "utf-8")
    ended = korlm("train", "-m", f"resume={sweep}")
    assert ended.code == 0, ended.err
    assert "5 jobs, best first by valid.perplexity, 1 finished before;" in ended.out
    assert results(sweep) == whole
    assert not list(sweep.glob("*/failed.txt"))


def test_ctrl_c(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """A sweep interrupted in its second job names the command that resumes it to equal metrics."""
    assert korlm("train", "-m", *tiny.overrides, *SHORT, "seed=1,2,3", "outputs=whole").code == 0
    with interrupted_at(4) as steps:
        ended = korlm("train", "-m", *tiny.overrides, *SHORT, "seed=1,2,3")
    sweep = only_sweep(tmp_path)
    assert ended.code == 130
    command = f"python -m korlm.train -m resume={sweep}"
    assert ended.err.splitlines()[-1] == f"korlm: interrupted; resume with: {command}"
    assert "2 jobs" in ended.out and "not finished" in ended.out
    assert korlm("train", *command.split()[3:]).code == 0
    assert steps == [2, 4, 6, 2]
    assert results(sweep) == results(next(tmp_path.glob("whole/sweeps/*")))


def test_a_folder_of_the_users_own(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """The same command, run twice."""
    command = ["-m", *tiny.overrides, *SHORT, "seed=1,2", "hydra.sweep.dir=mine"]
    assert korlm("train", *command).code == 0
    (tmp_path / "mine" / "seed=2" / "metrics.json").unlink()
    ended = korlm("train", *command)
    assert ended.code == 0, ended.err
    assert "2 jobs, best first by valid.perplexity, 1 finished before" in ended.out
    assert len(results(tmp_path / "mine")) == 2
    both = korlm("train", *command, "resume=mine")
    assert both.error.startswith("korlm: resume=mine: and hydra.sweep.dir both name")


def test_wrong_folders_and_objectives(korlm: Command, tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").write_text("hydra: [", "utf-8")
    for argument, words in {
        "resume=nowhere": ("resume=nowhere", "no multirun.yaml", "remove -m"),
        f"resume={tmp_path}": ("multirun.yaml: damaged", "type the whole sweep again"),
        "objective=valid.perplexty": ("objective=valid.perplexty", "did you mean valid.perplexity"),
        "objective=dev.loss": ("objective=dev.loss", "train, valid, test"),
    }.items():
        error = korlm("train", "-m", "seed=1,2", argument).error
        assert all(word in error for word in words), error
    assert not (tmp_path / "outputs").exists()
    error = korlm("train", f"resume={tmp_path}").error
    assert f"it is a sweep: python -m korlm.train -m resume={tmp_path}" in error


def store(sweep: Path, *overrides: str) -> None:
    lines = "".join(f"    - {json.dumps(override)}\n" for override in overrides)
    text = f"hydra:\n  overrides:\n    hydra: [hydra.mode=MULTIRUN]\n    task:\n{lines}"
    (sweep / "multirun.yaml").write_text(text, "utf-8")


def test_overrides_replace_stored_settings(tmp_path: Path) -> None:
    store(tmp_path, "seed=1,2", "+experiment=smoke", "name='실험'")
    overrides = ["-m", f"resume={tmp_path}", "seed=3,4"]
    completed = [overrides[0], overrides[1], "+experiment=smoke", "name='실험'", "seed=3,4"]
    assert with_stored_arguments(overrides) == completed
    assert with_stored_arguments(["-m", "seed=1,2"]) == ["-m", "seed=1,2"]


def test_a_sweep_from_elsewhere_runs_no_code(tmp_path: Path) -> None:
    for evil in ("hydra.callbacks.x._target_=os.system", "+hydra.a=1", "--cd=x", "seed=${a}"):
        store(tmp_path, evil, "seed=1")
        with pytest.raises(ConfigError, match=r"multirun\.yaml: "):
            with_stored_arguments([f"resume={tmp_path}"])
    evil_file = tmp_path / "x.yaml"
    evil_file.write_text(
        "# @package _global_\nhydra: {callbacks: {x: {_target_: os.abort}}}", "utf-8"
    )
    store(tmp_path, f"experiment=../../../../../../../../..{tmp_path}/x", "seed=1")
    with pytest.raises(ConfigError, match="must name files of conf/experiment"):
        with_stored_arguments([f"resume={tmp_path}"])
    (tmp_path / "multirun.yaml").write_text("a: 1", "utf-8")
    with pytest.raises(ConfigError, match="damaged"):
        with_stored_arguments([f"resume={tmp_path}"])


def test_jobs_are_known_by_their_settings(tmp_path: Path) -> None:
    assert job_dir(str(tmp_path), 3, ["seed=1", "+experiment=smoke"]) == "3"
    (tmp_path / "3" / ".hydra").mkdir()
    (tmp_path / "3" / ".hydra" / "overrides.yaml").write_text("[experiment=smoke, seed=1]", "utf-8")
    jobs_by_settings.cache_clear()
    same = ["resume=x", "seed=1", "outputs=y", "experiment=smoke", "objective=test.loss"]
    assert job_dir(str(tmp_path), 0, same) == "3"
    assert job_dir(str(tmp_path), 3, ["seed=2"]) == "3_2", "a number that is taken"
    assert job_settings(same) == {"seed": "1", "experiment": "smoke"}


def test_jobs_are_named_by_what_varies(tmp_path: Path) -> None:
    begin_sweep(tmp_path, frozenset({"model", "name", "b"}))
    assert job_dir(str(tmp_path), 0, ["model=lstm", "name=a", "seed=1"]) == "model=lstm_name=a"
    same = [job_dir(str(tmp_path), 1, ["model=gru", f"name='{name}'"]) for name in ("a b", "a-b")]
    assert same == ["model=gru_name=a-b", "model=gru_name=a-b_2"], "each has a folder of its own"
    long = job_dir(str(tmp_path), 5, ["model=gru", f"name={'긴' * 90}"])
    assert long.startswith("5_model=gru_name=긴긴") and len(long.encode()) < 250
    assert job_dir(str(tmp_path), 6, ["seed=1"]) == "6"
    assert {path.name for path in tmp_path.iterdir()} == {*("model=lstm_name=a", *same, long, "6")}
    (tmp_path / "my=notes").write_text("kept", "utf-8")
    begin_sweep(tmp_path, frozenset())
    assert [path.name for path in tmp_path.iterdir()] == ["my=notes"], "jobs that left nothing"


def test_the_command_of_a_job_writes_where_the_sweep_did(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    overrides = "[outputs=my, seed=1, resume=x, objective=test.loss]"
    (tmp_path / ".hydra" / "overrides.yaml").write_text(overrides, "utf-8")
    assert run_command(tmp_path) == "python -m korlm.train outputs=my seed=1"


def test_the_command_is_one_for_the_shell() -> None:
    overrides = [
        "-m",
        "hydra.sweep.dir=x",
        "hydra.mode=MULTIRUN",
        "hydra/launcher=parallel",
        "seed=1",
    ]
    assert sweep_resume_command(Path("내 것/a b"), overrides) == (
        "python -m korlm.train -m 'resume='\"'\"'내 것/a b'\"'\"'' hydra/launcher=parallel"
    )


def test_jobs_that_were_killed_before_their_settings_were_written(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path
) -> None:
    """Their folders are removed, since their jobs are unknown."""
    assert korlm("train", "-m", *tiny.overrides, *SHORT, "seed=1,2,4").code == 0
    sweep = only_sweep(tmp_path)
    for seed in (2, 4):
        shutil.rmtree(sweep / f"seed={seed}")
        (sweep / f"seed={seed}" / ".hydra").mkdir(parents=True)
    (sweep / "seed=4" / ".hydra" / "overrides.yaml").write_text("", "utf-8")
    (sweep / "seed=3" / "checkpoints").mkdir(parents=True)  # not empty
    ended = korlm("train", "-m", f"resume={sweep}")
    assert ended.code == 0, ended.err
    assert "3 jobs, best first" in ended.out
    assert sorted(path.name for path in sweep.glob("seed*")) == [f"seed={n}" for n in (1, 2, 3, 4)]
    assert (sweep / "seed=2" / "metrics.json").is_file()
    assert (sweep / "seed=4" / "metrics.json").is_file()


def test_sweeps_of_the_same_second_share_no_folder(tmp_path: Path) -> None:
    """This also holds after the clock was set back."""
    made = {sweep_dir(str(tmp_path), None) for _ in range(3)}
    assert len(made) == 3
    assert all(Path(folder).is_dir() for folder in made)
    assert sweep_dir(str(tmp_path), "there") == "there"
