"""End-to-end tests: raw text to metrics.json and TensorBoard."""

import json
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from command_server import CommandServer
from conftest import LIGHT, SMALL, Command, TinyCorpus

KEYS = {
    *("num_tokens", "num_unk", "num_eojeol", "num_chars", "loss", "perplexity"),
    *("perplexity_known", "oov_rate", "eojeol_perplexity", "bits_per_char"),
    *("tokens_per_second", "seconds", "peak_memory_mb"),
}


def only_folder(parent: Path) -> Path:
    folders = [path for path in parent.iterdir() if not path.name.startswith(".")]
    assert len(folders) == 1, folders
    return folders[0]


@pytest.mark.parametrize(
    ("tokenizer", "batches"), [("syllable", "stream"), ("eojeol", "sentence"), ("jamo", "stream")]
)
def test_end_to_end_without_java(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, tokenizer: str, batches: str
) -> None:
    length = 40 if tokenizer == "jamo" else 20  # a sentence fits in
    ended = korlm(
        "train",
        *(*tiny.overrides, *SMALL, f"tokenizer={tokenizer}", f"batches={batches}", "name=walk"),
        *(
            "batches.batch_size=8",
            f"batches.bptt_length={length}",
            f"trainer.epochs={15 * length // 20}",
        ),
        *("model.hidden_dim=48", "model.embedding_dim=48", "optimizer.lr=0.02"),
        *(
            "model.forget_bias=1",
            "optimizer.weight_decay=0",
        ),  # learns the language exactly, in few steps
    )
    assert ended.code == 0, ended.err
    run = only_folder(tmp_path / "outputs" / "runs")
    assert run.name.endswith("_walk")
    assert not list(tmp_path.rglob("results.tsv")), "the table of a sweep"
    assert {path.name for path in run.iterdir()} == {
        *(".hydra", "train.log", "metrics.json", "training.json", "tensorboard", "checkpoints")
    }
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.pt", "best.pt"}
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    assert list(metrics) == ["train", "valid", "test"]
    assert all(set(split) == KEYS for split in metrics.values())
    # A sentence is one of 8 x 6 x 6 = 288 with equal probability: the optimum is ln 288 nats per
    # sentence, up to the sampling error of 40 sentences; this model must come close.
    ideal = 288 ** (40 / metrics["valid"]["num_tokens"])
    assert 0.95 * ideal < metrics["valid"]["perplexity"] < 1.15 * ideal
    assert "perplexity" in ended.out and str(run.name) in ended.out
    prepared = only_folder(tmp_path / "outputs" / "prepared")
    assert prepared.name.startswith(f"text-{tokenizer}-")
    for split in metrics:
        ids = np.load(prepared / "ids" / f"{split}-00000.npy", mmap_mode="r")
        assert ids.dtype == np.uint16
        assert len(ids) == metrics[split]["num_tokens"]
        text = getattr(tiny, split).read_text("utf-8")
        assert metrics[split]["num_chars"] == len(text)
        assert metrics[split]["num_eojeol"] == len(text.split())


def test_a_second_run_tokenizes_nothing(
    korlm: Command, tiny: TinyCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert korlm("prepare", *tiny.overrides, "tokenizer=syllable").code == 0
    from korlm.dataset.executors import base as station

    def refuse(*args: object) -> None:
        raise AssertionError("tokenized twice")

    monkeypatch.setattr(station, "TokenizerPool", refuse)
    for override in ("trainer.epochs=1", "vocab.min_freq=3"):
        few = [*LIGHT, "trainer.max_steps=2", override]
        assert korlm("train", *tiny.overrides, *few).code == 0


@pytest.mark.jvm
def test_end_to_end_with_kkma(korlm: Command, tmp_path: Path) -> None:
    """The default command on the bill of one law, with a small model."""
    bill = "konlpy:kobill/1809894.txt"
    ended = korlm(
        "train",
        *("corpus=konlpy", f"corpus.train=[{bill}]", "corpus.valid=[konlpy:kobill/1809895.txt]"),
        *("corpus.test=[]", "vocab.min_freq=1", *SMALL),
    )
    assert ended.code == 0, ended.err
    run = only_folder(tmp_path / "outputs" / "runs")
    assert list(json.loads((run / "metrics.json").read_text("utf-8"))) == ["train", "valid"]
    prepared = only_folder(tmp_path / "outputs" / "prepared")
    table = pq.read_table(prepared / "tokens" / "train-00000.parquet").to_pydict()
    assert set(table) == {"doc_id", "line", "text", "morphs", "tags", "eojeol", "status"}
    assert any("ETD" in tags for tags in table["tags"])
    ended = korlm("generate", f"run={run}", "prompt=법", "max_tokens=20", "seed=1")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("법") and re.search("[가-힣]{2}", ended.out)
    (tmp_path / "text.txt").write_text("이 법은 공포한 날부터 시행한다.\n", "utf-8")
    scored = korlm("score", f"run={run}", "input=text.txt", "output=scores.tsv")
    assert scored.code == 0, scored.err
    rows = (tmp_path / "scores.tsv").read_text("utf-8").splitlines()
    assert rows[1].split("\t")[3:6] == ["이", "이", "MDT"] and "\t<eos>\t" in rows[-1]
    assert "jpype" not in sys.modules, "Java belongs to the child process alone"


LONG = ["trainer.epochs=4", "model.output_dropout=0.2"]


@pytest.fixture(scope="module")
def unbroken(
    server: CommandServer, tiny: TinyCorpus, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("unbroken")
    ended = server.run(folder, "train", *tiny.overrides, *LIGHT, *LONG)
    assert ended.code == 0, ended.err
    return only_folder(folder / "outputs" / "runs")


def test_interrupted_and_resumed(
    server: CommandServer, tiny: TinyCorpus, tmp_path: Path, unbroken: Path, korlm: Command
) -> None:
    """After Ctrl-C, the resumed run ends with identical metrics; kill -9: see test_faults.py."""
    command = [*tiny.overrides, *LIGHT, *LONG]
    when = "outputs/runs/*/checkpoints/last.pt"
    stopped = server.run(tmp_path, "train", *command, when=when, number=signal.SIGINT)
    (last,) = tmp_path.glob(when)
    run = last.parent.parent
    assert stopped.code == 130, stopped
    assert f"python -m korlm.train resume={run}" in stopped.err
    assert torch.load(last, weights_only=True)["progress"]["epoch"] >= 1
    ended = korlm("train", f"resume={run}")
    assert ended.code == 0, ended.err
    there, here = (
        torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
        for folder in (unbroken, run)
    )
    assert there["progress"]["step"] == here["progress"]["step"]
    for name, tensor in there["model"].items():
        assert torch.equal(tensor, here["model"][name]), name
    for key in ("num_tokens", "loss", "bits_per_char"):
        both = [
            json.loads((folder / "metrics.json").read_text("utf-8"))["valid"][key]
            for folder in (unbroken, run)
        ]
        assert both[0] == both[1], key
    assert len(list((run / ".hydra").glob("resumed_*"))) == 1
    assert "resume" not in (run / ".hydra" / "overrides.yaml").read_text("utf-8")


def test_ctrl_c_while_tokenizing_keeps_what_is_done(
    server: CommandServer, tiny: TinyCorpus, tmp_path: Path
) -> None:
    """Interrupted before training: exit code 130, no run directory, no incomplete corpus."""
    big = tmp_path / "big.txt"
    big.write_text(tiny.train.read_text("utf-8") * 800, "utf-8")
    command = [*tiny.overrides, *LIGHT, f"corpus.train=[{big}]", "prepare.piece_mb=0.1"]
    when = "outputs/prepared/.*.partial/tokens/*.parquet"
    ended = server.run(tmp_path, "train", *command, when=when, number=signal.SIGINT)
    assert ended.code == 130, ended
    assert "Traceback" not in ended.err
    prepared = tmp_path / "outputs" / "prepared"
    assert not [path for path in prepared.iterdir() if not path.name.startswith(".")]
    assert not list(tmp_path.glob("outputs/runs/*"))
    assert not list(prepared.rglob("*.tmp"))


def test_a_run_of_a_task_is_resumed_and_evaluated(korlm: Command, tmp_path: Path) -> None:
    rows = [f"{word} {n}\t{label}" for n in range(4) for word, label in (("좋다", 1), ("싫다", 0))]
    files = []
    for split in ("train", "valid"):
        path = tmp_path / f"{split}.tsv"
        path.write_text("\n".join(["text\tlabel", *rows, f"{split}\t1"]), encoding="utf-8")
        files.append(f"corpus.{split}=[{path}]")
    task = ["task=classification", "corpus=tsv", *files, "corpus.label_column=label"]
    small = ["model.embedding_dim=8", "model.hidden_dim=8", "batches.batch_size=4"]
    words = [*task, *small, "tokenizer=syllable", "vocab.min_freq=1", "trainer.epochs=1"]
    assert korlm("train", *words, "hydra.run.dir=one").code == 0
    ended = korlm("train", "resume=one", "trainer.epochs=2")
    assert ended.code == 0, ended.err
    assert korlm("evaluate", "run=one", "bootstrap.samples=100", "output=figures").code == 0
    result = json.loads((tmp_path / "figures" / "metrics.json").read_text(encoding="utf-8"))
    assert result["valid"]["one"]["intervals"].keys() == {"accuracy", "macro_f1", "loss"}
    text = ["corpus=tsv", f"corpus.files={tmp_path / 'valid.tsv'}"]  # columns: those of the run
    assert korlm("evaluate", "run=one", *text, "bootstrap.samples=100", "output=other").code == 0
    other = json.loads((tmp_path / "other" / "metrics.json").read_text(encoding="utf-8"))
    assert other["tsv"]["one"]["accuracy"] == result["valid"]["one"]["accuracy"]
    ended = korlm(
        "predict", "run=one", f"input={tmp_path / 'valid.tsv'}", "corpus.text_column=text"
    )
    assert ended.code == 0 and len(ended.out.splitlines()) == 10
