"""The part of the walk through the studio (`test_studio_walk.py`) that leads from data to a model:
by keyboard, and looked at on each page."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from sklearn.datasets import load_digits

HOSTILE = "<i>broken.png"


def pictures_of_two_classes(folder: Path) -> Path:
    """Some dozens of digits in a folder for each class, one of them twice."""
    digits = load_digits()
    for name, label in (("three", 3), ("eight", 8)):
        (folder / name).mkdir(parents=True)
        for number, picture in enumerate(digits.images[digits.target == label][:24] * 15):
            Pillow.fromarray(picture.astype(np.uint8)).save(folder / name / f"{number:02}.png")
    shutil.copy(folder / "three" / "00.png", folder / "three" / "copy.png")
    return folder


def with_a_broken_one(folder: Path) -> Path:
    """The same, and a file that is none."""
    (folder / "eight" / HOSTILE).write_text("no picture")
    return folder


def look_at_data(walk: Any) -> None:
    """What is there twice, what the data is made of, what is wrong with it."""
    page = walk.page
    page.goto("/data/0/duplicates")
    page.frame_locator("article iframe").locator("img[alt='2 pictures']").wait_for()
    walk.look()
    page.click("nav >> text=What it is made of")
    page.wait_for_selector("meter")
    walk.look()
    page.click("nav >> text=What is wrong")
    page.wait_for_selector(".kinds")
    assert "skipped: " in page.inner_text(".kinds")
    assert HOSTILE in page.inner_text("table")
    walk.look()
    page.goto("/data/0/groups")
    page.click("td a:has-text('eight')")
    page.wait_for_selector("text=items 1 to 24")
    walk.look()


def train(walk: Any) -> None:
    """From the data to a training that goes on, its curves drawn as they come."""
    page = walk.page
    page.goto("/train")
    page.click("text=Train a model")
    walk.look()
    page.focus("#data")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#family")
    assert "image data is usually learned" in page.inner_text("#h-family")
    walk.look()
    page.select_option("#family", "vae")
    page.wait_for_selector("text=Options of vae")
    page.click("text=Options of conv")
    page.fill("[name='backbone.model_dim']", "8")
    page.fill("[name='train.batch_size']", "8")
    page.fill("#budget", "1h")
    page.keyboard.press("Enter")
    page.wait_for_selector("#name")
    walk.look()
    page.fill("#name", "mine")
    page.keyboard.press("Enter")
    page.wait_for_selector("#curves svg .smooth", state="attached")
    page.click("text=Stop, and keep what it learned")
    page.wait_for_selector("#standing:has-text('stopped, and usable')")
    page.wait_for_selector("#samples img")
    walk.look()
    page.click("text=Go on with it")
    page.wait_for_selector("#told:has-text('resumed at step')")
    page.goto("/train")
    page.wait_for_selector(".card:has-text('mine') >> text=going on")
    walk.look()


def stop(page: Any) -> None:
    """Under another server: it is found as it is, and ended."""
    page.goto("/train/run/mine")
    page.wait_for_selector("#curves svg .smooth", state="attached")
    page.click("text=Stop, and keep what it learned")
    page.wait_for_selector("#standing:has-text('stopped, and usable')")
    page.click("text=The model")
    page.wait_for_selector("text=It was not evaluated yet")
