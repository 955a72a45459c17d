"""Settings in files of others are data: plain values of known keys, or a one-line error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from korlm.cli.output_dirs import register_resolvers
from korlm.config import Mode
from korlm.config.serialization import plain_settings, settings_from_plain
from korlm.config.stored import check_override, check_settings, read_json, read_yaml
from korlm.sweeps.folder import with_stored_arguments
from korlm.utils.errors import CheckpointError, ConfigError


def one_line(error: BaseException) -> str:
    assert len(str(error).splitlines()) == 1
    return str(error)


@pytest.mark.parametrize(
    "override",
    [
        *("seed=1,2", "+experiment=smoke", "experiment=[smoke,reviews]", "experiment=glob(*)"),
        *("name='실험 1'", "~schedule", "model=lstm,gru", "model=choice(lstm,gru)", "sweep=null"),
        *("corpus.files=['a b.txt',../c.txt]", "corpus.files=[a],[b]", "trainer.threads=null"),
        *("optimizer.lr=tag(log,interval(0.1,1))", "seed=range(1,4)", "seed=shuffle(1,2)"),
        *("hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.sampler=random"),
    ],
)
def test_accepted_settings_of_a_sweep(override: str) -> None:
    check_override(override, "multirun.yaml")


@pytest.mark.parametrize(
    "override",
    [
        *("experiment=../../x", "experiment='../x'", "experiment=a.b", "experiment=[smoke,../x]"),
        *("experiment=choice(smoke,'/tmp/x')", "experiment=smoke,${oc.env:HOME}", "model={a:1}"),
        *("model@hydra.callbacks=lstm", "+experiment@_global_=smoke", "hydra={callbacks:{}}"),
        *("hydra.callbacks.y._target_=numpy.load", "+hydra.a=1", "hydra/launcher=parallel"),
        *("hydra/sweeper=basic", "hydra.sweeper._target_=os.system", "hydra.sweeper.params={a:1}"),
        *("+hydra.sweeper.n_trials=3", "hydra.sweeper.n_trials=${oc.env:HOME}", "unheard.of=1"),
        *("name=${oc.env:HOME}", "name='${oc.env:HOME}'", "corpus.files=[a,'${oc.env:HOME}']"),
        *("name=${korlm_run_dir:x,y,null}", "name=choice(a,'${x}')", "model.hidden_dim={a:1}"),
        *("seed=range(0,1e12)", "seed=range(0,1,1e-9)", "optimizer.lr=range(0,inf)", "seed='???'"),
        *("optimizer.lr=1" + 400 * "0", "model.cutoffs=[9223372036854775808]"),
        *("seed=[[1]]", "--cd=x", "-m", "no override", "", "name=" + 3000 * "["),
    ],
)
def test_refused_settings_of_a_sweep(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_override(override, "multirun.yaml")
    assert one_line(caught.value).startswith("multirun.yaml: ")


def stored_sweep(folder: Path, *task: str, job: tuple[str, ...] = ()) -> list[str]:
    """Write the folder of a sweep; return the arguments that resume it."""
    overrides = {"hydra": ["hydra.mode=MULTIRUN", "hydra/launcher=parallel"], "task": list(task)}
    tree = {"hydra": {"overrides": overrides}}
    (folder / "multirun.yaml").write_text(json.dumps(tree, ensure_ascii=False), "utf-8")
    if job:
        (folder / "0" / ".hydra").mkdir(parents=True)
        (folder / "0" / ".hydra" / "overrides.yaml").write_text(json.dumps(job), "utf-8")
    return ["-m", f"resume={folder}"]


def test_workers_must_be_given_again(tmp_path: Path) -> None:
    """A file of others must not choose the hosts that this machine connects to."""
    arguments = stored_sweep(tmp_path, "prepare.cluster=tcp://evil:1", "seed=1")
    assert with_stored_arguments(arguments) == [*arguments, "seed=1"]


def test_options_of_a_cluster_in_a_sweep(tmp_path: Path) -> None:
    task = ("prepare.cluster=local", "prepare.options={n: 1}", "seed=1")
    arguments = stored_sweep(tmp_path, *task, job=task)
    assert with_stored_arguments(arguments) == [*arguments, "seed=1"]


def test_outputs_of_another_user(tmp_path: Path) -> None:
    sweep = tmp_path / "outputs" / "sweeps" / "a"
    sweep.mkdir(parents=True)
    arguments = stored_sweep(sweep, f"outputs={tmp_path / 'outputs'}")
    assert len(with_stored_arguments(arguments)) == 3
    arguments = stored_sweep(sweep, f"outputs={tmp_path / 'elsewhere'}")
    with pytest.raises(ConfigError, match="give outputs=FOLDER"):
        with_stored_arguments(arguments)
    assert with_stored_arguments([*arguments, "outputs=x"]) == [*arguments, "outputs=x"]


def test_jobs_are_checked_before_hydra_sees_them(tmp_path: Path) -> None:
    arguments = stored_sweep(tmp_path, "seed=1", job=("seed=1", "experiment=../../x"))
    with pytest.raises(ConfigError, match=r"overrides\.yaml: experiment=\.\./\.\./x: must name"):
        with_stored_arguments(arguments)
    with_stored_arguments(
        [*arguments, "experiment=smoke"]
    )  # typed again: the user's value is not checked


@pytest.mark.parametrize("text", ["[seed=1", "seed", "&a [*a]", 60 * "[" + 60 * "]", "\ud800"])
def test_a_damaged_job_is_named(tmp_path: Path, text: str) -> None:
    arguments = stored_sweep(tmp_path, "seed=1", job=("seed=1",))
    path = tmp_path / "0" / ".hydra" / "overrides.yaml"
    path.write_text(text, "utf-8", "surrogatepass")
    with pytest.raises(ConfigError, match=r"damaged .* move the folder") as caught:
        with_stored_arguments(arguments)
    assert one_line(caught.value).startswith(f"{path}: ")


PLAIN: dict[str, Any] = {
    "corpus": {"name": "a", "files": ["나.txt"]},
    "tokenizer": {"name": "syllable"},
    "batches": {"mode": "stream"},
    "model": {"name": "window", "hidden_dim": 7},
    "optimizer": {"name": "adagrad", "lr": 0.1},
    "schedule": {"name": "constant"},
    "seed": 3,
}


def test_plain_settings_are_taken() -> None:
    settings = settings_from_plain(PLAIN)
    assert settings.seed == 3 and settings.batches.mode is Mode.stream
    check_settings(plain_settings(settings), "x")


def test_runs_of_older_versions_name_the_cluster_that_prepared() -> None:
    older = {"cluster": "slurm", "workers": 2, "queue": "long", "sbatch": [], "walltime": "1:00"}
    settings = settings_from_plain({**PLAIN, "prepare": older})
    assert settings.prepare.workers == 2 and settings.prepare.options is None
    with pytest.raises(ConfigError, match=r"unknown setting prepare\.quue; written by another"):
        settings_from_plain({**PLAIN, "prepare": {"quue": 1}})


@pytest.mark.parametrize(
    ("group", "value"),
    [
        ("name", "${oc.env:HOME}"),
        ("outputs", "${korlm_run_dir:made,null,null}"),
        ("corpus", {"name": "a", "files": ["${korlm_sweep_dir:made,null}"]}),
        ("model", {"name": "gru", "_target_": "os.system"}),
        ("model", {"name": "gru", "hidden_dim": {"a": 1}}),
        ("model", "${oc.env:HOME}"),
        ("model", "gru"),
        ("model", ["gru"]),
        ("trainer", None),
        ("seed", "???"),
        ("model", {"name": "gru", "hidden_dim": "???"}),
        ("corpus", {"name": "a", "files": [["b"]]}),
        ("seed", 2**63),
        ("optimizer", {"name": "adamw", "lr": 10**5000}),
        ("hydra", {"run": {}}),
        (3, 4),
    ],
)
def test_other_settings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: Any, value: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    register_resolvers()
    with pytest.raises(ConfigError) as caught:
        settings_from_plain({**PLAIN, group: value})
    one_line(caught.value)
    assert not list(tmp_path.iterdir()), "no resolver of korlm's own has made a folder"
    with pytest.raises(CheckpointError, match=r"^best\.pt: "):
        check_settings({**PLAIN, group: value}, "best.pt", CheckpointError)


def test_settings_that_are_nested_too_deeply() -> None:
    tree: dict[str, Any] = {}
    for _ in range(3000):
        tree = {"model": tree}
    with pytest.raises(CheckpointError, match=r"^best\.pt: its settings are nested too deeply$"):
        check_settings(tree, "best.pt", CheckpointError)


def test_json_and_yaml_of_any_kind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in ("[1]", '{"a": ', 100_000 * "[", '{"a":' + 100_000 * "[", "", "\udcff"):
        path.write_text(text, "utf-8", "surrogateescape")
        with pytest.raises(ValueError) as caught:
            read_json(path)
        one_line(caught.value)
    laughs = "a: &a [1]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    tags = ("a: !!bool x", "a: !!timestamp x", "a: !!int ''", "a: !!float ''", "!!set [a]", "! a")
    code = "!!python/object/apply:os.system [ls]"
    for text in (laughs, 100_000 * "[", code, *tags, "a: 2024-13-45", "a: [", "\udcff"):
        path.write_text(text, "utf-8", "surrogateescape")
        with pytest.raises(ValueError) as caught:
            read_yaml(path)
        one_line(caught.value)
    path.write_text("a: [1, 나]", "utf-8")
    assert read_yaml(path) == {"a": [1, "나"]}
