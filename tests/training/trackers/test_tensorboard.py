"""TensorBoard: the documented tags, in one run, read back by TensorBoard itself."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

from korlm.tasks.language_modeling import LanguageModelingTask
from korlm.training.trackers.base import flatten
from korlm.training.trackers.tensorboard import TensorBoardLogger, escape_label, write_projector

TRAIN_TAGS = {
    "loss/train",
    "perplexity/train",
    "train/lr",
    "train/grad_norm",
    "train/tokens_per_second",
}
VALID_TAGS = {
    "loss/valid",
    "perplexity/valid",
    "quality/bits_per_char",
    "quality/eojeol_perplexity",
    "quality/oov_rate",
    "best/valid_perplexity",
}
TEST_TAGS = {"loss/test", "perplexity/test"}

FIGURES = {
    "num_tokens": 10,
    "loss": 2.0,
    "perplexity": math.exp(2.0),
    "bits_per_char": 3.5,
    "eojeol_perplexity": 400.0,
    "oov_rate": 0.25,
}
SETTINGS: dict[str, Any] = {
    "model": {"name": "lstm", "hidden_dim": 8, "tie_weights": True},
    "optimizer": {"lr": 0.5},
    "name": None,
    "corpus": {"train": ["가.txt"]},
}

# Tags do not depend on a run.
TASK = object.__new__(LanguageModelingTask)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def points(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[TensorBoardLogger]:
    """Yield a logger in ``tmp_path``."""
    tracker = TensorBoardLogger(tmp_path, charts=TASK.charts)
    yield tracker
    tracker.close()


@pytest.fixture
def pass_seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which ten seconds seem to have passed.

    Event files are read in the order of their names, which begin with the second in which they
    were created; names of the same second are in no useful order.
    """
    real = time.time
    return lambda: monkeypatch.setattr(time, "time", lambda: real() + 10)


def train_scalars(loss: float, lr: float = 0.1, norm: float = 1.5, speed: float = 1000.0) -> Any:
    """Return the scalars that the trainer logs."""
    scalars = {"train/lr": lr, "train/grad_norm": norm, "train/tokens_per_second": speed}
    return TASK.train_scalars(loss) | scalars


def valid_scalars(best_loss: float) -> Any:
    return TASK.eval_scalars("valid", FIGURES) | TASK.best_scalars(best_loss)


def write_all(tracker: TensorBoardLogger, settings: dict[str, Any] = SETTINGS) -> None:
    tracker.log_scalars(10, train_scalars(4.0))
    tracker.log_scalars(20, train_scalars(3.0, 0.2, 0.5, 2000.0))
    tracker.log_scalars(20, valid_scalars(best_loss=1.0))
    tracker.log_samples(20, {"samples": "나는 학교에", "samples/tokens": "나 는 학교 에"})
    tracker.log_scalars(20, TASK.eval_scalars("test", FIGURES))
    tracker.log_result(20, settings, {})
    tracker.close()


def test_tags_are_those_promised(tracker: TensorBoardLogger, tmp_path: Path) -> None:
    write_all(tracker)
    events = read(tmp_path)
    assert set(events.Tags()["scalars"]) == TRAIN_TAGS | VALID_TAGS | TEST_TAGS
    assert "samples/text_summary" in events.Tags()["tensors"]


def test_values_and_steps(tracker: TensorBoardLogger, tmp_path: Path) -> None:
    write_all(tracker)
    events = read(tmp_path)
    assert points(events, "loss/train") == [(10, 4.0), (20, 3.0)]
    assert points(events, "perplexity/train") == [(10, math.exp(4)), (20, math.exp(3))]
    assert points(events, "train/lr") == [(10, 0.1), (20, 0.2)]
    assert points(events, "train/grad_norm") == [(10, 1.5), (20, 0.5)]
    assert points(events, "train/tokens_per_second") == [(10, 1000.0), (20, 2000.0)]
    assert points(events, "loss/valid") == [(20, 2.0)]
    assert points(events, "perplexity/valid") == [(20, math.exp(2))]
    assert points(events, "quality/bits_per_char") == [(20, 3.5)]
    assert points(events, "quality/eojeol_perplexity") == [(20, 400.0)]
    assert points(events, "quality/oov_rate") == [(20, 0.25)]
    assert points(events, "best/valid_perplexity") == [(20, math.e)]
    assert points(events, "loss/test") == [(20, 2.0)]
    assert points(events, "perplexity/test") == [(20, math.exp(2))]
    (text,) = events.Tensors("samples/text_summary")
    assert text.step == 20
    assert text.tensor_proto.string_val[0].decode() == "나는 학교에"
    (text,) = events.Tensors("samples/tokens/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "나 는 학교 에"


def test_what_is_flushed_can_be_seen_at_once(tracker: TensorBoardLogger, tmp_path: Path) -> None:
    tracker.log_scalars(10, valid_scalars(best_loss=2.0))
    tracker.flush()
    assert points(read(tmp_path), "loss/valid") == [(10, 2.0)]


def test_one_run_has_one_file(tracker: TensorBoardLogger, tmp_path: Path) -> None:
    """``add_hparams`` and ``add_scalars`` of PyTorch would make folders, which show as runs."""
    write_all(tracker)
    (only,) = tmp_path.rglob("*")
    assert only.name.startswith("events.out.tfevents.")


def test_an_infinite_perplexity(tracker: TensorBoardLogger, tmp_path: Path) -> None:
    tracker.log_scalars(10, train_scalars(1000.0))
    tracker.close()
    assert read(tmp_path).Scalars("perplexity/train")[0].value == math.inf


def test_custom_scalars_lay_train_over_valid(tracker: TensorBoardLogger, tmp_path: Path) -> None:
    tracker.log_scalars(1, train_scalars(1.0))
    tracker.close()
    (event,) = read(tmp_path).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = [chart for category in layout.category for chart in category.chart]
    assert {chart.title: list(chart.multiline.tag) for chart in charts} == {
        "loss": ["loss/train", "loss/valid"],
        "perplexity": ["perplexity/train", "perplexity/valid"],
    }


def hparams_of(folder: Path) -> dict[str, plugin_data_pb2.HParamsPluginData]:
    events = read(folder)
    tags = events.PluginTagToContent("hparams")
    return {
        tag: plugin_data_pb2.HParamsPluginData.FromString(content) for tag, content in tags.items()
    }


def test_hparams_go_to_the_same_run(tracker: TensorBoardLogger, tmp_path: Path) -> None:
    write_all(tracker)
    data = hparams_of(tmp_path)
    assert set(data) == {
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }
    start = data["_hparams_/session_start_info"].session_start_info.hparams
    assert set(start) == set(flatten(SETTINGS))
    assert start["model.hidden_dim"].number_value == 8
    assert start["model.name"].string_value == "lstm"
    assert start["model.tie_weights"].number_value == 1  # PyTorch takes a bool for a number
    assert start["optimizer.lr"].number_value == 0.5
    assert start["corpus.train"].string_value == "['가.txt']"


def test_the_hparams_tab_begins_with_what_varies(tmp_path: Path) -> None:
    for name, lr, run_name in (("0", 0.5, "가"), ("1", 0.25, "나"), ("2", 0.5, "나")):
        settings = {**SETTINGS, "optimizer": {"lr": lr}, "name": run_name}
        write_all(TensorBoardLogger(tmp_path / name), settings)
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    runs.Reload()
    request, logdir = RequestContext(), str(tmp_path)
    tab = Context(TBContext(logdir=logdir, data_provider=MultiplexerDataProvider(runs, logdir)))
    metadata = tab.hparams_metadata(request, "")
    experiment = tab.experiment_from_metadata(request, "", True, metadata, [])
    infos = experiment.hparam_infos
    assert [info.name for info in infos if info.differs] == ["name", "optimizer.lr"]
    assert [info.name for info in infos][:2] == ["name", "optimizer.lr"]
    assert {info.name for info in infos} == set(flatten(SETTINGS))
    assert experiment.metric_infos[0].name.tag == "best/valid_perplexity"


def test_keys_of_flat_settings_do_not_depend_on_values() -> None:
    other = {**SETTINGS, "name": "가", "corpus": {"train": []}}
    assert flatten(other).keys() == flatten(SETTINGS).keys()
    assert all(isinstance(value, (str, int, float)) for value in flatten(SETTINGS).values())


def test_a_resumed_run_hides_what_a_crash_left_behind(
    tracker: TensorBoardLogger, tmp_path: Path, pass_seconds: Callable[[], None]
) -> None:
    """last.pt was of step 20; the session got to 40 before it was killed."""
    for step in (10, 20, 30, 40):
        tracker.log_scalars(step, {"loss/train": float(step)})
    tracker.close()
    pass_seconds()
    resumed = TensorBoardLogger(tmp_path, first_step=21)
    resumed.log_scalars(30, {"loss/train": 300.0})
    resumed.close()
    assert points(read(tmp_path), "loss/train") == [(10, 10.0), (20, 20.0), (30, 300.0)]
    assert len(list(tmp_path.rglob("*"))) == 2


def test_a_run_that_starts_again_hides_all_earlier_points(
    tracker: TensorBoardLogger, tmp_path: Path, pass_seconds: Callable[[], None]
) -> None:
    """It was killed before its first checkpoint."""
    for step in (10, 20):
        tracker.log_scalars(step, {"loss/train": 1.0})
    tracker.close()
    pass_seconds()
    second = TensorBoardLogger(tmp_path, first_step=0)
    second.log_scalars(10, {"loss/train": 2.0})
    second.close()
    assert points(read(tmp_path), "loss/train") == [(10, 2.0)]


def test_no_file_before_the_first_point(tracker: TensorBoardLogger, tmp_path: Path) -> None:
    tracker.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_end_of_the_events_hides_nothing_else(
    tracker: TensorBoardLogger, tmp_path: Path, pass_seconds: Callable[[], None], cut: int
) -> None:
    """Killed during a write: only the last scalar is lost."""
    for step in (10, 20):
        tracker.log_scalars(step, train_scalars(float(step)))
    tracker.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    pass_seconds()
    resumed = TensorBoardLogger(tmp_path, first_step=21)
    resumed.log_scalars(30, {"loss/train": 30.0})
    resumed.close()
    assert points(read(tmp_path), "loss/train") == [(10, 10.0), (20, 20.0), (30, 30.0)]


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
