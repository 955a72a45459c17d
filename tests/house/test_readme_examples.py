"""The Python examples of all READMEs run unchanged; those of a page share their names.

``tests/house/test_extension.py`` runs the files of another package in korlm/README.md, and
``tests/exporting/test_model_card.py`` the code for exports.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Command, sentences
from test_readme import PAGES

BLOCK = re.compile(r"```python\n(.*?)```", re.S)
EXAMPLES = {
    page: blocks
    for page, text in PAGES.items()
    if (blocks := [block for block in BLOCK.findall(text) if not block.startswith("# my_lm/")])
}
SMALL = [
    "tokenizer=syllable",
    "trainer.max_steps=2",
    "trainer.sample_tokens=0",
    "trainer.device=cpu",
]
ELSEWHERE = "korlm/exporting/README.md"
NEEDS = {"korlm/tokenizers/README.md": pytest.mark.jvm}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def folder(korlm: Command, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a text, a run and a run of a task, named as in the READMEs."""
    monkeypatch.chdir(outputs)
    if not (outputs / "book.txt").exists():
        lines = [*sentences(200, 1), "나는 학교에 갔다."]
        (outputs / "book.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for name, options in (("DIR", []), ("TASK", ["experiment=spacing"])):
            command = ["corpus=text", "corpus.files=book.txt", *SMALL, *options]
            ended = korlm("train", *command, f"hydra.run.dir=outputs/runs/{name}")
            assert ended.code == 0, ended.err
    return outputs


def test_there_are_examples() -> None:
    assert sum(map(len, EXAMPLES.values())) >= 9


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=NEEDS.get(page, ())) for page in EXAMPLES if page != ELSEWHERE],
)
def test_examples_run(page: str, folder: Path) -> None:
    names: dict[str, object] = {}
    for block in EXAMPLES[page]:
        exec(compile(block, page, "exec"), names)
