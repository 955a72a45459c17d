"""The commands of all READMEs run unchanged, with two training steps on a small text.

Searches and sweeps are shortened, and dynamic evaluation, which takes a minute, is left out.
Commands that need a cluster or never end are tested elsewhere.
"""

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, Command, sentences

MAX_LINES, MAX_WIDTH = 200, 120  # of the README at the top

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in ("", ".github", "conf", "scripts", "korlm")
    for path in sorted((ROOT / folder).glob("**/*.md" if folder else "*.md"))
}
BLOCKS = [block for page in PAGES.values() for block in re.findall(r"```sh\n(.*?)```", page, re.S)]
LINES = [line.split(" #")[0].strip() for block in BLOCKS for line in block.splitlines()]
# tests/serving, tests/sweeps and tests/dataset/executors have the commands that need processes.
ELSEWHERE = ("korlm.serve", "submitit_", "prepare.cluster=", "hydra/launcher=parallel")
COMMANDS = [
    line
    for line in dict.fromkeys(LINES)
    if line.startswith(("scripts/train", "python -m korlm."))
    and not any(word in line for word in ELSEWHERE)
]
PATH = re.compile(r"(?<![\w/.])((?:scripts|korlm|tests|conf)/[\w/]+(?:\.py|\.yaml|\.md)?)")
# In the READMEs of korlm/, paths with a folder are relative to it, or to that of the README.
MODULE = re.compile(r"`(\w+/[\w/]+\.py)`")
PLACEHOLDER = re.compile(r"\b(NAME|COMMAND|GROUP)\b")
SHORT = ["trainer.max_steps=2", "trainer.sample_tokens=5", "batches.batch_size=2"]
BILLS = [  # instead of all texts of konlpy
    f"corpus.{split}=[konlpy:kobill/18098{number}.txt]"
    for split, number in (("train", 95), ("valid", 94), ("test", 98))
]
OTHER_TEXT = re.compile("corpus=[^k]|prepared=|resume=")


def test_all_commands_are_known() -> None:
    assert len(COMMANDS) >= 15
    # tests/serving sends what curl sends.
    known = ("scripts/", "python -m korlm", "torchrun ", "tensorboard --logdir", "curl -H")
    assert [line for line in LINES if line and not line.startswith(known)] == []


def test_the_readme_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= MAX_LINES
    assert [line for line in lines if len(line) > MAX_WIDTH] == []


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_links_exist(page: str) -> None:
    text = PAGES[page]
    for path in PATH.findall(text):
        if not PLACEHOLDER.search(path):
            assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("korlm/")])
def test_modules_exist(page: str) -> None:
    for path in MODULE.findall(PAGES[page]):
        if not PLACEHOLDER.search(path):
            folders = (ROOT, ROOT / "korlm", (ROOT / page).parent)
            assert any((folder / path).exists() for folder in folders), path


@pytest.mark.jvm
def test_the_readmes_commands_run(
    korlm: Command, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The commands run in one folder and in order, as a reader would type them."""
    texts = [sentences(60, seed) for seed in range(30)]
    for number, lines in enumerate(texts):
        for folder, kind in (("my_texts", "txt"), ("news", "txt.gz")):
            (tmp_path / folder).mkdir(exist_ok=True)
            write(tmp_path / folder / f"{number}.{kind}", lines)
    write(tmp_path / "book.txt", "\n\n".join("\n".join(lines[:8]) for lines in texts).split("\n"))
    write(tmp_path / "train.txt", texts[0])
    write(tmp_path / "valid.txt", texts[1])
    write(tmp_path / "reviews.tsv", ["id\treview", *(f"{i}\t{t}" for i, t in enumerate(texts[2]))])
    labeled = (f"{t}\t{'even' if n % 2 else 'odd'}" for n, t in enumerate(texts[5]))
    write(tmp_path / "labels.tsv", ["text\tlabel", *labeled])
    pairs = (f"{'aeiou'[i % 5]}{i}\t{'아에이오우'[i % 5]}{i}" for i in range(80))
    write(tmp_path / "names.tsv", ["text\thangul", *pairs])
    items = (f"{n // 2}\t{'ab'[n % 2]}\t{t}" for n, t in enumerate(texts[6]))
    write(tmp_path / "items.tsv", ["item\tcondition\tsentence", *items])
    utterances = [(f"call-{100 * i:06}-{100 * i + 90:06}", t) for i, t in enumerate(texts[3])]
    hypotheses = [f"{name} -{n}.5 {t[: len(t) - n]}" for name, t in utterances for n in (1, 2)]
    write(tmp_path / "nbest.txt", hypotheses)
    write(tmp_path / "references.txt", [f"{name} {t}" for name, t in utterances])
    (tmp_path / "nsmc").mkdir()
    for name in ("ratings_train.txt", "ratings_test.txt"):
        rows = (f"{i}\t{t}\t1" for i, t in enumerate(texts[3] + texts[4]))
        write(tmp_path / "nsmc" / name, ["id\tdocument\tlabel", *rows])
    for line in COMMANDS:
        words = shlex.split(line)
        if words[0] == "python":
            words[:3] = [words[2].removeprefix("korlm.")]
        else:
            words[0] = words[0].removeprefix("scripts/")
        for kind in ("runs", "prepared", "sweeps"):
            made = sorted(p for p in tmp_path.glob(f"outputs/{kind}/*") if p.is_dir())
            latest = [p for p in made if (p / "manifest.json").exists() or kind != "prepared"]
            of_tasks = [p for p in latest if kind == "runs" and not is_language_model(p)]
            for name, paths in (
                ("DIR", [p for p in latest if p not in of_tasks]),
                ("TASK", of_tasks),
            ):
                newest = paths[-1].name if paths else "?"
                words = [w.replace(f"{kind}/{name}", f"{kind}/{newest}") for w in words]
        words = [re.sub(r"n_trials=\d+", "n_trials=3", word) for word in words]
        if any(word.startswith(("sweep=lstm", "hydra/sweeper=")) for word in words):
            words.append("hydra.sweeper.n_trials=2")
        resumed = any(word.startswith("resume=") for word in words)
        trains = words[0] == "train"
        if trains and words[-1].startswith("corpus."):
            words.append("tokenizer=syllable")  # starting Java for each would take long
        if words[0] in ("train", "prepare") and not OTHER_TEXT.search(line):
            words += BILLS
        short = SHORT[:1] if resumed else SHORT * (trains and "--help" not in words)
        if words[0] == "evaluate" and "dynamic.learning_rates=[]" not in words:
            short = ["dynamic.learning_rates=[]"]
        ended = korlm(*words, *short) if "--help" not in words else korlm(*words)
        assert ended.code == 0, f"{line}: {ended.err}"


def is_language_model(run: Path) -> bool:
    config = run / ".hydra" / "config.yaml"
    return not config.exists() or "name: language_modeling" in config.read_text(encoding="utf-8")


def write(path: Path, lines: list[str]) -> None:
    import gzip

    data = ("\n".join(lines) + "\n").encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
