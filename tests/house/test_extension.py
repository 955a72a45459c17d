"""The example of korlm/README.md: a model, a tokenizer and an optimizer of another package.

The package is written into an empty folder, exactly as README.md shows it, and the commands run in
processes of their own, because registering changes the process.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_server import CommandServer
from conftest import ROOT, TinyCorpus

BLOCK = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IMPORTS = "imports=[my_lm]"
CHOICES = ["model=bag", "tokenizer=pieces", "optimizer=sign_sgd"]
FAST = ["trainer.device=cpu", "trainer.threads=1", "trainer.epochs=2", "trainer.sample_tokens=5"]

SLOW = """
from dataclasses import dataclass

import korlm
from korlm.config import WorkerConfig
from korlm.tokenizers.analysis import Span
from korlm.tokenizers.offsets import analysis_of
from korlm.tokenizers.workers.external import LineAnalyzer


@korlm.register("tokenizer", "halves", builds="slow_lm:Halves")
@dataclass
class HalvesConfig(WorkerConfig):
    pass


class Halves(LineAnalyzer):
    def analyze_line(self, text):
        middle = len(text) // 2
        spans = [Span(0, middle), Span(middle, len(text))] if middle else [Span(0, len(text))]
        morphs = [text[span.begin : span.end][:2] for span in spans]
        return analysis_of(text, morphs, [""] * len(morphs), spans)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package of the README."""
    folder = tmp_path_factory.mktemp("extension")
    for name, text in BLOCK.findall((ROOT / "korlm" / "README.md").read_text("utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


def python(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run Python in a folder; return stdout and stderr."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


RunCommand = Callable[..., str]


@pytest.fixture(scope="module")
def command(server: CommandServer, folder: Path) -> RunCommand:
    """Return a function that runs a command in the folder and returns stdout and stderr."""

    def run(name: str, *arguments: str, code: int = 0) -> str:
        ended = server.run(folder, name, *arguments)
        assert ended.code == code, ended
        return ended.out + ended.err

    return run


@pytest.fixture(scope="module")
def run(command: RunCommand, folder: Path, tiny: TinyCorpus) -> str:
    """Return a run trained with all three."""
    settings = [IMPORTS, *CHOICES, *FAST, *tiny.overrides, "model.decay=0.3", "name=own"]
    command("train", *settings)
    (path,) = (folder / "outputs" / "runs").iterdir()
    return str(path)


def test_the_package_is_that_of_the_readme(folder: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("my_lm/**/*.*")}
    modules = ("__init__", "model", "tokenizer", "optimizer")
    choices = ("model/bag", "tokenizer/pieces", "optimizer/sign_sgd")
    assert files >= {f"my_lm/{name}.py" for name in modules}
    assert files >= {f"my_lm/conf/{name}.yaml" for name in choices}


def test_prepare(command: RunCommand, folder: Path, tiny: TinyCorpus) -> None:
    command("prepare", IMPORTS, "tokenizer=pieces", "tokenizer.size=3", *tiny.overrides)
    tokens = [path.read_text("utf-8") for path in folder.glob("outputs/prepared/*/vocab.tsv")]
    assert any("선생님" in text for text in tokens)


def test_a_tokenizer_in_child_processes(
    command: RunCommand, folder: Path, tiny: TinyCorpus
) -> None:
    (folder / "slow_lm.py").write_text(SLOW, "utf-8")
    (folder / "conf" / "tokenizer").mkdir(parents=True)
    (folder / "conf" / "tokenizer" / "halves.yaml").write_text(
        "defaults:\n  - halves_schema\n  - _self_\n\nname: halves\nthreads: 1\n", "utf-8"
    )
    settings = ["tokenizer=halves", *tiny.overrides, "vocab.min_freq=1", "report=false"]
    command("prepare", "imports=slow_lm", *settings)
    (path,) = folder.glob("outputs/prepared/*halves*/vocab.tsv")
    assert "선생" in path.read_text("utf-8")


def test_settings_are_checked_like_those_of_korlm(command: RunCommand) -> None:
    assert "model.decay=2.0: must be in [0, 1)" in command(
        "train", IMPORTS, "model=bag", "model.decay=2", code=1
    )
    output = command("train", IMPORTS, "model=bag", "model.dekay=0.1", code=1)
    assert "model.dekay: there is no such setting; did you mean model.decay" in output
    assert "bag" in command("train", IMPORTS, "model=bog", code=1)
    assert "decay: 0.5" in command("train", IMPORTS, "model=bag", "--cfg", "job")


def test_help(command: RunCommand) -> None:
    output = command("train", IMPORTS, *CHOICES, "--help")
    assert "model.decay=0.5" in output and "Weight of the tokens before" in output
    for line in ("[bag] gru", "[pieces]", "[sign_sgd]"):
        assert line in output
    assert "[bag]" not in command("train", "--help")


def test_imports_that_fail(command: RunCommand, folder: Path) -> None:
    assert "imports=[my_ml]: there is no such module" in command("train", "imports=[my_ml]", code=1)
    assert "imports=[a-b]: must be names of Python modules" in command(
        "train", "imports=[a-b]", code=1
    )
    (folder / "broken.py").write_text("import no_such_library", "utf-8")
    output = command("train", "imports=broken", code=1)
    assert output == "korlm: imports=[broken]: No module named 'no_such_library'\n"
    (folder / "taken.py").write_text(
        "import korlm\nfrom korlm.config import LSTMConfig\n"
        "@korlm.register('model', 'lstm')\nclass Mine(LSTMConfig): pass\n",
        "utf-8",
    )
    assert "model=lstm is registered by korlm.config.groups.model.LSTMConfig" in command(
        "train", "imports=[taken]", code=1
    )


def test_train_and_resume(command: RunCommand, run: str) -> None:
    metrics = json.loads(Path(run, "metrics.json").read_text("utf-8"))
    assert metrics["valid"]["perplexity"] > 1
    output = command("train", f"resume={run}", "trainer.epochs=3", code=1)
    assert output.count("\n") == 1
    assert "model=bag is not registered: add imports=[my_lm]" in output
    command("train", IMPORTS, f"resume={run}", "trainer.epochs=3")
    assert json.loads(Path(run, "metrics.json").read_text("utf-8")) != metrics


def test_evaluate_generate_and_export(command: RunCommand, folder: Path, run: str) -> None:
    quick = ["dynamic.learning_rates=[]", "cache.sizes=[]", "bootstrap.samples=100", "plot=false"]
    command("evaluate", IMPORTS, f"run={run}", *quick)
    assert command("generate", IMPORTS, f"run={run}", "num_samples=1").strip()
    output = command("export", IMPORTS, f"run={run}", "output=exported")
    assert "step.int8.onnx" in output and (folder / "exported" / "step.onnx").is_file()
    loaded = "import my_lm, korlm\nprint(type(korlm.load('exported').model).__name__)"
    assert "BagLM" in python(folder, "-c", loaded)
    output = command("generate", "run=exported", code=1)
    assert output.startswith("korlm: ") and output.count("\n") == 1
    assert "add imports=[my_lm]" in output


@pytest.mark.parametrize(
    ("launcher", "models"),
    [([], "bag,window"), (["hydra/launcher=parallel"], "bag")],  # a process for each job
    ids=["basic", "parallel"],
)
def test_sweep(
    command: RunCommand, folder: Path, tiny: TinyCorpus, launcher: list[str], models: str
) -> None:
    sweep = f"hydra.sweep.dir=sweep{len(launcher)}"
    settings = [*CHOICES[1:], *FAST, *tiny.overrides, "model.embedding_dim=8", "trainer.epochs=1"]
    command("train", "-m", IMPORTS, f"model={models}", *settings, sweep, *launcher)
    path = folder / sweep.partition("=")[2]
    assert len(list(path.glob("*/metrics.json"))) == len(models.split(","))
    output = command("train", "-m", f"resume={path}", *launcher, code=1)
    assert "imports=[my_lm]: modules are imported if they are typed" in output
    command("train", "-m", f"resume={path}", IMPORTS, *launcher)


LEAST = {
    "models/test_contract.py": 100,
    "exporting/test_onnx_step.py": 5,
    "models/test_model_registry.py": 3,
    "tokenizers/test_tokenizers_registry.py": 3,
}


def test_the_contract_tests_include_it(folder: Path) -> None:
    """Pytest imports the package, and every test that has a registered name finds it."""
    options = ["-q", "-rp", "-p", "my_lm", "-p", "no:cacheprovider", "-k", "bag or pieces"]
    files = [str(ROOT / "tests" / file) for file in LEAST]
    output = python(folder, "-m", "pytest", *options, "--rootdir", str(ROOT), *files)
    for file, least in LEAST.items():
        assert len(re.findall(rf"^PASSED \S*tests/{file}::", output, re.MULTILINE)) >= least
    assert "skipped" not in output.splitlines()[-1]
