"""The page in a real browser: typing, completion, surprisal colors, generation."""

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="serving needs it")
pytest.importorskip("playwright", reason="needs playwright, of the extra test")
import itertools

from local_server import Client, Echo, EchoTask, served
from playwright.sync_api import Page, expect, sync_playwright

from korlm.generation.generator import StoppingCriteria
from korlm.generation.sampling import Sampling

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
expect.set_options(timeout=60_000)  # for machines that are busy


class FakeEngine(Echo):
    """An engine with fixed answers."""

    def complete(self, text: str, num_completions: int) -> dict:
        ends = {"먹ㅇ": ["먹어", "먹을"], "먹어 ": ["<b>봐</b>"]}.get(text, [])
        return {"completions": [{"eojeol": e, "probability": 0.25} for e in ends]}

    def surprisal(self, text: str) -> dict:
        tokens = [
            {"morph": "먹", "tag": "VV", "eojeol": 0, "surprisal": 3.25, "unknown": False},
            {"morph": "어", "tag": "ECS", "eojeol": 0, "surprisal": None, "unknown": True},
        ]
        return {"lines": [{"tokens": tokens, "bits": None}] if text else []}

    def generate(
        self, prompt: str, sampling: Sampling, stopping: StoppingCriteria, seed: int
    ) -> Iterator[str]:
        yield f"{prompt} 봤다 ({sampling.temperature}"
        yield f", {seed})"


class FakeTask(EchoTask):
    """An engine with fixed predictions."""

    def predict(self, text: str) -> dict:
        position = {"begin": 1, "end": 4, "text": "홍길동"}
        part = position | {"label": "<b>PS</b>", "probability": 0.875}
        rows = {
            "좋다": {"label": "긍정", "probability": 0.75, "p_부정": 0.25, "p_긍정": 0.75},
            "😀홍길동이 온다": {"labels": [part]},
            "참좋다": {"spaced": "참 좋다"},
            "rome": {"prediction": "로마", "log_prob": -0.5},
        }
        return {"predictions": [rows.get(line, {"label": ""}) for line in text.split("\n")]}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with opened(FakeEngine()) as page:
        yield page


def test_the_page_of_a_task() -> None:
    with opened(FakeTask()) as page:
        page.goto(page.home)
        expect(page.locator("#labels")).to_have_text("라벨 (labels): 가, 나")
        page.locator("#text").fill("좋다\n\n😀홍길동이 온다\n참좋다\nrome")
        expect(page.locator(".prediction")).to_have_count(4)
        expect(page.locator(".class span")).to_have_text(["긍정", "부정"])
        expect(page.locator(".class small")).to_have_text(["75.0 %", "25.0 %"])
        expect(page.locator(".marked")).to_have_text("😀홍길동<b>PS</b>이 온다")
        expect(page.locator(".part")).to_have_attribute("title", "87.5 %")
        expect(page.locator(".written")).to_have_text(["참 좋다", "로마"])
        expect(page.locator(".inserted")).to_have_count(1)
        widths = page.locator(".class i").evaluate_all("all => all.map(one => one.offsetWidth)")
        assert widths[0] == pytest.approx(3 * widths[1], abs=3)


class BlockedEngine(FakeEngine):
    """An engine that completes nothing until it is released, and then by the text."""

    def __init__(self) -> None:
        self.completed: list[str] = []
        self.released = threading.Event()

    def complete(self, text: str, num_completions: int) -> dict:
        self.completed.append(text)
        self.released.wait(60)
        return {"completions": [{"eojeol": f"{text}!", "probability": 1.0}]}


# Records when the page sends requests, by its own clock: the server may be slow.
RECORD_REQUESTS = """
window.sent = [];
const original = window.fetch;
window.fetch = (url, options) => {
  if (url === "/api/complete") window.sent.push(performance.now());
  return original(url, options);
};
"""


def test_fast_typing_shows_no_error_and_the_completions_of_the_last_key() -> None:
    engine, keys = BlockedEngine(), "가나다라마바사아자차" * 4
    with opened(engine, max_queue=100) as page:
        page.add_init_script(RECORD_REQUESTS)
        page.goto(page.home)
        expect(page.locator("#info")).to_have_text("메아리")
        page.locator("#text").press_sequentially(keys, delay=20)
        expect(page.locator("#completions")).to_have_class("stale")
        engine.released.set()
        expect(page.locator("#completions span")).to_have_text([f"{keys}!"])
        expect(page.locator("#completions")).not_to_have_class("stale")
        expect(page.locator("#error")).to_be_hidden()
        sent = page.evaluate("sent")
    gaps = [after - before for before, after in itertools.pairwise(sent)]
    assert min(gaps) > 50  # below the server's default rate, 20 per second
    assert len(engine.completed) < len(keys)  # requests of earlier keys were cancelled
    assert engine.completed[-1] == keys


class EndlessEngine(FakeEngine):
    """An engine that writes until the client has gone."""

    def generate(
        self, prompt: str, sampling: Sampling, stopping: StoppingCriteria, seed: int
    ) -> Iterator[str]:
        while True:
            time.sleep(0.01)
            yield "가"


def test_a_generation_can_be_stopped() -> None:
    with opened(EndlessEngine()) as page:
        page.goto(page.home)
        expect(page.locator("#stop")).to_be_hidden()
        page.locator("#write").click()
        expect(page.locator("#sample")).to_contain_text("가가")
        page.locator("#stop").click()
        expect(page.locator("#stop")).to_be_hidden()
        expect(page.locator("#error")).to_be_hidden()
        page.locator("#text").fill("먹ㅇ")  # the model is free again
        expect(page.locator("#completions span")).to_have_text(["먹어", "먹을"])


def test_an_unreachable_server_is_an_understandable_error(page: Page, text) -> None:
    page.route("**/api/*", lambda route: route.abort("connectionrefused"))
    text.fill("먹ㅇ")
    message = "서버에 연결할 수 없습니다 (no connection to the server)"
    expect(page.locator("#error")).to_have_text(message)
    page.unroute("**/api/*")
    text.fill("먹어")
    expect(page.locator("#error")).to_be_hidden()


def test_escape_closes_the_completions_so_that_tab_leaves_the_field(page: Page, text) -> None:
    text.press_sequentially("먹ㅇ")
    expect(page.locator("#completions span")).to_have_count(2)
    text.press("Escape")
    expect(page.locator("#completions span")).to_have_count(0)
    text.press("Tab")
    expect(page.locator("#temperature")).to_be_focused()
    expect(text).to_have_value("먹ㅇ")


@pytest.mark.parametrize("width", [390, 1200])
def test_long_eojeols_stay_within_the_page(page: Page, text, width: int) -> None:
    token = {"morph": "<", "tag": "", "eojeol": 0, "surprisal": 10.55, "unknown": False}
    long_token = token | {"morph": "가" * 300, "eojeol": 1}
    lines = [{"tokens": [token] * 300 + [long_token], "bits": 3000.0}]
    page.route("**/api/surprisal", lambda route: route.fulfill(json={"lines": lines}))
    page.set_viewport_size({"width": width, "height": 800})
    text.fill("먹어")
    expect(page.locator(".morph")).to_have_count(301)
    page.unroute("**/api/surprisal")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # Numbers below neighbouring tokens do not overlap.
    is_wide = "all => all.every(one => one.scrollWidth <= one.clientWidth)"
    assert page.locator(".morph b").evaluate_all(is_wide)


def test_an_error_leaves_no_stale_completions(page: Page, text) -> None:
    text.press_sequentially("먹ㅇ")
    expect(page.locator("#completions span")).to_have_count(2)
    page.route("**/api/complete", lambda route: route.fulfill(status=503, json={"error": "busy"}))
    text.press_sequentially("ㅇ")
    expect(page.locator("#error")).to_have_text("busy")
    expect(page.locator("#completions span")).to_have_count(0)
    page.unroute("**/api/complete")
    text.fill("먹ㅇ")
    expect(page.locator("#completions span")).to_have_count(2)
    expect(page.locator("#error")).to_be_hidden()


@contextlib.contextmanager
def opened(engine: Echo | EchoTask, **settings: int) -> Iterator[Page]:
    """Yield a page in a browser."""
    limits = {"max_chars": 50, "burst": 1000, **settings}
    with served(engine, **limits) as client, sync_playwright() as tools:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page()
        page.requested = []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("pageerror", lambda error: page.requested.append(f"error: {error}"))
        page.home = home_of(client)
        yield page
        browser.close()
    # In all tests: no external request and no script error.
    assert page.requested
    assert not [url for url in page.requested if not url.startswith((page.home, "data:,"))]


def home_of(client: Client) -> str:
    return f"http://127.0.0.1:{client.port}/"


@pytest.fixture
def text(page: Page):
    """Return the text field of a newly loaded page."""
    page.goto(page.home)
    expect(page.locator("#info")).to_have_text("메아리")
    return page.locator("#text")


def test_a_completion_is_accepted_by_click(page: Page, text) -> None:
    text.press_sequentially("먹ㅇ")
    expect(page.locator("#completions span")).to_have_text(["먹어", "먹을"])
    expect(page.locator("#completions small")).to_have_text(["25.0 %", "25.0 %"])
    page.locator("#completions button").nth(1).click()
    expect(text).to_have_value("먹을 ")


def test_completions_are_accepted_by_keys_and_markup_is_text(page: Page, text) -> None:
    text.press_sequentially("먹ㅇ")
    expect(page.locator("#completions span")).to_have_count(2)
    text.press("Alt+2")
    expect(text).to_have_value("먹을 ")
    text.fill("먹ㅇ")
    expect(page.locator("#completions span")).to_have_count(2)
    text.press("Tab")
    expect(text).to_have_value("먹어 ")
    expect(page.locator("#completions span")).to_have_text(["<b>봐</b>"])


def test_only_the_eojeol_at_the_cursor_is_replaced(page: Page, text) -> None:
    text.fill("먹ㅇ 말")
    text.evaluate("field => field.setSelectionRange(2, 2)")
    text.dispatch_event("input")
    expect(page.locator("#completions span")).to_have_count(2)
    page.locator("#completions button").first.click()
    expect(text).to_have_value("먹어  말")


def test_surprisal_colors(page: Page, text) -> None:
    text.fill("먹어")
    morphs = page.locator(".morph")
    expect(morphs).to_have_text(["먹3.3", "어∞"])
    expect(morphs.nth(1)).to_have_class("morph unknown")
    expect(page.locator(".end")).to_have_text("= ∞ bits")
    colors = morphs.evaluate_all("all => all.map(one => getComputedStyle(one).backgroundColor)")
    assert colors[0] != colors[1]


def test_generation(page: Page, text) -> None:
    text.fill("먹어")
    page.locator("#temperature").fill("0.5")
    page.locator("#seed").fill("7")
    page.locator("#write").click()
    expect(page.locator("#sample")).to_have_text("먹어 봤다 (0.5, 7)")
    expect(page.locator("#seed")).to_have_value("8")
    expect(page.locator("#stop")).to_be_hidden()


def test_errors_are_shown(page: Page, text) -> None:
    text.evaluate("field => { field.removeAttribute('maxlength'); field.value = '가'.repeat(60) }")
    text.dispatch_event("input")
    message = "text: 60 characters, at most 50 (max_chars)"
    expect(page.locator("#error")).to_have_text(message)
    text.fill("먹어")
    expect(page.locator("#error")).to_be_hidden()


@pytest.mark.parametrize("body", ["<html>", "{}"])
def test_errors_of_a_proxy_are_shown(page: Page, text, body: str) -> None:
    page.route("**/api/complete", lambda route: route.fulfill(status=502, body=body))
    text.fill("먹ㅇ")
    expect(page.locator("#error")).to_have_text("502 Bad Gateway")
    page.unroute("**/api/complete")


def test_completions_of_another_cursor_position_are_not_accepted(page: Page, text) -> None:
    text.fill("말 먹ㅇ")
    text.evaluate("field => field.setSelectionRange(1, 1)")
    text.press("Tab")  # before the new completions arrive
    expect(text).to_have_value("말 먹ㅇ")
