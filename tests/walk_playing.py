"""Steps of the walk through the studio: between items, on the map, painting, models side by side,
blind votes, speaking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from test_serve import pictures

WHISPER = Path(__file__).resolve().parents[1] / "models" / "published" / "whisper"
# A microphone that beeps, and may be used.
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


def add_models(folder: Path) -> None:
    """One with latents; one that hears, where it is there."""
    pictures("vae").save(folder / "faces")
    if WHISPER.is_dir():
        (folder / "hearer").symlink_to(WHISPER)


def go_between(walk: Any) -> None:
    page = walk.page
    page.goto("/play/faces?task=interpolate&num=3")
    page.click("button:has-text('Run')")
    page.wait_for_selector("[data-step]:visible")
    page.focus("[data-step]")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("text=0.50, step 2 of 3")
    assert page.locator("[data-steps] iframe:visible").count() == 1
    walk.look()


def choose_a_place(walk: Any) -> None:
    page = walk.page
    page.goto("/play/faces?task=traverse&drawn=0-7&num=3")
    page.click("button:has-text('Run')")
    page.wait_for_selector("text=Choose a place.")
    size = page.locator("[data-map]").bounding_box()["width"]
    page.click("[data-map]", position={"x": 0.7 * size, "y": 0.3 * size})
    page.wait_for_selector("text=At 1.10 and 1.10")
    page.focus("#across")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("text=At 1.05 and 1.10")
    page.frame_locator("#place iframe").locator("img").wait_for()
    walk.look()


def paint(walk: Any) -> None:
    page = walk.page
    page.goto("/play/digits?num=1&num_steps=2&seed=3")
    page.click("button:has-text('Draw')")
    page.select_option("#on-task", "fill")
    # By key: what came grows when its frame is there, and a press of the mouse may miss it.
    page.press("button:has-text('Go on')", "Enter")
    page.wait_for_url("**task=fill*")
    page.locator("#canvas").scroll_into_view_if_needed()
    place = page.locator("#canvas").bounding_box()
    page.mouse.move(place["x"] + 20, place["y"] + 20)
    page.mouse.down()
    page.mouse.move(place["x"] + 120, place["y"] + 60)
    page.mouse.up()
    painted = page.locator("[data-painted]")
    assert "% of the picture is hidden" in painted.inner_text()
    page.keyboard.press("u")
    assert painted.inner_text() == "Nothing is hidden."
    page.click("summary:has-text('rectangle')")
    page.fill("#r-left", "0")
    page.fill("#r-top", "0")
    page.fill("#r-height", "100")
    page.click("button:has-text('Hide it')")
    assert painted.inner_text() == "50 % of the picture is hidden."
    page.fill("#f-num", "1")
    page.fill("#f-num_steps", "2")
    page.click("button:has-text('Run')")
    page.frame_locator("#made iframe").locator("img[alt='2 pictures']").wait_for()
    assert "0.5" in page.locator("#made .told").inner_text()
    walk.look()


def stand_beside(walk: Any) -> None:
    page = walk.page
    page.goto("/beside")
    page.check("label:has-text('digits')")
    page.check("label:has-text('faces')")
    walk.look()
    page.click("button:has-text('Open them')")
    page.fill("#f-num", "1")
    page.click("button:has-text('Ask all')")
    page.wait_for_selector("#made iframe >> nth=1")
    before = page.locator("#made p.note code").inner_text()
    page.click("button:has-text('Another seed')")
    page.wait_for_selector(f"#made p.note code:text-is('{int(before) + 1}')")
    walk.look()


def vote(walk: Any) -> None:
    page = walk.page
    page.goto("/blind")
    page.select_option("#first", "digits")
    page.select_option("#second", "faces")
    page.fill("#num", "3")
    walk.look()
    page.click("button:has-text('Begin')")
    for number, key in enumerate(("ArrowLeft", "ArrowRight", "t"), 1):
        page.wait_for_selector(f"text=Pair {number} of 3")
        page.frame_locator("iframe[title='Right']").locator("img").wait_for()
        if number == 1:
            walk.look()
        page.keyboard.press(key)
    page.click("text=Who is who?")
    page.wait_for_selector("text=win rate of digits")
    walk.look()


def speak(walk: Any) -> None:
    page = walk.page
    page.goto("/play/hearer")
    page.click("[data-record]")
    page.wait_for_timeout(1500)
    page.keyboard.press("Enter")  # the button has the focus, and ends what it began
    page.wait_for_selector("text=s recorded")
    page.keyboard.press("Enter")  # and now the one that runs it
    page.wait_for_selector("#made .turn")
    walk.look()
