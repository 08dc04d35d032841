"""The dashboard in a real browser: Debian's chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from instar.engine.feedback_rows import check_rows
from instar.engine.loop import Loop
from instar.store.log import Pending
from tests.engine.agents import PROJECT, code_only
from tests.engine.dashboard_log import append, feedback, sample_log

pytest.importorskip("starlette", reason="the extra `dashboard` is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt install chromium"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_SERVE = (
    "import sys; from pathlib import Path; from instar.engine.dashboard import serve;"
    "serve(Path(sys.argv[1]), announce=lambda url: print(url, flush=True))"
)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    sample_log(tmp_path).close()
    with served(tmp_path) as url:
        yield url


@contextmanager
def served(root: Path) -> Iterator[str]:
    server = subprocess.Popen([sys.executable, "-c", _SERVE, str(root)], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait(60)
        server.stdout.close()


def test_empty_panel_is_not_stretched_to_the_height_of_its_neighbour(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    rows = [{"task_type": f"task {number}", "input": "x", "outcome": "fail"} for number in range(20)]
    runtime.log.transact(lambda _: [Pending(event) for event in check_rows(rows)])
    Loop(runtime).run_until_idle()
    runtime.close()
    with served(tmp_path / "agent") as url, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.wait_for_selector("#memory-empty:not([hidden])", timeout=20_000)
        assert "has no model" in page.locator("#memory-empty").inner_text()
        training, rewards = (page.locator(name).bounding_box() for name in (".training", ".rewards"))
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        browser.close()
    assert training["y"] == rewards["y"]
    assert training["height"] < rewards["height"] / 2


def test_page_is_live_and_talks_to_nobody_else(address: str, tmp_path: Path) -> None:
    from instar.store.log import EventLog

    said: list[str] = []
    asked: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        assert "token" not in page.url
        page.wait_for_selector("#live[data-live='on']", timeout=20_000)
        assert page.locator("#state .node.lit").first.get_attribute("data-state") == "Idle"
        assert page.locator("#events > li").count() >= 10
        page.wait_for_selector("#memory canvas, #map canvas, .memory canvas", timeout=20_000)
        page.wait_for_selector("#loss canvas", timeout=20_000)
        page.wait_for_selector("#heldout canvas", timeout=20_000)
        log = EventLog(tmp_path / ".instar" / "log.db")
        append(log, feedback(77))
        log.close()
        page.wait_for_selector("#events >> text=request 77", timeout=20_000)
        page.locator("#events >> text=request 77").first.click()
        page.wait_for_selector("#detail >> text=FeedbackReceived", timeout=20_000)
        page.set_viewport_size({"width": 400, "height": 800})
        # What is drawn follows the width of the window a moment later. `wait_for_function` evaluates a string in the
        # page, which the page's own security policy refuses as soon as the first look is not enough.
        last = time.monotonic() + 10
        while (wide := page.evaluate("document.documentElement.scrollWidth")) > 400 and time.monotonic() < last:
            page.wait_for_timeout(50)
        browser.close()
    assert said == []
    host = address.split("/?")[0]
    assert all(url.startswith((host, "data:", "blob:")) for url in asked), asked
    assert wide <= 400
