"""The plot is drawn for any corpus, without warnings (which are errors in tests)."""

from pathlib import Path

import pytest
from corpora import prepare_corpus, random_lines

from korlm.dataset.statistics.collect import collect
from korlm.dataset.statistics.plots import draw_frequencies


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        (["가 가"], ["가"]),
        (["가 가"], ["나"]),
        (["$x^ _a \x07 \ue123 \x07 \x07"] * 2, ["$x^"]),
        (random_lines(1, 500), random_lines(2, 50)),
    ],
    ids=["one type", "all unknown", "odd morphs", "larger"],
)
def test_any_corpus(tmp_path: Path, train: list[str], valid: list[str]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw_frequencies(folder / "a.png", *collect(prepare_corpus(tmp_path, train=train, valid=valid)))
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (folder / "a.png").stat().st_size > 10_000
    assert [path.name for path in folder.iterdir()] == ["a.png"]
