"""The studio in a real browser: the whole road on a text model and a model of pictures, without a
fault that axe-core finds, an error of a script, or a request to anywhere else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import walk_playing
import walk_training
from morphogen.records import open as records_at
from morphogen.serve.settings import Settings
from small_models import answering
from test_serve import Running, indexed, pictures

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
PASSWORD = "correct horse battery"
PHONE = {"width": 390, "height": 800}
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    answering("yours", length=1024).save(tmp_path / "models" / "talker")
    pictures().save(tmp_path / "models" / "digits")
    walk_playing.add_models(tmp_path / "models")
    data = walk_training.with_a_broken_one(walk_training.pictures_of_two_classes(tmp_path / "data"))
    with records_at(tmp_path / "records.db", key=bytes(32)) as records:
        records.users.add("ann", "administrator", password=PASSWORD)
        settings = Settings(
            models=tmp_path / "models", data=(data,), indexes=indexed(tmp_path).parent, port=0,
            threads=1, rate=None,
        )  # fmt: skip
        with Running(settings, records) as running:
            yield running


class Walk:
    """A browser, and what went wrong in it."""

    def __init__(self, browser: Any, url: str) -> None:
        self.page = browser.new_page(base_url=url)
        self.page.set_default_timeout(60_000)
        self.wrong: list[str] = []
        self.page.on("console", lambda said: self._note(said.type, said.text))
        self.page.on("pageerror", lambda error: self._note("error", str(error)))
        self.page.on("request", lambda asked: self._asked(asked.url, url))

    def look(self) -> None:
        """At a page in both lights, and on a phone. Of the dark one its colours tell all that the
        light one did not."""
        wide = self.page.viewport_size
        self.page.evaluate(axe.Axe().axe_script)
        for light, rules in (("dark", COLOURS), ("light", {})):
            self.page.emulate_media(color_scheme=light)
            options = {"iframes": False, "resultTypes": ["violations"], **rules}
            found = self.page.evaluate("options => axe.run(options)", options)
            faults = [f"{each['id']}: {each['nodes'][0]['html']}" for each in found["violations"]]
            assert not faults, f"{self.page.url} {light}"
        self.page.set_viewport_size(PHONE)
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{self.page.url} is wider than a phone"
        self.page.set_viewport_size(wide)

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.wrong.append(text)

    def _asked(self, address: str, url: str) -> None:
        if not address.startswith((url, "data:")):
            self.wrong.append(f"a request to {address}")


def test_the_whole_road(running: Running) -> None:
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *walk_playing.MICROPHONE]
        )
        walk = Walk(browser, running.url)
        sign_in(walk)
        converse(walk)
        rate(walk)
        ask_documents(walk)
        draw(walk)
        walk_playing.go_between(walk)
        walk_playing.choose_a_place(walk)
        walk_playing.paint(walk)
        walk_playing.stand_beside(walk)
        walk_playing.vote(walk)
        if walk_playing.WHISPER.is_dir():
            walk_playing.speak(walk)
        walk_training.look_at_data(walk)
        walk_training.train(walk)
        for path in ("/", "/models/digits", "/compare", "/agents", "/people", "/audit"):
            walk.page.goto(path)
            walk.look()
        assert walk.wrong == []
        here = running.serving
        with Running(here.settings, here.records) as other:
            after = Walk(browser, other.url)
            sign_in(after)
            walk_training.stop(after.page)
            assert after.wrong == []
        browser.close()


def sign_in(walk: Walk) -> None:
    page = walk.page
    page.goto("/sign-in")
    walk.look()
    page.keyboard.type("ann")  # the name has the focus
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=ann, administrator")


def converse(walk: Walk) -> None:
    page = walk.page
    page.goto("/play/talker?temperature=0")  # always the same words
    page.fill("#text", "Is it <b>so</b>?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("[data-again]")
    page.fill("#text", "Really?")
    page.click("[data-send]")
    page.wait_for_selector(".turn:nth-of-type(4) [data-again]")
    page.click(".turn:nth-of-type(3) [data-edit]")
    page.fill(".turn textarea", "Surely?")
    page.click("text=Send as a branch")
    page.wait_for_selector("text=2 of 2")
    page.click("[aria-label='The branch before']")
    page.wait_for_selector("text=1 of 2")
    turns = page.locator(".turn .said").all_inner_texts()
    assert turns == ["Is it <b>so</b>?", "yours", "Really?", "yours"]
    page.fill("#f-seed", "7")
    page.keyboard.press("Tab")
    assert "seed=7" in page.url
    walk.look()
    page.go_back()
    page.wait_for_selector("text=Surely?")


def rate(walk: Walk) -> None:
    page = walk.page
    page.goto("/records")
    assert page.locator("article").count() == 3
    walk.look()
    page.fill("#text", "really")
    page.wait_for_selector("article >> nth=1", state="detached")
    page.fill("#text", "")
    page.wait_for_selector("article >> nth=2")
    page.locator("article a").first.click()
    page.fill("#explanation", "4 of 5")
    address = page.url
    page.keyboard.press("3")
    assert page.url == address, "keys are silent while one types"
    walk.look()
    page.locator("h1").click()
    page.keyboard.press("4")
    page.wait_for_url(lambda url: url != address)
    page.keyboard.press("n")
    page.wait_for_selector("text=This is the last one")
    page.goto("/records?rated=4")
    assert page.locator("article").count() == 1


def ask_documents(walk: Walk) -> None:
    """With the keyboard alone."""
    page = walk.page
    page.goto("/indexes")
    walk.look()
    page.click("text=handbook")
    page.keyboard.type("What is the notice period?")  # the field has the focus
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer .said:has-text('three months')")
    walk.look()
    page.focus(".citations a")
    page.keyboard.press("Enter")
    page.wait_for_selector("mark:has-text('The notice period is three months.')")
    walk.look()
    page.goto("/play/talker?temperature=0&index=handbook")
    page.fill("#text", "Whose is the desk by the window?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".turn .citations a:has-text('papers/desks.md')")
    walk.look()


def draw(walk: Walk) -> None:
    page = walk.page
    page.goto("/play/digits")
    page.fill("#f-num", "2")
    page.fill("#f-num_steps", "2")
    page.select_option("[name='cond.label']", "three")
    page.click("button:has-text('Draw')")
    page.frame_locator("#made iframe").locator("img[alt='2 pictures']").wait_for()
    assert "num=2" in page.url
    walk.look()
