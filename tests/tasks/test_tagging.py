"""Tagging: tags, spans and spaces, from files to predictions."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import finish, make_settings
from tiny_runs import start as start_run

from korlm.api.runs import TaskRun
from korlm.config import (
    CorpusConfig,
    CorpusFormat,
    LSTMConfig,
    Quoting,
    TaggingConfig,
    TagHead,
    TagLabels,
    TagUnits,
    TokenizerConfig,
    TrainSettings,
    VocabConfig,
)
from korlm.dataset.example_batches import pad
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared
from korlm.dataset.vocab import PAD_ID
from korlm.detokenizers.alignment import token_spans
from korlm.tasks import tagging
from korlm.tasks.morpheme_tags import MorphemeTags, tags_of_tokens
from korlm.tasks.tag_examples import TaggedLine, find_units, read_lines, without_blanks
from korlm.tasks.tagger import NgramEmbedding, Tagger
from korlm.text.label_schemes import LabeledSpan, Scheme, spans_of
from korlm.tokenizers.analysis import Span
from korlm.tokenizers.base import SPACE_SYMBOL
from korlm.utils.errors import ConfigError, CorpusError, PreparedError

WORDS = {
    "나는": "N",
    "너는": "N",
    "집에": "N",
    "간다": "V",
    "잔다": "V",
    "참": "A",
    "잘": "A",
    ".": "S",
}
SENTENCES = [
    *("나는 집에 간다 .", "너는 참 잘 잔다 .", "나는 잘 간다 .", "잔다 .", "너는 집에 간다"),
    *("참 잘 간다 .", "나는 잔다 .", "너는 간다 .", "집에 간다 .", "나는 참 잘 잔다"),
]
NAMES = [
    "<홍길동:PS>이 <서울:LC>로",
    "<서울:LC>",
    "나는 <김 씨:PS>다",
    "없다",
    "<김 씨:PS><서울:LC>",
]


CONLL = {"format": CorpusFormat.conll, "label_column": "2"}
COPIES = 10  # of the text in train: many steps with few validations


def write(folder: Path, text: str, ending: str, copies: int = 1) -> dict[str, list[str]]:
    """Write a text as train, valid and test; return the settings of the corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split in ("train", "valid", "test"):
        path = folder / f"{split}{ending}"
        path.write_text("\n".join([text] * (copies if split == "train" else 1)), "utf-8")
        files[split] = [str(path)]
    return files


def prepare_text(
    folder: Path, text: str, ending: str = ".txt", copies: int = 1, **settings: Any
) -> Prepared:
    corpus = CorpusConfig(name="tiny", **write(folder, text, ending, copies), **settings)
    return prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), folder)


def conll_of_tags() -> str:
    sentences = ("".join(f"{w}\t{WORDS[w]}\n" for w in s.split()) for s in SENTENCES)
    return "\n".join(sentences)


def klue_of(sentence: str) -> str:
    """Return a sentence with <text:TYPE> as KLUE publishes it."""
    rows, label = [], ""
    at = 0
    while at < len(sentence):
        char = sentence[at]
        if char == "<":
            end = sentence.index(">", at)
            text, kind = sentence[at + 1 : end].split(":")
            rows += [f"{c}\t{'I' if i else 'B'}-{kind}" for i, c in enumerate(text)]
            at = end
        else:
            rows.append(f"{char}\t{label or 'O'}")
        at += 1
    return "\n".join([f"## id\t{sentence}", *rows, ""])


def tags(folder: Path) -> Prepared:
    return prepare_text(folder, conll_of_tags(), ".conll", COPIES, **CONLL)


def spans(folder: Path) -> Prepared:
    return prepare_text(folder, "\n".join(map(klue_of, NAMES * 2)), ".tsv", COPIES, **CONLL)


def spaces(folder: Path) -> Prepared:
    return prepare_text(folder, "\n".join([*SENTENCES, "", "", "나"]), copies=COPIES)


def settings_of(
    prepared: Prepared, labels: TagLabels, epochs: int = 1, **task: Any
) -> TrainSettings:
    config = TaggingConfig(name="tagging", labels=labels, **task)
    model = LSTMConfig(name="lstm", embedding_dim=16, hidden_dim=16, num_layers=1)
    return make_settings(prepared, {"epochs": epochs}, model=model, task=config)


def learn(
    prepared: Prepared, labels: TagLabels, folder: Path, epochs: int = 6, **task: Any
) -> TaskRun:
    finished = finish(settings_of(prepared, labels, epochs, **task), prepared, folder)
    assert all(metrics["f1"] == 1.0 for metrics in finished.splits.values())
    assert all(metrics["accuracy"] == 1.0 for metrics in finished.splits.values())
    return TaskRun.load(folder)


@pytest.mark.parametrize("head", TagHead)
@pytest.mark.parametrize("units", TagUnits)
def test_tags(head: TagHead, units: TagUnits, tmp_path: Path) -> None:
    run = learn(tags(tmp_path), TagLabels.tags, tmp_path / "run", head=head, units=units)
    text = "나는 집에\t간다 ."
    (row,) = run.predict([text])
    parts = [(part["text"], part["label"]) for part in row["labels"]]
    if units is TagUnits.eojeol:
        assert parts == [("나는", "N"), ("집에", "N"), ("간다", "V"), (".", "S")]
    else:
        assert parts == [(c, t) for c, t in zip("나는집에간다.", "NNNNVVS", strict=True)]
    assert all(text[part["begin"] : part["end"]] == part["text"] for part in row["labels"])
    assert all(0.2 < part["probability"] <= 1 for part in row["labels"])


@pytest.mark.parametrize("scheme", Scheme)
def test_probabilities_of_spans(scheme: Scheme, tmp_path: Path) -> None:
    """Against the sum over all label sequences with the span."""
    prepared = spans(tmp_path)
    finish(settings_of(prepared, TagLabels.spans, 1, scheme=scheme), prepared, tmp_path / "run")
    run = TaskRun.load(tmp_path / "run")
    model = run.model
    assert isinstance(model, Tagger) and model.crf is not None
    texts = ["홍길동", "서울로", "김씨", "서", "울서울"]
    num_spans = 0
    for text, row in zip(texts, run.predict(texts), strict=True):
        with run.text_encoder() as text_encoder:
            (ids,) = text_encoder.read_texts([text]).lines()
        is_unit = torch.tensor([[True] * len(text) + [False]])
        scores, counts = model(torch.tensor(np.array([ids], dtype=np.int64)), None, is_unit)
        sums: dict[tuple[int, int, str], float] = {}
        for labels in itertools.product(range(len(run.labels)), repeat=len(text)):
            log_prob = -float(model.nll(scores, torch.tensor([labels]), counts).detach())
            for span in spans_of([run.labels[index] for index in labels], scheme):
                sums[tuple(span)] = sums.get(tuple(span), 0.0) + math.exp(log_prob)
        for part in row["labels"]:
            expected = sums[part["begin"], part["end"], part["label"]]
            assert part["probability"] == pytest.approx(expected, abs=1e-4)
            num_spans += 1
    assert num_spans >= 2


def test_ngrams() -> None:
    ngrams = NgramEmbedding([2, 3], dim=1, num_buckets=1 << 20, dropout=0.5)
    assert not ngrams(torch.tensor([[4, 5]])).any()  # unseen ones
    torch.nn.init.normal_(ngrams.table.weight)
    ngrams.eval()
    ids = torch.tensor([[4, 5, 6], [9, 5, 6], [4, 5, PAD_ID]])
    features = ngrams(ids)
    assert features.shape == (3, 3, ngrams.output_dim) == (3, 3, 4)
    ends2, begins2, ends3, begins3 = features.unbind(-1)
    assert ends2[0, 2] == ends2[1, 2] == begins2[0, 1] and ends2[0, 1] != ends2[1, 1]
    assert ends3[0, 2] == begins3[0, 0] != begins3[1, 0] and begins3[0, 1] == begins3[1, 1]
    torch.testing.assert_close(ngrams(ids[2:, :2]), features[2:, :2])  # padding changes nothing
    ngrams.train()
    dropped = ngrams(ids)
    assert ((dropped == 0) | (dropped == 2 * features)).all() and (dropped == 0).any()


@pytest.mark.parametrize("scheme", [Scheme.bio, Scheme.bioes])
def test_spans(scheme: Scheme, tmp_path: Path) -> None:
    prepared = spans(tmp_path)
    run = learn(prepared, TagLabels.spans, tmp_path / "run", scheme=scheme, ngram_dim=8)
    rows = run.predict(["홍길동이 서울로", "", "김 씨서울", "없다"])
    assert [[(p["begin"], p["end"], p["label"]) for p in row["labels"]] for row in rows] == [
        [(0, 3, "PS"), (5, 7, "LC")],
        [],
        [(0, 3, "PS"), (3, 5, "LC")],
        [],
    ]
    session = start_run(settings_of(prepared, TagLabels.spans), prepared, tmp_path / "other")
    metrics = session.task.evaluate(session.model, "valid")
    assert {"f1_PS", "f1_LC", "precision", "recall", "loss"} <= metrics.keys()
    assert "accuracy_unknown" not in metrics  # valid is train
    assert "홍" in session.task.samples(session.model)["samples"]


def test_tags_of_kkma(tmp_path: Path) -> None:
    texts = ["나는 갔다.", "", "  나는 갔다."]
    tags = list(MorphemeTags().of(texts))
    assert [len(numbers) for numbers in tags] == [len(text) for text in texts]
    first, topic, blank, verb, *_ = tags[0]
    assert first == tags[2][2] > 0 and topic not in (0, first) and blank == tags[2][0] == 0
    parts = [Span(0, 1), Span(1, 2), Span(2, 2), Span(3, 6)]
    assert tags_of_tokens(tags[0], parts).tolist() == [first, topic, 0, verb, 0]

    prepared = spans(tmp_path)
    features = {"kkma_dim": 4, "linear_buckets": 1 << 12}
    run = learn(prepared, TagLabels.spans, tmp_path / "run", **features)
    texts = ["홍길동이 서울로", "", "없다"]
    together = run.predict(texts)
    assert [[part["label"] for part in row["labels"]] for row in together] == [["PS", "LC"], [], []]
    assert run.predict(texts[::-1])[::-1] == together
    with pytest.raises(ConfigError, match=r"task.kkma_dim=4: must be 0"):
        TaggingConfig("tagging", labels=TagLabels.spaces, kkma_dim=4)


def test_spaces(tmp_path: Path) -> None:
    run = learn(spaces(tmp_path), TagLabels.spaces, tmp_path / "run", head=TagHead.softmax)
    texts = ["나는집에간다.", "너는 참잘 잔다 .", "", "나", "abcd  efg\t", "나는ABCD나는간다 "]
    spaced = [row["spaced"] for row in run.predict(texts)]
    assert spaced[:5] == ["나는 집에 간다 .", "너는 참 잘 잔다 .", *texts[2:5]]
    assert "ABCD" in spaced[5] and "".join(spaced[5].split()) == texts[5].strip()
    assert spaced[5].endswith(" ")
    # The text is not changed, here jamo with an invisible character.
    text = "\u1102\u1161\u1102\u1173\u11ab\u200b잔다 ."
    assert run.predict([text])[0]["spaced"] == text.replace("\u200b", "\u200b ")


def test_samples_have_spaces_where_predictions_may_have_them(tmp_path: Path) -> None:
    prepared = spaces(tmp_path)
    settings = settings_of(prepared, TagLabels.spaces, head=TagHead.softmax)
    session = start_run(settings, prepared, tmp_path / "run")
    assert isinstance(session.model, Tagger)
    with torch.no_grad():
        session.model.output.bias[1] += 100  # a space before every character
    samples = session.task.samples(session.model)["samples"].split("\n\n")
    assert samples[0] == "나 는 집 에 간 다 ." and samples[3] == "잔 다 ."


@pytest.mark.parametrize("head", TagHead)
@pytest.mark.parametrize(
    "options",
    [
        *({}, {"ngram_dim": 4}, {"bidirectional": False}),
        {"linear_buckets": 99},
    ],
    ids=str,
)
def test_padding_changes_nothing(head: TagHead, options: Any, tmp_path: Path) -> None:
    prepared = tags(tmp_path)
    task = {"head": head, "units": TagUnits.eojeol, **options}
    session = start_run(settings_of(prepared, TagLabels.tags, **task), prepared, tmp_path / "run")
    model = session.model.eval()
    assert isinstance(model, Tagger)
    if model.ngrams is not None:  # they are 0
        torch.nn.init.normal_(model.ngrams.table.weight)
    if model.linear is not None:
        torch.nn.init.normal_(model.linear.table.weight)
    sequences = [np.array([4, 5, 6, 7, 3]), np.array([8, 3]), np.array([4, 9, 3])]
    units = [[0, 1, 0, 1, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]
    inputs, lengths = pad(sequences)
    together, counts = model(inputs, lengths, torch.tensor(units).bool())
    assert counts.tolist() == [2, 1, 2]
    targets = torch.tensor([[0, 1], [2, 0], [1, 1]])
    total = 0.0
    for row, ids in enumerate(sequences):
        inputs, lengths = pad([ids])
        alone, count = model(inputs, lengths, torch.tensor([units[row][: len(ids)]]).bool())
        torch.testing.assert_close(together[row, : counts[row]], alone[0, : count[0]])
        total += float(model.nll(alone, targets[row : row + 1, : count[0]], count).detach())
    assert float(model.nll(together, targets, counts).detach()) == pytest.approx(total)


def test_linear_features_of_many_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging, "MANY_WEIGHTS", 100)
    prepared = prepare_text(tmp_path, "가\tA\n나\tB\n", ".conll", **CONLL)
    settings = settings_of(prepared, TagLabels.tags, linear_buckets=64)
    (hint,) = start_run(settings, prepared, tmp_path / "run").task.warnings(1)
    assert hint.startswith("task.linear_buckets=64 makes 128 weights for 2 labels")


def test_labels_that_train_lacks(tmp_path: Path) -> None:
    """A tag counts as an error, a type of spans is one."""
    files = write(tmp_path, "가\tA\n나\tB\n", ".conll")
    Path(files["valid"][0]).write_text("가\tA\n나\tC\n\n다\tA\n", "utf-8")
    corpus = CorpusConfig(name="tiny", **files, **CONLL)
    prepared = prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), tmp_path)
    for head in TagHead:
        settings = settings_of(prepared, TagLabels.tags, head=head)
        session = start_run(settings, prepared, tmp_path / head.value)
        metrics = session.task.evaluate(session.model, "valid")
        assert metrics["accuracy"] < 1 and metrics["num_labels"] == 3 and metrics["loss"] > 0
        assert 0 <= metrics["accuracy_unknown"] <= 1
        with torch.inference_mode():
            counts = [part for _, part in session.task.example_counts(session.model, "valid")]
        nll = np.concatenate(counts)[:, 0].sum()  # of the second line, which has one label
        assert metrics["loss"] == pytest.approx(nll)
        assert "1 units of valid or test have labels" in session.task.warnings(1)[0]
    Path(files["valid"][0]).write_text("가\tB-C\n", "utf-8")
    Path(files["train"][0]).write_text("가\tB-A\n나\tO\n", "utf-8")
    Path(files["test"][0]).write_text("가\tB-A\n나\tO\n", "utf-8")
    prepared = prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), tmp_path / "b")
    with pytest.raises(CorpusError, match="valid has a span of type 'C' in '가', which does not"):
        start_run(settings_of(prepared, TagLabels.spans), prepared, tmp_path / "other")


def test_errors(tmp_path: Path) -> None:
    prepared = spaces(tmp_path / "a")
    settings = settings_of(prepared, TagLabels.spaces)
    with pytest.raises(PreparedError, match="has no labels"):
        start_run(settings_of(prepared, TagLabels.tags), prepared, tmp_path / "run")
    eojeol = dataclasses.replace(settings, tokenizer=TokenizerConfig(name="eojeol"))
    with pytest.raises(ConfigError, match="give tokenizer=syllable"):
        start_run(eojeol, prepared, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"task.units=eojeol: must be token"):
        TaggingConfig(name="tagging", labels=TagLabels.spaces, units=TagUnits.eojeol)
    prepared = prepare_text(tmp_path / "b", "가\n나\n")
    with pytest.raises(CorpusError, match="has no spaces"):
        start_run(settings_of(prepared, TagLabels.spaces), prepared, tmp_path / "run")
    prepared = spans(tmp_path / "c")
    with pytest.raises(CorpusError, match=r"has no label for .*task.labels=spans"):
        start_run(settings_of(prepared, TagLabels.tags), prepared, tmp_path / "run")
    malformed = ["A", "[" * 100_000, "{}", '[[0.0,1,"A"]]', '[[0,0.5,"A"]]', '[[0,true,"A"]]']
    for number, label in enumerate(malformed):
        table = f"text\tlabel\n가\t{label}\n나\tB\n"
        settings = {"label_column": "label", "quoting": Quoting.none}
        prepared = prepare_text(tmp_path / f"malformed{number}", table, ".tsv", **settings)
        with pytest.raises(CorpusError, match=r"line 1 of train has the label '.*, not a list of"):
            read_lines(prepared, "train", TaggingConfig("tagging", labels=TagLabels.spans), None)
    prepared = prepare_text(tmp_path / "e", "가\tA\n", ".conll", label_column="2")
    with pytest.raises(CorpusError, match=r"same label \(A\)"):
        start_run(settings_of(prepared, TagLabels.tags), prepared, tmp_path / "run")


def test_blank_lines_have_no_labels(tmp_path: Path) -> None:
    table = 'text\tlabel\n가\t[[0,1,"A"]]\n \t[]\n나다\t[[0,2,"B"]]\n라\t[[0,1,"C"]]\n'
    prepared = prepare_text(tmp_path, table, ".tsv", label_column="label", quoting=Quoting.none)
    config = TaggingConfig("tagging", labels=TagLabels.spans)
    lines = read_lines(prepared, "train", config, None)
    assert [(line.text, line.spans) for line in lines] == [
        ("가", [LabeledSpan(0, 1, "A")]),
        ("나다", [LabeledSpan(0, 2, "B")]),
        ("라", [LabeledSpan(0, 1, "C")]),
    ]


def test_a_tag_is_made_of_the_labels_that_a_unit_overlaps(tmp_path: Path) -> None:
    """Labels may be nested: one that has ended is left out, although an outer one goes on."""
    table = 'text\tlabel\n가 나 다\t[[0,5,"A"],[2,3,"B"]]\n'
    prepared = prepare_text(tmp_path, table, ".tsv", label_column="label", quoting=Quoting.none)
    config = TaggingConfig("tagging", labels=TagLabels.tags, units=TagUnits.eojeol)
    (line,) = read_lines(prepared, "train", config, None)
    assert line.tags == ["A", "A+B", "A"]


def test_units() -> None:
    text, tokens = "갔다 .", ["가", "았", "다", "."]
    eojeol = [0, 0, 0, 1]
    spans = token_spans(text, tokens, eojeol)
    mask, units = find_units(text, spans, eojeol, TagUnits.token)
    assert mask.tolist() == [True, True, True, True, False]
    assert units == [(0, 1), (0, 1), (1, 2), (3, 4)]
    mask, units = find_units(text, spans, eojeol, TagUnits.eojeol)
    assert mask.tolist() == [False, False, True, True, False] and units == [(0, 2), (3, 4)]
    spans = token_spans(text, ["갔", "다", "▁", "."], eojeol)
    mask, units = find_units(text, spans, eojeol, TagUnits.eojeol)
    assert mask.tolist() == [False, True, False, True, False] and units == [(0, 2), (3, 4)]


@pytest.mark.parametrize("kind", TagUnits)
def test_a_line_without_units(kind: TagUnits) -> None:
    """The syllable tokenizer reads its symbol of a space as a token without characters."""
    mask, units = find_units(SPACE_SYMBOL, [Span(0, 0)], [0], kind)
    assert mask.tolist() == [False, False] and units == []


@pytest.mark.parametrize("units", TagUnits)
def test_prediction_of_a_line_without_units(units: TagUnits, tmp_path: Path) -> None:
    prepared = tags(tmp_path)
    finish(settings_of(prepared, TagLabels.tags, units=units), prepared, tmp_path / "run")
    run = TaskRun.load(tmp_path / "run")
    texts = [SPACE_SYMBOL, "나는 간다"]
    assert [bool(row["labels"]) for row in run.predict(texts)] == [False, True]
    assert [row["labels"] for row in run.predict([SPACE_SYMBOL])] == [[]]


def test_spans_of_units() -> None:
    """A span takes the units that it overlaps; a unit belongs to one span."""
    units = [Span(0, 2), Span(2, 3), Span(4, 6)]
    gold = [LabeledSpan(0, 1, "A"), LabeledSpan(1, 3, "B"), LabeledSpan(3, 4, "C")]
    line = TaggedLine("가나다 라마", np.array([4]), np.array([True]), units, spans=gold)
    assert line.unit_spans() == [LabeledSpan(0, 1, "A"), LabeledSpan(1, 2, "B")]
    assert line.char_spans([LabeledSpan(1, 3, "A")]) == [LabeledSpan(2, 6, "A")]


def test_without_blanks() -> None:
    lines = without_blanks(np.array([4, 3, 4, 4, 5, 4, 3]), 4)  # blank tokens at both ends
    assert [line.tolist() for line in lines.sequences] == [[5, 3]]
    assert [line.tolist() for line in lines.is_spaced] == [[False, False]]
