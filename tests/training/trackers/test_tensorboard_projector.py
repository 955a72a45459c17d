"""Files of the embedding projector, read back by TensorBoard's own plugin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

from korlm.training.trackers.tensorboard import TensorBoardLogger
from korlm.training.trackers.tensorboard_projector import escape_label, write_projector

TOKENS = ["<pad>", "<unk>", "<bos>", "<eos>", "나", "는", "a\tb", "", "드문"]
COUNTS = [0, 9, 0, 99, 5, 7, 6, 4, 1]
MATRIX = torch.arange(18, dtype=torch.float32).view(9, 2) / 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tracker = TensorBoardLogger(tmp_path / "runs" / "a")
    tracker.log_scalars(1, {"loss/train": 2.0})
    write_projector(tmp_path / "runs" / "a", MATRIX, TOKENS, COUNTS, 4)
    tracker.close()
    return tmp_path / "runs" / "a"


def test_the_most_frequent_come_first_and_each_row_stays_a_row(folder: Path) -> None:
    names = (folder / "embeddings" / "metadata.tsv").read_text("utf-8").split("\n")
    assert names == ["token\tcount", "는\t7", "a\\tb\t6", "나\t5", '""\t4', ""]
    rows = (folder / "embeddings" / "tensors.tsv").read_text("utf-8").splitlines()
    points = torch.tensor([[float(cell) for cell in row.split("\t")] for row in rows])
    assert torch.allclose(points, MATRIX[[5, 6, 4, 7]], rtol=1e-4)


def test_tensorboard_shows_them_and_only_one_run(folder: Path) -> None:
    events = EventMultiplexer().AddRunsFromDirectory(str(folder.parent))
    events.Reload()
    assert list(events.Runs()) == [folder.name]
    logdir = str(folder.parent)
    provider = MultiplexerDataProvider(events, logdir)
    plugin = ProjectorPlugin(TBContext(logdir=logdir, multiplexer=events, data_provider=provider))
    paths = plugin.get_plugin_apps()
    answer = Client(paths["/info"]).get(f"/?run={folder.name}")
    (shown,) = json.loads(answer.get_data())["embeddings"]
    assert shown["tensorShape"] == [4, 2]
    answer = Client(paths["/metadata"]).get(f"/?run={folder.name}&name=embeddings")
    assert answer.status_code == 200 and "는" in answer.get_data().decode("utf-8")


def test_a_vocabulary_without_tokens_gives_no_files(tmp_path: Path) -> None:
    write_projector(tmp_path, MATRIX, TOKENS[:5], COUNTS[:5], 10)
    assert not list(tmp_path.iterdir())


def test_every_letter_stays_in_its_cell() -> None:
    for code in [*range(0x300), 0x2028, 0x3164, 0xAC00, 0xD800]:
        cell = escape_label(chr(code))
        assert cell.strip() and len(cell.splitlines()) == 1 and "\t" not in cell
