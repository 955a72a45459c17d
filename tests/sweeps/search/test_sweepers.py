"""The settings of a job are those that Hydra composes from all of its overrides at once."""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import hydra
import optuna
import pytest
from command_server import CommandServer
from conftest import LIGHT, Command, TinyCorpus
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from sweep_results import interrupted_at

from korlm import config
from korlm.cli.compose import _isolated_hydra
from korlm.config.keys import conf_dir
from korlm.sweeps.folder import run_command
from korlm.sweeps.search.database import STUDY, storage_of
from korlm.sweeps.search.sweepers import JobLoader, combinations
from korlm.training.session import TrainingSession
from korlm.utils.errors import ConfigError

JOBS = [
    ["model=gru", "seed=1", "optimizer.lr=0.1"],
    ["model=gru", "seed=2", "optimizer.lr=0.2"],
    ["seed=3", "experiment=smoke", "trainer.max_steps=1", "+model.added=[1,a]", "~name"],
    ["trainer.epochs=2", "trainer={epochs:3,max_steps:4}", "optimizer=sgd", "prepared='a, b'"],
    [],
]


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    Plugins.instance()
    with _isolated_hydra():
        config.store_schemas()
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()


def sweep(loader: ConfigLoader, *overrides: str) -> DictConfig:
    return loader.load_configuration("train", list(overrides), RunMode.MULTIRUN)


def test_jobs_have_the_settings_that_hydra_composes(loader: ConfigLoader) -> None:
    master = sweep(loader, "hydra.job.name=mine", "seed=1,2", "hydra/launcher=parallel")
    jobs = JobLoader(loader)
    for overrides in [*JOBS, *JOBS]:
        ours = jobs.load_sweep_config(master, overrides)
        theirs = loader.load_sweep_config(master, overrides)
        assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)


def test_a_wrong_value_of_a_job_has_the_message_of_hydra(loader: ConfigLoader) -> None:
    master, jobs = sweep(loader), JobLoader(loader)
    for wrong in (["optimizer.rate=1"], ["trainer.epochs=x"], ["model=nothing"], ["nothing=1"]):
        messages = []
        for each in (jobs, loader):
            with pytest.raises(Exception) as caught:
                each.load_sweep_config(master, ["seed=1", *wrong])
            messages.append((type(caught.value), str(caught.value), str(caught.value.__cause__)))
        assert messages[0] == messages[1]
    with pytest.raises(ConfigCompositionException):
        jobs.load_sweep_config(master, ["seed=x"])


def parsed(*overrides: str) -> list[list[str]]:
    return combinations(OverridesParser.create().parse_overrides(list(overrides)))


def test_all_combinations_of_the_last_overrides() -> None:
    assert parsed("a=1,2", "c=0", "b=range(1,3)", "c=x") == [
        ["a=1", "c=x", "b=1"],
        ["a=1", "c=x", "b=2"],
        ["a=2", "c=x", "b=1"],
        ["a=2", "c=x", "b=2"],
    ]
    assert parsed() == [[]]
    with pytest.raises(ConfigError, match=r"^a=interval\(0,1\): an interval needs hydra"):
        parsed("a=interval(0,1)")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=gru,rnn", "trainer.early_stopping_patience=1,0"],
            "trainer.early_stopping_patience=0: must be 1 or more (job "
            "model=gru_trainer.early_stopping_patience=0, 2 of 4; no job was started)",
        ),
        (["model=gru,ngram"], "(job model=ngram, 2 of 2; no job was started)"),
        (["seed=1,x"], "(job seed=x, 2 of 2; no job was started)"),
        (["corpus.valid=[],[nowhere.txt]"], "corpus.valid: nowhere.txt is neither"),
        (["seed=1", "trainer.epochs=0"], "trainer.epochs=0: must be in [1, 1000000]"),
        (["seed=1,2", "hydra.sweeper.max_batch_size=0"], "hydra.sweeper.max_batch_size=0"),
    ],
)
def test_nothing_starts_if_any_job_is_wrong(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, overrides: list[str], message: str
) -> None:
    error = korlm("train", "-m", *tiny.overrides, *LIGHT, *overrides).error
    assert message in error
    assert not list(tmp_path.iterdir())


def test_a_sweep_that_is_resumed_with_a_mistake_stays_as_it_was(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path
) -> None:
    sweep = [*tiny.overrides, *LIGHT, "trainer.max_steps=1", "trainer.sample_tokens=0"]
    assert korlm("train", "-m", *sweep, "seed=1,2", "hydra.sweeper.max_batch_size=1").code == 0
    (folder,) = tmp_path.glob("outputs/sweeps/*")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    error = korlm("train", "-m", f"resume={folder}", "seed=1,2", "trainer.epochs=2,-2").error
    assert "trainer.epochs=-2: must be in [1, 1000000]" in error
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    pictures = ("sweep.png", "results.tsv")  # written again from the jobs
    assert {p: b for p, b in after.items() if p.name not in pictures} == {
        p: b for p, b in before.items() if p.name not in pictures
    }


def test_other_commands_are_checked_too(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    error = korlm(
        "prepare", "-m", *tiny.overrides, "tokenizer=syllable", "vocab.min_freq=1,0"
    ).error
    assert "vocab.min_freq=0: must be 1 or more (job vocab.min_freq=0, 2 of 2;" in error
    assert not list(tmp_path.rglob("prepared"))


SHORT = [*LIGHT[:-1], "trainer.max_steps=6", "trainer.eval_every=2", "trainer.sample_tokens=0"]
RATES = "optimizer.lr=tag(log,interval(0.001,0.1))"
SEARCH = ["-m", "hydra/sweeper=optuna", "hydra.sweep.dir=here"]


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    with storage_of(folder) as storage:
        return optuna.load_study(study_name=STUDY, storage=storage).get_trials()


def table_of(folder: Path) -> list[dict[str, str]]:
    head, *rows = (row.split("\t") for row in (folder / "results.tsv").read_text().splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def jobs_of(folder: Path) -> dict[str, list[str]]:
    """Return the overrides of each job by its folder."""
    files = folder.glob("*/.hydra/overrides.yaml")
    return {path.parents[1].name: path.read_text("utf-8").splitlines() for path in files}


def test_a_search_and_more_trials(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    command = [*SEARCH, *tiny.overrides, *SHORT, RATES, "hydra.sweeper.n_trials=3"]
    ended = korlm("train", *command)
    assert ended.code == 0, ended.err
    before = jobs_of(tmp_path / "here")
    assert all(re.fullmatch(r"optimizer\.lr=0\.\d+", name) for name in before) and len(before) == 3
    assert "trial 2 (3 of 3): valid.perplexity " in ended.out
    trials = trials_of(tmp_path / "here")
    names = [trial.user_attrs["overrides"][-1] for trial in trials]
    figures = [
        json.loads((tmp_path / "here" / name / "metrics.json").read_text())["valid"]
        for name in names
    ]
    values = [trial.value for trial in trials]
    assert values == [each["perplexity"] for each in figures]
    best = run_command(tmp_path / "here" / table_of(tmp_path / "here")[0]["job"])
    assert ended.out.splitlines()[-1].endswith(f"best: {best}")
    assert "optimizer.lr=0." in best and "hydra" not in best

    again = korlm("train", "-m", "resume=here")  # all three requested jobs exist
    assert again.code == 0, again.err
    assert jobs_of(tmp_path / "here") == before
    more = korlm("train", "-m", "resume=here", "hydra.sweeper.n_trials=5")
    assert more.code == 0, more.err
    assert len(trials_of(tmp_path / "here")) == len(table_of(tmp_path / "here")) == 5
    after = jobs_of(tmp_path / "here")
    assert {name: after[name] for name in before} == before
    assert len(set(map(str, after.values()))) == len(after) == 5
    other = korlm("train", "-m", "resume=here", "optimizer.lr=0.01,0.02")
    assert "this search was started with optimizer.lr=tag(log,interval(0.001,0.1))" in other.error
    assert len(table_of(tmp_path / "here")) == 5


def test_ctrl_c(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """Interrupted in the second trial: it is resumed, and the other trials are unchanged."""
    command = [*SEARCH, *tiny.overrides, *SHORT, RATES, "hydra.sweeper.n_trials=3"]
    with interrupted_at(4) as steps:
        ended = korlm("train", *command)
    assert ended.code == 130
    hint = f"python -m korlm.train -m resume={tmp_path / 'here'} hydra/sweeper=optuna"
    assert hint + " hydra.sweeper.n_trials=3" in ended.err
    assert [trial.state.name for trial in trials_of(tmp_path / "here")] == ["COMPLETE", "WAITING"]
    with interrupted_at(99) as more:
        resumed = korlm("train", "-m", f"resume={tmp_path / 'here'}")
    assert resumed.code == 0, resumed.err
    assert "search.db: 1 of 3 trials finished before, 1 resumed" in resumed.out
    assert steps + more == [2, 4, 6] * 3
    whole = korlm("train", *(word.replace("=here", "=whole") for word in command))
    assert whole.code == 0
    for actual, expected in zip(
        trials_of(tmp_path / "here"), trials_of(tmp_path / "whole"), strict=True
    ):
        assert actual.params == expected.params
        assert actual.value == expected.value
    assert len(jobs_of(tmp_path / "here")) == 3


def test_kill(korlm: Command, server: CommandServer, tiny: TinyCorpus, tmp_path: Path) -> None:
    command = [*SEARCH, *tiny.overrides, *SHORT, RATES, "hydra.sweeper.n_trials=3"]
    long = [word.replace("max_steps=6", "max_steps=20") for word in command]
    here = tmp_path / "here"
    killed = server.run(tmp_path, "train", *long, when="here/*/checkpoints/best.pt", count=2)
    assert killed.code == -signal.SIGKILL
    assert [trial.state.name for trial in trials_of(here)] == ["COMPLETE", "RUNNING"]
    before = jobs_of(here)
    ended = korlm("train", "-m", "resume=here")
    assert ended.code == 0, ended.err
    assert [trial.state.name for trial in trials_of(here)] == ["COMPLETE"] * 3
    assert len(jobs_of(here)) == 3 and before.items() <= jobs_of(here).items()
    assert len(table_of(here)) == 3


def test_pruned_and_failed_trials(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """A trial with a useless learning rate is pruned; one with a too large batch fails alone."""
    command = [
        *(*SEARCH, *tiny.overrides, *SHORT, "trainer.max_steps=20", "model.forget_bias=1"),
        *("optimizer.lr=choice(0.05,1e-6)", "batches.batch_size=choice(4,9999)"),
        *("hydra.sweeper.n_trials=5", "hydra.sweeper.prune_min_trials=1", "hydra.sweeper.seed=11"),
    ]
    ended = korlm("train", *(word for word in command if "max_steps=6" not in word))
    assert ended.code == 0, ended.err
    rows = {(row["optimizer.lr"], row["batches.batch_size"]): row for row in table_of(Path("here"))}
    assert len(rows) == len(table_of(Path("here")))
    assert rows["0.05", "4"]["failure"] == ""
    failure = rows["1e-06", "4"]["failure"]
    assert failure.startswith("pruned at step 6, 30% of its training: valid.perplexity ")
    assert {rows[key]["failure"][:9] for key in rows if key[1] == "9999"} == {"train has"}
    assert ", 1 pruned, " in ended.out and "Traceback" not in ended.out
    states = {trial.state.name for trial in trials_of(Path("here"))}
    assert states == {"COMPLETE", "PRUNED", "FAIL"}
    report = korlm("report", "sweep=here")
    assert report.code == 0, report.err
    steps = ended.out.count("pruned at step")
    again = korlm("train", "-m", "resume=here")
    assert again.code == 0 and again.out.count("pruned at step") < steps, again.err


def test_nothing_but_failures(korlm: Command, tiny: TinyCorpus) -> None:
    ended = korlm("train", *SEARCH, *tiny.overrides, *SHORT, RATES, "batches.batch_size=9999")
    assert ended.error.startswith("korlm: all of the first 5 trials failed, the last with: train")
    assert len(table_of(Path("here"))) == 5


def test_figures_that_are_no_numbers(
    korlm: Command, tiny: TinyCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([math.nan, 7.0, math.inf])
    monkeypatch.setattr(
        TrainingSession, "fit", lambda self: {"valid": {"perplexity": next(figures)}}
    )
    ended = korlm("train", *SEARCH, *tiny.overrides, *SHORT, RATES, "hydra.sweeper.n_trials=3")
    assert ended.code == 0, ended.err
    assert [trial.value for trial in trials_of(Path("here"))] == [math.inf, 7.0, math.inf]


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=parallel"]])
def test_searches_over_tokens_minimize_bits_per_char(
    korlm: Command, tiny: TinyCorpus, launcher: list[str]
) -> None:
    """Perplexities of different tokens cannot be compared; a given objective is kept."""
    words = [word for word in tiny.overrides if not word.startswith("tokenizer=")]
    command = [*words, *SHORT, *launcher, "hydra.sweeper.n_trials=2"]
    searched = ["tokenizer=choice(syllable,eojeol)", "hydra.sweeper.seed=1"]
    for folder, given, key in (("a", [], "bits_per_char"), ("b", ["valid.loss"], "loss")):
        objective = [f"objective={name}" for name in given]
        sweep = ["-m", "hydra/sweeper=optuna", f"hydra.sweep.dir={folder}"]
        ended = korlm("train", *sweep, *command, *searched, *objective)
        assert ended.code == 0, ended.err
        warning = "tokenizer changes the tokens, so valid.perplexity cannot be compared: minimizing"
        assert (warning in ended.out) == (not given)
        for trial in trials_of(Path(folder)):
            (name,) = (w for w in trial.user_attrs["overrides"] if w.startswith("tokenizer="))
            metrics = json.loads((Path(folder) / name / "metrics.json").read_text("utf-8"))
            assert trial.value == metrics["valid"][key]


def test_files_of_a_search_have_only_params(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path
) -> None:
    """Other settings of such a file would be missing in the command of the best trial."""
    (tmp_path / "own" / "sweep").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /hydra/sweeper: optuna\n"
    params = f"  params:\n{6 * ' '}optimizer.lr: interval(0.01, 0.02)\n"
    sweeper = f"hydra:\n sweeper:\n  n_trials: 1\n{params}      trainer.max_steps: 1\n"
    own = tmp_path / "own" / "sweep"
    (own / "good.yaml").write_text(text + sweeper, "utf-8")
    (own / "bad.yaml").write_text(text + "seed: 3\n" + sweeper, "utf-8")
    few = [word for word in SHORT if "max_steps" not in word]
    command = ["-m", "--config-dir", str(tmp_path / "own"), *tiny.overrides, *few]
    bad = korlm("train", *command, "sweep=bad")
    assert "sweep=bad: sets something outside hydra.sweeper.params" in bad.error
    good = korlm("train", *command, "sweep=good")
    assert good.code == 0, good.err
    best = good.out.splitlines()[-1]
    assert "trainer.max_steps=1 " in best and "sweep=" not in best


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lrr=interval(0,1)"], "optimizer.lrr: there is no such setting"),
        (["optimizer.lr=interval(0,"], "optimizer.lr=interval(0,: "),
        (["optimizer.lr=tag(log,interval(0,1))"], "a logarithmic range needs numbers above 0"),
        (["optimizer.lr=0.1"], "nothing to search"),
        (["model.hidden_dim=interval(10,20)"], "model.hidden_dim=16.18"),
        ([RATES, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: must be in [1, 1000000]"),
        ([RATES, "hydra.sweeper.sampler=tpee"], "hydra.sweeper.sampler=tpee: invalid value"),
        ([RATES, "hydra.sweeper.trials=3"], "hydra.sweeper.trials: there is no such setting"),
        ([RATES, "objective=valid.x"], "objective=valid.x: must be SPLIT.KEY"),
        (["sweep=lstm_smal"], "did you mean lstm_small?"),
    ],
)
def test_mistakes_are_one_line(korlm: Command, overrides: list[str], message: str) -> None:
    assert message in korlm("train", *SEARCH, *overrides).error
    assert not list(Path("here").glob("*"))


def test_a_search_needs_m(korlm: Command) -> None:
    message = "korlm: sweep=lstm_small: a search runs many jobs: python -m korlm.train -m "
    assert korlm("train", "sweep=lstm_small", "seed=2").error == message + "sweep=lstm_small seed=2"
    assert korlm("train", "sweep=lstm_small", "--cfg", "job").code == 0


def test_pruned_in_another_process(korlm: Command, tiny: TinyCorpus) -> None:
    """A job finds its trial by its overrides, without the launcher."""
    long = [word.replace("max_steps=6", "max_steps=20") for word in SHORT]
    command = [*SEARCH, *tiny.overrides, *long, "optimizer.lr=choice(0.05,1e-6)"]
    ended = korlm(
        *(
            "train",
            *command,
            "hydra/launcher=parallel",
            "hydra.sweeper.seed=29",
            "model.forget_bias=1",
        ),
        *("hydra.sweeper.n_trials=2", "hydra.sweeper.prune_min_trials=1"),
    )
    assert ended.code == 0, ended.err
    assert "job optimizer.lr=1e-06 ended (" in ended.out
    whole, pruned = trials_of(Path("here"))
    assert (whole.params, whole.state.name) == ({"optimizer.lr": "0.05"}, "COMPLETE")
    assert (pruned.params, pruned.state.name) == ({"optimizer.lr": "1e-06"}, "PRUNED")
    assert list(pruned.intermediate_values) == [100_000, 200_000, 300_000]
    assert table_of(Path("here"))[1]["failure"].startswith("pruned at step 6, 30% of its training")
