"""``--help`` and ``--version`` of the commands, and ``python -m korlm``."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COMMANDS, ROOT, Command

from korlm import __main__, __version__, config
from korlm.cli.help import help_text
from korlm.config import registry
from korlm.config.validation import setting_of

# The last choice of each group; test_conf.py composes all of them.
CHOICES = {
    path.parent.relative_to(ROOT / "conf").as_posix(): path.stem
    for path in sorted(ROOT.glob("conf/*/*.yaml"))
}


def keys(text: str) -> dict[str, str]:
    """Return the keys in a help text -> the rest of their lines."""
    lines = [line[2:] for line in text.splitlines() if line.startswith("  ") and "=" in line]
    return dict(line.split("=", 1) for line in lines if not line.startswith(("python", " ")))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_is_explained(command: str) -> None:
    text = help_text(command, [], {})
    assert text.startswith(f"python -m korlm.{command} [key=value ...]\n\n")
    printed = keys(text)
    for field in dataclasses.fields(registry.schemas("")[command]):
        nested = [key for key in printed if key.startswith(f"{field.name}.")]
        assert field.name in printed or nested or field.name == "corpus", field.name
    for key, rest in printed.items():
        assert len(rest.split(" ", 1)[-1].strip()) > 5, f"{key} has no help"


@pytest.mark.parametrize(("group", "choice"), CHOICES.items())
def test_the_choice_is_marked(group: str, choice: str) -> None:
    text = help_text("train", [f"{group}={choice}"], {})
    (names,) = [line for line in text.splitlines() if line.startswith(f"  {group} ")]
    assert f"[{choice}]" in names.split()


def test_a_line() -> None:
    printed = keys(help_text("train", ["model=ngram", "hydra/launcher=parallel"], {}))
    assert "model.order" in printed and "model.num_layers" not in printed
    assert printed["model.smoothing"].endswith(" (kneser_ney|maximum_likelihood|add_k)")
    assert printed["trainer.eval_every"].startswith("null ")
    assert printed["trainer.eval_every"].endswith(" (steps; 1 or more)")
    assert printed["schedule.warmup_ratio"].startswith("0.25 ")
    assert "hydra.launcher.n_jobs" in printed
    assert printed["corpus.valid"].startswith("[konlpy:kobill/1809896.txt] ")
    assert keys(help_text("generate", [], {}))["run"].endswith("(required)")
    assert "sweep" in keys(help_text("report", [], {"sweep": "sweep_dir"}))


def test_choices_of_a_folder(tmp_path: Path) -> None:
    mine = tmp_path / "model" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text("defaults: [lstm, _self_]\nnum_layers: 7\n")
    printed = keys(help_text("train", ["--config-dir", str(tmp_path), "model=mine"], {}))
    assert printed["model.num_layers"].startswith("7 ")
    assert printed["model.weight_dropout"].startswith("0.2 ")


def test_values_of_an_experiment() -> None:
    printed = keys(help_text("train", ["experiment=char_rnn", "schedule=cosine"], {}))
    assert "model.nonlinearity" in printed and "model.forget_bias" not in printed
    assert printed["name"].startswith("char_rnn ")
    assert printed["model.input_dropout"].startswith("0.3 ")
    assert printed["optimizer.lr"].startswith("0.01 ")
    assert printed["schedule.warmup_ratio"].startswith("0.02 ")


def test_no_such_choice(korlm: Command) -> None:
    assert "model=foo: must be one of gru, lstm" in korlm("train", "model=foo", "--help").error


def test_every_setting_has_help() -> None:
    registered = map(registry.schemas, registry.groups())
    for schemas in (*registered, config.LAUNCHERS, {"": config.SearchConfig}):
        for schema in schemas.values():
            for field in dataclasses.fields(schema):
                nested = dataclasses.is_dataclass(field.default_factory) or (
                    field.name in registry.groups()
                )
                assert setting_of(field).help or nested or field.name.startswith("_"), field.name


def test_help_needs_no_torch() -> None:
    code = "import korlm.train; korlm.train.main(); import sys; assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "model=gru", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "model.weight_dropout=0.2" in done.stdout


def test_version(korlm: Command) -> None:
    for command in COMMANDS:
        ended = korlm(command, "--version")
        assert (ended.code, ended.out) == (0, f"korlm {__version__}\n")


def test_the_package_runs_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["korlm", *arguments])
        __main__.main()
        return capsys.readouterr().out

    assert run("--version") == f"korlm {__version__}\n"
    assert run() == run("--help")
    for command in COMMANDS:
        assert f"\n  {command} " in run()
    with pytest.raises(SystemExit, match=r"command trian: must be one of .*did you mean train"):
        run("trian")


def test_a_command_of_the_package() -> None:
    command = [sys.executable, "-m", "korlm", "score", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("python -m korlm.score ") and done.stderr == ""


COMPLETE = """
import os, sys
from korlm.__main__ import main

for line in sys.argv[1:]:
    os.environ["COMP_LINE"], sys.argv = line, ["korlm", "-sc", "query=bash"]
    main()
    print(end="|")
"""


def test_shell_completion() -> None:
    expected = {
        "korlm ": {"train", "evaluate", "serve"},
        "korlm tr": {"train"},
        "korlm train model=gr": {"model=gru"},
        "korlm train optim": {"optimizer."},
        "korlm generate see": {"seed="},
    }
    command = [sys.executable, "-c", COMPLETE, *expected]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    printed = done.stdout.split("|")[:-1]
    for words, completions in zip(expected.values(), printed, strict=True):
        assert words <= set(completions.split())
        assert "_schema" not in completions


def test_shell_completion_is_installed_for_the_console_script() -> None:
    code = "import sys; sys.argv[0] = '/bin/korlm'; from korlm.__main__ import main; main()"
    command = [sys.executable, "-c", code, "-sc", "install=bash"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.rstrip().endswith("-F hydra_bash_completion korlm")
