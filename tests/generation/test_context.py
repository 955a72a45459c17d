"""Texts read by a run: the state is that of their tokens, earlier lines are read once."""

from __future__ import annotations

import pytest
import torch
from toys import TOKENS, ToyRun, toy_run

from korlm.config import VocabConfig
from korlm.dataset.vocab import BOS_ID, EOS_ID, SPECIALS, Vocab
from korlm.generation.context import ContextReader, banned_token_ids


def expected(run: ToyRun, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return run.model.log_probs(torch.tensor([ids]))[0][0, -1]


def ids_of(text: str) -> list[int]:
    return [TOKENS.index(token) for token in text.split()]


@pytest.mark.parametrize("text", ["", "도", "도 먹 고 ", "도 먹\n고", "도\n\n먹\n", "\n", " \n \n"])
@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
def test_reads_what_stands_there(text: str, start_id: int) -> None:
    run = toy_run(start_id=start_id)
    *earlier, last = text.split("\n")
    before = [i for line in earlier if line.strip() for i in (*ids_of(line), EOS_ID)]
    if start_id == BOS_ID:
        before = []
    with ContextReader(run) as reader:
        found = reader.read(text)
    torch.testing.assert_close(found.log_probs, expected(run, [start_id, *before, *ids_of(last)]))
    assert found.ids == (*before, *ids_of(last))
    assert found.left == ([*last.split(), ""] if not last.split() else last.split())[-1]
    assert found.state[0].shape[0] == 1


def test_earlier_lines_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = toy_run()
    with ContextReader(run) as reader:
        first = reader.read("도 먹\n고")
        read: list[list[str]] = []
        tokens = reader._tokens
        monkeypatch.setattr(reader, "_tokens", lambda lines: read.append(lines) or tokens(lines))
        reader.read("도 먹\n고 하")
        assert torch.equal(reader.read("도 먹\n고").log_probs, first.log_probs)
        assert read == [["고 하"], ["고"]]


def test_what_is_unknown_is_read_as_such() -> None:
    with ContextReader(toy_run()) as reader:
        found = reader.read("도 컴퓨터")
    assert found.ids[-1] == 1 and found.left == "컴퓨터"


def test_the_model_stays_as_it_was() -> None:
    run = toy_run()
    with ContextReader(run) as reader:
        before = reader.read("도").log_probs
        run.model.table.data.zero_()
        assert torch.equal(reader.read("도").log_probs, before)


def test_numbers_in_one_token_are_not_written() -> None:
    tokens = [*SPECIALS, "가", "<num>"]
    assert banned_token_ids(
        Vocab.restore(tokens, [1] * 6, VocabConfig(normalize_numbers=True))
    ) == (
        0,
        2,
        1,
        5,
    )
    assert banned_token_ids(Vocab.restore(tokens, [1] * 6, VocabConfig())) == (0, 2, 1)
