"""Allowed imports of packages, the use of libraries, and files at the top level."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COMMANDS, ROOT

PACKAGE = ROOT / "korlm"
MODULES = sorted(PACKAGE.rglob("*.py"))

# The packages in the order of the data flow: a file imports from its own package and from those
# before it. Packages of one line do not import each other.
ORDER = [
    {"text"},
    {"utils"},
    {"config"},
    {"corpus"},
    {"tokenizers"},
    {"dataset"},
    {"modules"},
    {"models"},
    {"detokenizers"},
    {"runs"},
    {"evaluation"},
    {"generation"},
    {"tasks"},
    {"training", "prediction"},
    {"rescoring", "exporting", "reporting"},
    {"cli"},
    {"sweeps"},
    {"api"},
    {"serving"},
    set(COMMANDS),
    {"", "__main__"},  # korlm itself
]
MAX_FILES = 12  # of a folder, without __init__.py
# zsh treats an unquoted list as a glob pattern and refuses it.
UNQUOTED = re.compile(r"(?:^|\s)[a-z_]+(?:\.[a-z_]+)*=\[[^\]]*\](?=[\s;,]|$)")
# Modules that may import a library.
ONLY_IN = {
    "konlpy": {"korlm.tokenizers.kkma.engine"},
    "jpype": {
        "korlm.tokenizers.jvm",
        "korlm.tokenizers.konlpy_taggers",
    },
    "kiwipiepy": {"korlm.tokenizers.cpp_taggers"},
    "mecab": {"korlm.tokenizers.cpp_taggers"},
    "sentencepiece": {"korlm.tokenizers.subwords.sentencepiece_unigram"},
    "torchtext": {"korlm.dataset.vocab"},
    "hydra": {
        *(
            "korlm.cli.command",
            "korlm.cli.compose",
            "korlm.cli.compose",
            "korlm.config",
            "korlm.sweeps.hydra_plugins",
            "korlm.sweeps.command",
            "korlm.sweeps.callback",
            "korlm.config.error_messages",
        ),
        *("korlm.cli.output_dirs", "korlm.config.stored"),
        "korlm.sweeps.launchers.base",
        *("korlm.sweeps.search.space", "korlm.sweeps.search.sweepers"),
    },
    "omegaconf": {
        *(
            "korlm.cli.command",
            "korlm.cli.compose",
            "korlm.cli.compose",
            "korlm.sweeps.callback",
            "korlm.sweeps.command",
        ),
        *("korlm.sweeps.folder", "korlm.sweeps.search.sweepers"),
        *("korlm.config.serialization", "korlm.config.error_messages", "korlm.cli.output_dirs"),
        "korlm.sweeps.launchers.base",
    },
    "jinja2": {"korlm.reporting.html"},
    "submitit": {"korlm.sweeps.launchers.submitit_launcher", "korlm.sweeps.launchers.submitit_job"},
    "optuna": {"korlm.sweeps.search.database", "korlm.sweeps.search.study"},
    "sqlalchemy": {"korlm.sweeps.search.database"},
    "tensorboard": {"korlm.runs.tensorboard_events"},
    "matplotlib": {
        *("korlm.utils.plotting", "korlm.dataset.statistics.plots", "korlm.reporting.charts"),
        "korlm.evaluation.surprisal.plot",
        *("korlm.evaluation.plots", "korlm.sweeps.plot", "korlm.tasks.plots"),
    },
    "torch.utils.tensorboard": {"korlm.training.trackers.tensorboard"},
    "mlflow": {"korlm.training.trackers.mlflow"},
    "wandb": {"korlm.training.trackers.wandb"},
    "torch.distributed": {"korlm.utils.distributed"},
    "safetensors": {"korlm.runs.safetensors"},
    "onnx": {"korlm.exporting.onnx_graph"},
    "onnxruntime": {"korlm.exporting.verify"},
    "fastapi": {"korlm.serving.app"},
    "uvicorn": {"korlm.serving.connections"},
    "distributed": {
        "korlm.dataset.executors.clusters",
        "korlm.dataset.executors.dask_executor",
        "korlm.dataset.executors.remote_call",
        "korlm.dataset.executors.worker",
    },
    "dask_jobqueue": {"korlm.dataset.executors.clusters"},
    "dask_kubernetes": {"korlm.dataset.executors.clusters"},
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports_of(path: Path) -> set[str]:
    """Return the dotted names that a file imports at any depth, but not for type checking."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and id(node) not in for_types:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules_imported(path: Path) -> set[str]:
    """Return the modules of korlm that a file imports."""
    names = {name for name in imports_of(path) if name.startswith("korlm.")}
    return {n if n in BY_NAME else n.rpartition(".")[0] for n in names} - {name_of(path)}


def package_of(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def place_of(module: str) -> int:
    return next(position for position, names in enumerate(ORDER) if package_of(module) in names)


BY_NAME = {name_of(path): path for path in MODULES}


def test_imports_follow_the_order() -> None:
    imports = [(name, other) for name, path in BY_NAME.items() for other in modules_imported(path)]
    assert not [
        f"{name} imports {other}"
        for name, other in imports
        if "korlm._version" not in (name, other)
        and package_of(other) != package_of(name)
        and place_of(other) >= place_of(name)
    ]


def test_no_cycles() -> None:
    """Imports of files, those inside functions included, form no cycle (Kahn's algorithm)."""
    graph = {name: modules_imported(path) for name, path in BY_NAME.items()}
    while free := {name for name, imported in graph.items() if not imported & set(graph)}:
        graph = {name: imported for name, imported in graph.items() if name not in free}
    assert not graph


def test_folders_are_small() -> None:
    folders = {path.parent for path in MODULES} - {PACKAGE}
    sizes = {f: len([p for p in f.glob("*.py") if p.name != "__init__.py"]) for f in folders}
    assert not {f.name: size for f, size in sizes.items() if size > MAX_FILES}


@pytest.mark.parametrize("library", ONLY_IN)
def test_where_a_library_is_imported(library: str) -> None:
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


def test_every_module_has_a_docstring() -> None:
    silent = [name_of(p) for p in MODULES if not ast.get_docstring(ast.parse(p.read_text("utf-8")))]
    assert not silent


def test_nothing_heavy_before_the_settings_are_valid() -> None:
    code = (
        "import importlib, sys\n"
        "sys.argv = ['x', '--cfg', 'job']\n"
        "heavy = {'torch', 'konlpy', 'jpype', 'tensorboard', 'torchtext', 'pyarrow', 'numpy'}\n"
        "heavy |= {'matplotlib', 'optuna', 'sqlalchemy'}\n"
        f"for command in {list(COMMANDS)}:\n"
        "    importlib.import_module(f'korlm.{command}').main()\n"
        "    print(command, heavy & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stderr.splitlines() == [f"{command} set()" for command in COMMANDS]


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
    assert not [position for position, text in shown.items() if UNQUOTED.search(text)]
    assert UNQUOTED.search("train corpus.files=[a.txt] x=1") and not UNQUOTED.search("'a=[b]'")


# Python 3.10, the oldest that korlm supports, lacks these.
NEW_IN_PYTHON_3_11 = {"tomllib", "typing.Self", "typing.Never", "typing.assert_never"}
NEW_IN_PYTHON_3_11 |= {"enum.StrEnum", "datetime.UTC", "asyncio.TaskGroup", "asyncio.timeout"}


def test_imports_of_the_oldest_python() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = set()
            if isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            assert not NEW_IN_PYTHON_3_11 & names, path
