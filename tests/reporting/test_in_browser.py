"""The page in a real browser: no requests, no scripts, light and dark mode."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="needs playwright, of the extra test")
from playwright.sync_api import sync_playwright

from korlm.reporting.html import build_page, write_page
from korlm.reporting.run_summary import RunSummary
from korlm.runs.tensorboard_events import TensorBoardData

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
EVIL = "</title></style><script>document.title='taken'</script><img src=http://127.0.0.1:9/x>"


def test_no_requests_and_colors_follow_the_scheme(tmp_path: Path) -> None:
    curves = {"loss/train": [(1, 3.0), (2, 2.0)], "loss/valid": [(2, 2.0)]}
    run = RunSummary(
        EVIL, Path("a"), {"name": EVIL}, tensorboard=TensorBoardData(curves, (2, EVIL))
    )
    write_page(tmp_path / "한.html", build_page("두 실행", [run]))
    requested, inks = [], []
    with sync_playwright() as tools:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=options)
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme)
            page.on("request", lambda request: requested.append(request.url))
            page.goto((tmp_path / "한.html").as_uri())
            assert page.title() == "두 실행"
            assert page.locator("svg[role] path").count() > 10
            text = page.locator("svg[role] text").first
            inks.append(text.evaluate("node => getComputedStyle(node).fill"))
            assert page.locator("blockquote").inner_text() == EVIL
        browser.close()
    assert len(requested) == 2 and all(url.startswith("file:") for url in requested)
    assert inks == ["rgb(36, 38, 43)", "rgb(227, 229, 233)"]


def test_a_narrow_page_scrolls_charts_and_not_itself(tmp_path: Path) -> None:
    curves = {"loss/train": [(1, 3.0), (2, 2.0)], "loss/valid": [(2, 2.0)]}
    run = RunSummary("한", Path("a"), {}, tensorboard=TensorBoardData(curves))
    write_page(tmp_path / "page.html", build_page("실행", [run]))
    with sync_playwright() as tools:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto((tmp_path / "page.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator("svg[role]").first.evaluate("node => node.clientWidth") >= 600
        browser.close()
