"""Names are drawn in a font that has their letters, or replaced by numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from korlm.utils import plotting

pytestmark = pytest.mark.usefixtures("fresh_fonts")


def test_without_a_font_numbers_stand_for_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    latin = [e for e in font_manager.fontManager.ttflist if e.name == plotting.LATIN]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", latin)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)  # none is installed
    with caplog.at_level("INFO"):
        names = plotting.labels(["a.txt", "글.txt", "b"], "document")
        assert plotting.labels(["글", "말"], "token") == ["token 1", "token 2"]
    assert names == ["a.txt", "document 2", "b"]
    assert caplog.text.count("no font for some names in plots") == 1


def test_hangul_is_drawn_where_there_is_a_font() -> None:
    there = {entry.name for entry in font_manager.fontManager.ttflist}
    if not there & set(plotting.HANGUL):
        pytest.skip("no font with Hangul is installed")
    assert plotting.labels(["글.txt"], "document") == ["글.txt"]


def test_a_font_that_is_newer_than_matplotlibs_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The font list names a font whose file was deleted, and not the one installed since."""
    latin = [e for e in font_manager.fontManager.ttflist if e.name == plotting.LATIN]
    path = latin[0].fname
    deleted = font_manager.FontEntry(fname="/gone.ttf", name="NanumGothic")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [deleted])
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["/no font.ttf", path])
    monkeypatch.setattr(plotting, "HANGUL", ("NanumGothic", plotting.LATIN))
    assert plotting.fonts() == [plotting.LATIN, plotting.LATIN]
    assert path in [entry.fname for entry in font_manager.fontManager.ttflist]


def test_long_and_odd_names() -> None:
    assert plotting.labels(["_a", "$x^$"], "row") == [" _a", r"\$x^\$"]
    (short,) = plotting.labels(["folder/" * 9 + "end"], "row")
    assert short.startswith("…") and short.endswith("folder/end")
    assert len(short) == plotting.MAX_LABEL


def test_a_picture_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    with plotting.styled():
        plotting.save(Figure(), path)
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG") and list(tmp_path.iterdir()) == [path]

    def broken(*args: object, **options: object) -> None:
        raise OSError("no space left")

    figure = Figure()
    monkeypatch.setattr(figure, "savefig", broken)
    with pytest.raises(OSError, match="no space"):
        plotting.save(figure, path)
    assert path.read_bytes() == before
