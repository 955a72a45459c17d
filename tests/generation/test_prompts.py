"""Prompts are read in order, and encoded as in training."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from toys import TOKENS, ToyRun, toy_run

from korlm.config import VocabConfig
from korlm.dataset.vocab import BOS_ID, EOS_ID, SPECIALS, UNK_ID, Vocab
from korlm.generation.prompts import ContextEncoder, banned_token_ids, read_prompts
from korlm.utils.errors import CorpusError


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "latin-1"))


def test_prompt_of_the_command_line() -> None:
    assert list(read_prompts(" 나는, ", None)) == [" 나는, "]
    assert list(read_prompts(None, None)) == [""]


LINES = "\ufeff나는 \r\n너는\t\n'우리는' ${x}".encode()


def test_lines_keep_their_spaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stdin(monkeypatch, LINES)
    (tmp_path / "a.txt").write_bytes(LINES)
    expected = ["나는 ", "너는\t", "'우리는' ${x}"]
    assert list(read_prompts(None, "-")) == expected
    assert list(read_prompts(None, str(tmp_path / "a.txt"))) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("나는\n \n너는\n".encode(), "line 2 is blank; remove it"),
        (b"", "is empty; put one prompt on each line"),
        ("나는\n너는".encode("cp949"), "is not utf-8"),
    ],
)
def test_invalid_prompts(
    data: bytes, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stdin(monkeypatch, data)
    (tmp_path / "a.txt").write_bytes(data)
    for path, name in (("-", "standard input"), (str(tmp_path / "a.txt"), "a.txt")):
        with pytest.raises(CorpusError, match=message) as caught:
            list(read_prompts(None, path))
        assert name in str(caught.value)


def test_standard_input_is_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "나는\n\n".encode())
    prompts = read_prompts(None, "-")
    assert next(prompts) == "나는"
    with pytest.raises(CorpusError):
        next(prompts)


def next_log_probs(run: ToyRun, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return run.model.log_probs(torch.tensor([ids]))[0][0, -1]


def ids_of(text: str) -> list[int]:
    return [TOKENS.index(token) for token in text.split()]


@pytest.mark.parametrize("text", ["", "도", "도 먹 고 ", "도 먹\n고", "도\n\n먹\n", "\n", " \n \n"])
@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
def test_context_of_a_text(text: str, start_id: int) -> None:
    run = toy_run(start_id=start_id)
    *earlier, last = text.split("\n")
    earlier_ids = [i for line in earlier if line.strip() for i in (*ids_of(line), EOS_ID)]
    if start_id == BOS_ID:
        earlier_ids = []
    encoder = ContextEncoder(run)
    context = encoder.encode(text)
    ids = [*earlier_ids, *ids_of(last)]
    torch.testing.assert_close(context.log_probs, next_log_probs(run, [start_id, *ids]))
    assert context.ids == tuple(ids)
    assert context.last_token == (last.split() or [""])[-1]
    assert context.state[0].shape[0] == 1


def test_earlier_lines_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ContextEncoder(toy_run())
    first = encoder.encode("도 먹\n고")
    lines: list[list[str]] = []
    original = encoder._tokenize
    monkeypatch.setattr(encoder, "_tokenize", lambda new: lines.append(new) or original(new))
    encoder.encode("도 먹\n고 하")
    assert torch.equal(encoder.encode("도 먹\n고").log_probs, first.log_probs)
    assert lines == [["고 하"], ["고"]]


def test_unknown_words() -> None:
    encoder = ContextEncoder(toy_run())
    context = encoder.encode("도 컴퓨터")
    assert context.ids[-1] == UNK_ID and context.last_token == "컴퓨터"


def test_the_encoder_has_a_copy_of_the_model() -> None:
    run = toy_run()
    encoder = ContextEncoder(run)
    before = encoder.encode("도").log_probs
    run.model.table.data.zero_()
    assert torch.equal(encoder.encode("도").log_probs, before)


@pytest.mark.parametrize(("numbers", "expected"), [(True, (0, 2, 1, 5)), (False, (0, 2, 1))])
def test_banned_token_ids(numbers: bool, expected: tuple[int, ...]) -> None:
    vocab = Vocab.restore(
        [*SPECIALS, "가", "<num>"], [1] * 6, VocabConfig(normalize_numbers=numbers)
    )
    assert banned_token_ids(vocab) == expected
