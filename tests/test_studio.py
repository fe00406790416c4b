"""The studio: its pages as a browser gets them, real models behind; who may see and do what."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image as Pillow
from sklearn.datasets import load_digits

import morphogen
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.modalities.series import Series
from morphogen.modalities.series.window import Window
from morphogen.modalities.table import Table
from morphogen.records import Records
from morphogen.records import open as records_at
from morphogen.serve import app
from morphogen.serve.settings import Settings
from morphogen.serve.studio.page import figures
from morphogen.systems.agents.deciders import Recited
from morphogen.systems.agents.loop import run
from morphogen.systems.agents.worlds import Live
from morphogen.systems.knowledge.cutting import passages
from morphogen.systems.knowledge.embedders import NoEmbedder
from morphogen.systems.knowledge.index import Index
from morphogen.systems.knowledge.passage import Block, Document
from morphogen.systems.memory.memory import Memory
from small_models import answering
from test_serve import Running, indexed, pictures

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]
WHISPER = ROOT / "models" / "published" / "whisper"
SHARED = Path(os.environ.get("MORPHOGEN_SHARED", ROOT.parent / "shared"))
SPOKEN = SHARED / "data" / "fsdd" / "recordings" / "7_jackson_0.wav"
HOSTILE = "<b onmouseover=alert(1)>\u202ename"
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    answering("yours", length=1024).save(folder / "talker")
    pictures().save(folder / "digits")
    pictures("vae").save(folder / "faces")
    people().save(folder / "people")
    plant().save(folder / "plant")
    if WHISPER.is_dir():
        (folder / "hearer").symlink_to(WHISPER)
    return folder


def people() -> Bundle:
    """A model of rows of two columns."""
    codec = Table().fit([Item({"pet": ("cat", "dog")[i % 2], "age": i * i}) for i in range(40)])
    recipe = Recipe(family={"name": "masked"}, backbone={"name": "mlp", "model_dim": 8})
    codec.use_view("tokens")
    return Bundle(build_family(recipe, codec.spec, {}).eval(), codec, resolve(recipe, codec.spec))


def plant() -> Bundle:
    """A model of series, six steps of one value each."""
    window = Window(np.arange(6.0)[None], np.arange(6.0), ("value",))
    codec = Series(length=6, past=0).fit([Item(window)])
    recipe = Recipe(family={"name": "flow_matching"}, backbone={"name": "mlp", "model_dim": 8})
    return Bundle(build_family(recipe, codec.spec, {}).eval(), codec, resolve(recipe, codec.spec))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    with records_at(tmp_path_factory.mktemp("records") / "records.db", key=bytes(32)) as records:
        for role in ("reader", "annotator", "maker", "administrator"):
            records.users.add(f"ann {role}", role, password=PASSWORD)
        yield records


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number, picture in enumerate(load_digits().images[:30].astype(np.uint8) * 15):
        Pillow.fromarray(picture).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One index, in which a document is for the board alone."""
    handbook = indexed(tmp_path_factory.mktemp("documents"))
    index = Index.open(handbook, NoEmbedder())
    for place, text, readers in (
        ("plans.md", "The plan of the board is to move.", ("board",)),
        ("<b onmouseover=alert(1)>.md", f"A hostile paper {HOSTILE} of nobody.", ("everyone",)),
    ):
        paper = Document(place, HOSTILE, place, (Block(text, (HOSTILE,)),), readers)
        index.add(paper, passages(paper))
    index.store.close()
    return handbook.parent


@pytest.fixture(scope="module")
def running(models: Path, records: Records, data: Path, indexes: Path) -> Iterator[Running]:
    settings = Settings(
        models=models, data=(data,), indexes=indexes, runs=indexes, memories=indexes, port=0,
        threads=1, rate=None,
    )  # fmt: skip
    with Running(settings, records) as running:
        yield running


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, follow_redirects=True, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def nobody_signed_in(client: httpx.Client) -> None:
    client.cookies.clear()


def token_of(client: httpx.Client, path: str = "/sign-in") -> str:
    found = re.search(r'name="page-token" content="(\w{64})"', client.get(path).text)
    assert found
    return found[1]


def sign_in(client: httpx.Client, name: str) -> str:
    """The token of whoever is signed in then."""
    form = {"name": name, "password": PASSWORD, "token": token_of(client)}
    answer = client.post("/sign-in", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return token_of(client)


def test_pages_run_and_fetch_nothing_that_is_not_ours(client: httpx.Client) -> None:
    for path in ("/", "/sign-in", "/models/digits", "/nowhere/at/all"):
        answer = client.get(path)
        if answer.headers["content-type"].startswith("text/html"):
            policy = answer.headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "script-src 'self'" in policy
            assert not re.search(
                r"<script(?! src=\"/static/)|<style|\sstyle=|\son\w+=", answer.text
            )
            assert not re.search(r"(?:src|href|action)=\"(?!/|#)", answer.text)
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/%2e%2e/visitor.py").status_code == 404
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403


def test_models_are_listed_found_and_told_of(client: httpx.Client, models: Path) -> None:
    start = client.get("/").text
    assert 'href="/models/digits"' in start
    assert "flow_matching" in start
    found = client.get("/", params={"find": "flow image"}).text
    assert "/models/digits" in found
    assert "/models/talker" not in found
    assert "morphogen evaluate" in client.get("/models/digits").text
    missing = client.get("/models/digts")
    assert missing.status_code == 404
    assert "Did you mean" in missing.text


def test_names_of_folders_may_be_anything(models: Path, client: httpx.Client) -> None:
    names = ["<b onmouseover=alert(1)>", "\u202eb & c?#%", "\udcff"]
    for name in names:
        shutil.copytree(models / "digits", models / name)
    try:
        start = client.get("/").text
        assert "<b onmouseover" not in start
        assert "\u202e" not in start
        addresses = re.findall(r'href="(/models/[^"]+)"', start)
        num = len(list(models.iterdir()))
        assert len(addresses) == num
        answers = [client.get(html.unescape(each)) for each in addresses]
        assert sorted(each.status_code for each in answers)[: num - 1] == [200] * (num - 1)
    finally:
        for name in names:
            shutil.rmtree(models / name)


def test_scores_have_intervals_and_names_hide_nothing(
    client: httpx.Client, models: Path, tmp_path: Path
) -> None:
    score = {"value": 1.25, "low": 1.0, "high": 1.5, "n": 400, "floor": 1, "note": HOSTILE}
    told = {
        "scores": {HOSTILE: score}, "warnings": [HOSTILE],
        "copying": {"verdict": "no sign of copying", "reason": HOSTILE},
    }  # fmt: skip
    file = models / "digits" / "metrics.json"
    before = file.read_text() if file.exists() else "{}"
    try:
        file.write_text(json.dumps({"evaluation": told}))
        (models / "digits" / "evaluation.html").write_text("<!doctype html><p>judged")
        text = client.get("/models/digits").text
        assert "1 to 1.5" in text
        assert "&lt;b onmouseover" in text
        assert "<b onmouseover" not in text
        assert "\u202e" not in text
        judged = client.get("/evaluation/digits")
        assert judged.text.endswith("judged")
        assert "sandbox" in judged.headers["content-security-policy"]
        assert judged.headers["x-frame-options"] == "SAMEORIGIN"
        file.write_text(json.dumps({"evaluation": {"scores": {"a": 3}}}))
        assert client.get("/models/digits").status_code == 400
    finally:
        file.write_text(before)
        (models / "digits" / "evaluation.html").unlink()


def test_forms_are_of_a_page_of_this_visit(client: httpx.Client) -> None:
    form = {"name": "ann maker", "password": PASSWORD}
    assert client.post("/sign-in", data=form).status_code == 403
    assert client.post("/sign-in", data={**form, "token": "0" * 64}).status_code == 403
    token = token_of(client)
    client.cookies.clear()
    other = client.post("/sign-in", data={**form, "token": token})
    assert other.status_code == 403
    foreign = {"origin": "https://evil.example"}
    token = token_of(client)
    sent = client.post("/sign-in", data={**form, "token": token}, headers=foreign)
    assert sent.status_code == 403


def test_sessions_begin_and_end(client: httpx.Client) -> None:
    wrong = {"name": "ann maker", "password": "not the one", "token": token_of(client)}
    assert "name or password is wrong" in client.post("/sign-in", data=wrong).text
    token = sign_in(client, "ann maker")
    cookie = client.cookies["morphogen_session"]
    assert "ann maker, maker" in client.get("/").text
    client.post("/sign-out", data={"token": token})
    client.cookies.set("morphogen_session", cookie, domain="127.0.0.1")
    assert "ann maker" not in client.get("/").text, "a session that is over lets nobody in"
    away = {"name": "ann maker", "password": PASSWORD, "next": "//evil.example"}
    client.cookies.clear()
    away["token"] = token_of(client)
    answer = client.post("/sign-in", data=away, follow_redirects=False)
    assert answer.headers["location"] == "/"
    header = answer.headers["set-cookie"].lower()
    assert "httponly" in header
    assert "samesite=lax" in header


def test_from_elsewhere_nobody_sees_a_page_before_they_sign_in(
    models: Path, records: Records
) -> None:
    settings = Settings(models=models, host="0.0.0.0", threads=1, rate=None)
    with TestClient(app.build_app(settings, records), base_url="http://studio.test") as client:
        answer = client.get("/models/digits", follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/sign-in?next=%2Fmodels%2Fdigits"
        sign_in(client, "ann reader")
        assert client.get("/models/digits").status_code == 200


def said(client: httpx.Client, token: str, **turn: object) -> tuple[str, str]:
    """What a model says to a turn, and the id of the generation."""
    answer = client.post("/talk/talker", json=turn, headers={"x-page-token": token})
    assert answer.status_code == 200, answer.text
    lines = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
    return "".join(line.get("text", "") for line in lines), lines[-1]["over"]


def test_an_edited_turn_is_a_branch_beside_the_one_that_it_was(
    client: httpx.Client, records: Records
) -> None:
    token = token_of(client)
    settings = {"temperature": "0", "seed": "1", "most": "20"}
    text, first = said(client, token, text="Is it?", settings=settings)
    assert text == "yours"
    kept = records.generations.get(first)
    _, second = said(client, token, text="Really?", after=kept.answer_id, settings=settings)
    _, edited = said(client, token, text=HOSTILE, after=kept.answer_id, settings=settings)
    path = records.prompts.path(records.generations.get(edited).answer_id)
    assert [each.text for each in path] == ["Is it?", "yours", HOSTILE, "yours"]
    shown = client.get("/play/talker", params={"of": edited, "open": "1"}).text
    assert "2 of 2" in shown
    assert "&lt;b onmouseover" in shown
    assert "<b onmouseover" not in shown
    other = re.search(r'href="[^"]*at=(\d+)&amp;branch=1[^"]*" data-branch', shown)
    assert other
    before = client.get("/play/talker", params={"at": other[1], "branch": "1"}).text
    assert "Really?" in before
    assert f"/records/{second}" in before
    assert client.get("/play/talker", params={"at": "x"}).status_code == 400
    assert client.get("/play/talker", params={"of": "none"}).status_code == 400


def test_documents_are_searched_and_opened_at_the_place(client: httpx.Client) -> None:
    pytest.importorskip("snowballstemmer")
    token = token_of(client)

    def ask(question: str, deed: str, **more: str) -> str:
        form = {"question": question, "deed": deed, "by": "both", "token": token, **more}
        return client.post("/indexes/handbook", data=form).text

    assert 'href="/indexes/handbook"' in client.get("/indexes").text
    found = ask("notice period", "search")
    assert "1. by words: notice, period" in found
    answered = ask("What is the notice period?", "ask")
    cited = re.search(r'href="(/indexes/handbook/source\?[^"]+)#cited"', answered)
    assert cited
    opened = client.get(html.unescape(cited[1])).text
    mark = r'<p class="role">Notice</p>\s*<div class="said"><mark id="cited" tabindex="-1">'
    assert re.search(f"{mark}The notice period is three months.</mark>", opened)
    assert "the documents do not say" in ask("Who painted the chapel?", "ask")
    written = ask("Whose is the desk by the window?", "ask", model="talker")
    assert '<div class="said">yours</div>' in written
    for shown in (ask("hostile paper", "search"), client.get("/indexes/handbook/documents").text):
        assert "&lt;b onmouseover" in shown
        assert "<b onmouseover" not in shown
    assert "the question is empty" in ask(" ", "ask")
    assert "no such deed" in ask("a", "burn")


def test_who_may_not_read_a_document_sees_no_page_of_it(
    client: httpx.Client, records: Records
) -> None:
    pytest.importorskip("snowballstemmer")
    records.users.set_groups("ann administrator", ("board",))
    form = {"question": "plan of the board", "deed": "ask", "by": "both"}
    token = sign_in(client, "ann administrator")
    told = client.post("/indexes/handbook", data={**form, "token": token}).text
    assert "is to move" in told
    uid = re.search(r"/records/(\w+)", told)
    assert uid
    assert client.get("/indexes/handbook/source?place=plans.md").status_code == 200
    assert "is to move" in client.get("/records").text
    client.cookies.clear()
    token = sign_in(client, "ann maker")
    assert "is to move" not in client.post("/indexes/handbook", data={**form, "token": token}).text
    kept, none = (
        client.get("/indexes/handbook/source", params={"place": place})
        for place in ("plans.md", "plant.md")
    )
    assert kept.status_code == none.status_code == 400
    assert kept.text.replace("plans", "") == none.text.replace("plant", "")
    assert "plans.md" not in client.get("/indexes/handbook/documents").text
    assert client.get(f"/records/{uid[1]}").status_code == 403
    assert "is to move" not in client.get("/records").text


def test_conversations_from_documents_show_what_each_sentence_stands_on(
    client: httpx.Client,
) -> None:
    pytest.importorskip("snowballstemmer")
    settings = {"index": "handbook", "temperature": "0"}
    token = token_of(client)
    _, uid = said(client, token, text="Whose is the desk by the window?", settings=settings)
    shown = client.get("/play/talker", params={"of": uid, "open": "1"}).text
    assert "source?place=papers%2Fdesks.md" in shown
    kept = client.get(f"/records/{uid}").text
    assert "What it stands on" in kept
    retrieval = re.search(r'<dt>retrieval</dt><dd><a href="(/records/\w+)"', kept)
    assert retrieval
    assert "What was found in the documents" in client.get(retrieval[1]).text


def test_what_is_said_is_checked(client: httpx.Client) -> None:
    assert client.post("/talk/talker", json={"text": "Is it?"}).status_code == 403
    token = {"x-page-token": token_of(client)}
    hot = {"text": "Is it?", "settings": {"temperature": "1000"}}
    answer = client.post("/talk/talker", json=hot, headers=token)
    assert answer.status_code == 400
    assert "temperature" in answer.json()["error"]["message"]
    gone = client.post("/talk/talker", json={"text": "?", "after": 10**6}, headers=token)
    assert gone.status_code == 400


def test_values_are_told_in_figures_that_one_reads() -> None:
    assert figures([["a", 0.123456], [1, 2e-9]]) == "a, 0.1235\n1, 2e-09"


def test_items_are_drawn_by_a_form_from_the_signature_and_shown_by_their_codec(
    client: httpx.Client,
) -> None:
    form = client.get("/play/digits", params={"open": "1", "seed": "7", "cond.label": "three"}).text
    assert "items to draw" in form
    assert 'name="files"' not in form, "nothing is brought to what is drawn from nothing"
    assert 'value="7"' in form
    assert 'name="num" value="" placeholder="1"' in form, "as many as are drawn then"
    assert "<option selected>three" in form
    told = {"task": "generate", "num": "2", "seed": "7", "num_steps": "2", "cond.label": "three"}
    told["token"] = token_of(client)
    made = client.post("/play/digits", data=told).text
    place = re.search(r'src="(/views/\w+)"', made)
    assert place
    seen = client.get(place[1])
    assert 'alt="2 pictures"' in seen.text
    assert "sandbox" in seen.headers["content-security-policy"]
    assert "seed=7" not in made.partition(">Before<")[2], "what was just drawn stands above"
    after = client.post("/play/digits", data=told).text
    again = re.search(r'src="(/views/\w+)"', after)
    assert again
    assert again[1] != place[1]
    before = after.partition(">Before<")[2]
    assert 'href="/play/digits?task=generate&amp;num=2&amp;seed=7' in before
    assert "three, seed 7" in before
    assert before.count("data:image/png;base64") == 1
    assert client.get(again[1]).text == seen.text, "the same seed draws the same"
    wrong = client.post("/play/digits", data={**told, "num": "many"})
    assert wrong.status_code == 400
    assert "items to draw" in wrong.text
    assert client.get("/play/digits?task=transcribe").status_code == 404


def test_data_is_shown_by_its_codec(client: httpx.Client, data: Path) -> None:
    assert str(data) in client.get("/data").text
    waiting = client.get("/data/0", params={"first": 24}).text
    assert "being read" in waiting
    last = client.get("/data/0", params={"first": 24, "look": "1"}).text
    assert "items 25 to 30" in last
    assert "Next" not in last
    place = re.search(r'src="(/views/[\w-]+)"', last)
    assert place
    assert 'alt="6 pictures"' in client.get(place[1]).text
    assert client.get("/data/1").status_code == 404
    assert client.get("/data/0", params={"first": -1}).status_code == 400


def test_records_are_found_rated_and_left_for_the_next(
    client: httpx.Client, records: Records
) -> None:
    asked = ("brass boots", "brass buttons", "<i>brass</i> bells")
    uids = [records.generations.start(text, model="talker", task="complete") for text in asked]
    for uid in uids:
        records.generations.finish(uid, "Here they are")
    listed = client.get("/records", params={"text": "brass"}).text
    assert listed.count("<article") == 3
    assert "<i>brass" not in listed
    newest = client.get(f"/records/{uids[2]}", params={"text": "brass"}).text
    assert f'name="after" value="{uids[1]}"' in newest
    token = token_of(client)
    form = {"value": "4", "after": uids[1], "explanation": "shiny", "token": token}
    moved = client.post(f"/records/{uids[2]}?text=brass", data=form, follow_redirects=False)
    assert moved.headers["location"] == f"/records/{uids[1]}?text=brass"
    (rating,) = records.annotations.of(uids[2])
    assert (rating.value, rating.explanation) == (4, "shiny")
    best = client.get("/records", params={"text": "brass", "rated": "4"}).text
    assert best.count("<article") == 1
    assert client.post(f"/records/{uids[2]}", data={**form, "value": "9"}).status_code == 400
    assert client.get("/records", params={"rated": "lots"}).status_code == 400
    assert client.get("/records/none").status_code == 400


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("reader", {"/", "/records"}),
        ("maker", {"/", "/records", "/play/digits"}),
        ("administrator", {"/", "/records", "/play/digits", "/people", "/audit"}),
    ],
)
def test_each_role_sees_what_it_may(client: httpx.Client, role: str, may: set[str]) -> None:
    sign_in(client, f"ann {role}")
    pages = ("/", "/records", "/play/digits", "/people", "/audit")
    assert {path for path in pages if client.get(path).status_code == 200} == may
    assert all(client.get(path).status_code in (200, 403) for path in pages)


def test_people_and_keys_come_and_go_and_nobody_locks_themselves_out(
    client: httpx.Client, records: Records
) -> None:
    token = sign_in(client, "ann administrator")
    me = records.users.get("ann administrator")

    def do(deed: str, **form: object) -> object:
        told = {"deed": deed, "token": token, **{name: str(each) for name, each in form.items()}}
        return client.post("/people", data=told).text

    do("add", name=HOSTILE[:30], role="reader", password=PASSWORD)
    new = records.users.all()[-1]
    assert "<b onmouseover" not in client.get("/people").text
    do("change", who=new.id, role="annotator", state="disabled")
    new = records.users.get(new.id)
    assert (new.role, new.state) == ("annotator", "disabled")
    assert "own rights" in str(do("change", who=me.id, role="reader"))
    assert "too short" in str(do("change", who=new.id, password="short"))
    assert "no number" in str(do("change", who="all"))
    assert "already" in str(do("add", name="ann maker", role="reader"))
    shown = re.search(r"<pre>(mg-[\w-]+)</pre>", str(do("key", name="ci", role="generate", days=3)))
    assert shown
    assert shown[1] not in client.get("/people").text
    assert records.keys.authenticate(shown[1]).actions == {"generate"}
    (key,) = (each for each in records.keys.all() if each.name == "ci")
    do("revoke", key=key.id)
    assert records.keys.all()[-1].state == "revoked"
    audit = client.get("/audit").text
    assert "keys.revoke" in audit
    assert "nothing changed, moved or taken out" in audit


def picture_of(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def looked_at(client: httpx.Client, page: str) -> list[str]:
    """What the frames of a page show."""
    return [
        client.get(html.unescape(each)).text for each in re.findall(r'src="(/views/[^"]+)"', page)
    ]


def test_a_model_that_writes_is_warmed_up_before_it_is_asked(
    client: httpx.Client, running: Running, records: Records
) -> None:
    client.get("/play/talker", params={"open": "1"})
    running.serving.pool.open["talker"].warming = None  # as if it had just been opened
    num, page = records.search.count(), client.get("/play/talker").text
    assert "warming up" in page
    assert 'hx-get="/warm/talker"' in page
    assert "talker is ready" in client.get("/warm/talker").text
    assert "warming up" not in client.get("/play/talker").text
    assert "warming up" not in client.get("/play/digits", params={"open": "1"}).text
    assert records.search.count() == num, "nobody asked for it"


def test_one_walks_from_item_to_item_step_by_step(client: httpx.Client) -> None:
    told = {"task": "interpolate", "num": "3", "drawn": "1, 2", "seed": "0"}
    form = client.get("/play/faces", params={"open": "1", "task": "interpolate"}).text
    assert 'value="1, 2"' in form
    page = client.post("/play/faces", data={**told, "token": token_of(client)}).text
    assert re.findall(r'data-weight="([\d.]+)"', page) == ["0.00", "0.50", "1.00"]
    seen = looked_at(client, page)
    assert len(set(seen)) == 3
    assert all('alt="a picture"' in each for each in seen)
    back = client.post("/play/faces", data={**told, "drawn": "2, 1", "token": token_of(client)})
    assert looked_at(client, back.text)[::2] == seen[::-2]
    for seeds in ("1", "1, x", "0-99", "5-3"):
        wrong = client.post("/play/faces", data={**told, "drawn": seeds, "token": token_of(client)})
        assert wrong.status_code == 400


def test_a_place_on_the_map_of_latents_is_decoded(client: httpx.Client) -> None:
    token = token_of(client)
    told = {"task": "traverse", "drawn": "0-7", "num": "3", "token": token}
    page = client.post("/play/faces", data=told).text
    assert page.count("<circle") == 8 + 1
    assert 'alt="9 pictures"' in looked_at(client, page)[0]
    of = re.search(r'name="of" value="(\w+)"', page)
    assert of
    place = {"task": "traverse", "of": of[1], "across": "0.5", "up": "-1", "token": token}
    (seen,) = looked_at(client, client.post("/play/faces", data=place).text)
    assert 'alt="a picture"' in seen
    assert looked_at(client, client.post("/play/faces", data=place).text) == [seen]
    assert client.post("/play/digits", data=told).status_code == 404  # it has no latents


def test_what_is_painted_over_is_drawn_anew_and_nothing_else(client: httpx.Client) -> None:
    picture = load_digits().images[0] * 15
    mask = np.full((32, 32, 4), 255)  # painted larger than the picture is
    mask[:, :16, :3] = 0
    files = {"files": ("a.png", picture_of(picture)), "hidden": ("m.png", picture_of(mask))}
    told = {"task": "fill", "num": "1", "num_steps": "2", "token": token_of(client)}
    page = client.post("/play/digits", data=told, files=files).text
    assert '"hidden": [\n  0.5\n ]' in page
    inputs = [{"file": base64.b64encode(files["files"][1]).decode(), "suffix": ".png"}]
    hidden = {"file": base64.b64encode(files["hidden"][1]).decode(), "suffix": ".png"}
    body = {"model": "digits", "inputs": inputs, "options": {"num": 1, "num_steps": 2}}
    (_, filled) = client.post("/v1/tasks/fill", json={**body, "hidden": hidden}).json()["items"]
    after = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(filled["file"]))))
    assert np.array_equal(after[:, 4:], picture[:, 4:].astype(np.uint8))
    assert not np.array_equal(after[:, :4], picture[:, :4].astype(np.uint8))
    like = re.search(r'name="of" value="(\w+)"', page)
    assert like
    again = client.get("/play/digits", params={"task": "fill", "like": like[1], "item": "2"}).text
    assert 'src="data:image/png;base64,' in again
    assert client.get("/play/digits?task=fill&like=none").status_code == 404
    spans = client.post("/v1/tasks/fill", json={**body, "hidden": {"spans": [[0, 2]]}})
    assert spans.status_code == 400


def test_items_without_a_gap_are_filled_by_one_click(client: httpx.Client) -> None:
    token = token_of(client)

    def form_of(model: str, **query: str) -> dict[str, str]:
        page = client.get(f"/play/{model}", params={"task": "fill", "open": "1", **query}).text
        assert "What an item lacks is drawn" in page
        fields = re.findall(r'<input [^>]*name="([\w.]+)" value="([^"]*)"', page)
        return {**dict(fields), "task": "fill", "token": token, "num": "1", "num_steps": ""}

    asked = form_of("people")
    assert (asked["mask"], asked["drawn"]) == ("auto", "1")
    page = client.post("/play/people", data=asked).text
    assert '"hidden": [' in page
    (uid,) = set(re.findall(r'name="of" value="(\w+)"', page))
    asked = form_of("people", like=uid, item="2")
    assert '"hidden": [' in client.post("/play/people", data=asked).text
    told = client.post("/play/people", data={**asked, "mask": ""}).text
    assert "no item has a gap" in told
    gap = {"files": ("a.csv", b"pet,age\ncat,\n")}
    page = client.post("/play/people", data={**asked, "mask": "auto"}, files=gap).text
    assert "cat" in looked_at(client, page)[0]

    asked = form_of("plant") | {"num_steps": "2"}
    assert "drawn" not in asked  # a page alone shows what it draws
    assert "bring a file" in client.post("/play/plant", data={**asked, "drawn": "1"}).text
    steps = "".join(f"2026-01-{day:02},{day}\n" for day in range(1, 7))
    files = {"files": ("a.csv", f"time,value\n{steps}".encode())}
    assert '"hidden": [\n  0.' in client.post("/play/plant", data=asked, files=files).text


def test_models_answer_side_by_side(client: httpx.Client) -> None:
    token = token_of(client)
    assert client.get("/beside").text.count('type="checkbox"') >= 3
    chosen = {"model": ["digits", "faces"]}
    form = client.get("/beside", params=chosen).text
    assert 'name="cond.label"' in form
    told = {**chosen, "task": "generate", "num": "1", "seed": "7", "token": token}
    page = client.post("/beside", data=told).text
    assert len(set(looked_at(client, page))) == 2
    assert 'name="seed" value="8"' in page  # another seed, for both
    again = client.post("/beside", data=told).text
    assert looked_at(client, again) == looked_at(client, page)
    like = re.search(r'name="like" value="(\w+)"', page)
    assert like
    more = {"task": "vary", "like": like[1], "item": "1", "num": "2", "token": token}
    assert 'alt="3 pictures"' in looked_at(client, client.post("/play/digits", data=more).text)[0]
    mixed = client.get("/beside", params={"model": ["digits", "talker"]})
    assert mixed.status_code == 400
    assert "one modality" in mixed.text
    assert client.post("/beside", data={**told, "model": "digits"}).status_code == 400
    assert client.post("/beside", data={**told, "task": "fly"}).status_code == 404


def test_classes_are_told_by_name_and_how_sure_alone_and_side_by_side(client: httpx.Client) -> None:
    told = {"task": "classify", "drawn": "3,4", "token": token_of(client)}
    few = {"num_draws": "1", "seed": "7"}
    alone = client.post("/play/faces", data={**told, **few}).text
    shown = r"<dt>label</dt><dd>(three|eight), (three|eight)</dd><dt>probability</dt><dd>([^<]+)<"
    assert (found := re.search(shown, alone)), alone
    assert all(0.5 <= float(each) <= 1 for each in found[3].split(", "))
    both = client.post("/beside", data={**told, **few, "model": ["digits", "faces"]}).text
    assert len(re.findall(shown, both)) == 2, both


def test_votes_are_blind_counted_and_kept(
    client: httpx.Client, records: Records, models: Path, running: Running
) -> None:
    mirror = models / "mirror.toml"  # the same model, as another server would have it
    mirror.write_text(f'url = "{running.url}/v1"\nmodel = "talker"\n')
    token = sign_in(client, "ann administrator")
    form = {"first": "talker", "second": "mirror", "prompts": "Is it?\nReally?", "temperature": "0",
            "seed": "5", "token": token}  # fmt: skip
    begun = client.post("/blind", data=form, follow_redirects=False)
    assert begun.status_code == 303
    place = begun.headers["location"]
    pair = client.get(place, params={"wait": "1"}).text
    assert "Pair 1 of 2" in pair
    assert pair.count("yours") == 2
    assert "talker" not in pair
    assert "mirror" not in pair
    assert client.get(place, params={"wait": "1"}).text == pair, "sides stay"
    moved = client.post(place, data={"pair": "0", "side": "left", "token": token})
    assert "Is it?" not in moved.text
    client.get(place, params={"wait": "1", "after": "0"})
    over = client.post(place, data={"pair": "1", "side": "tie", "token": token}).text
    assert "last pair" in over
    result = client.get(f"{place}/result").text
    assert "win rate of mirror" in result
    assert "is not told apart from" in result
    assert "have not voted" not in result
    name = place.rpartition("/")[2]
    votes = {
        label: sorted(a.value or 0.0 for each in records.search.every() for a in each.annotations
                      if (a.name, a.label, a.user) == ("vote", label, "ann administrator"))
        for label in (f"{name}.0", f"{name}.1")
    }  # fmt: skip
    assert votes == {f"{name}.0": [0.0, 1.0], f"{name}.1": [0.5, 0.5]}
    sign_in(client, "ann annotator")
    assert "0 pairs" not in (listed := client.get("/blind").text)
    assert "2 for you to vote on" in listed
    assert "Begin one" not in listed
    assert (
        client.post(
            place, data={"pair": "7", "side": "left", "token": token_of(client)}
        ).status_code
        == 404
    )
    for wrong in ({"second": "talker"}, {"second": "digits"}, {"prompts": ""}, {"num": "900"}):
        token = sign_in(client, "ann administrator")
        answer = client.post("/blind", data={**form, **wrong, "token": token})
        assert answer.status_code == 400
    mirror.unlink()


@pytest.mark.skipif(not WHISPER.is_dir(), reason="make models")
def test_what_is_said_is_written_down_by_a_model_that_hears(
    client: httpx.Client, running: Running, tmp_path: Path
) -> None:
    pytest.importorskip("faster_whisper")
    soundfile = pytest.importorskip("soundfile")
    sound = SPOKEN
    if not sound.is_file():
        sound = tmp_path / "tone.wav"
        soundfile.write(sound, np.sin(np.arange(16_000) / 20) / 4, 16_000)
    hear = running.client.audio.transcriptions.create
    heard = hear(model="hearer", file=sound)
    assert (
        str(hear(model="hearer", file=sound, response_format="text")).strip() == heard.text.strip()
    )
    whole = hear(model="hearer", file=sound, response_format="verbose_json", language="en")
    assert whole.language == "en"
    assert 0 < whole.duration < 2
    assert "".join(each.text for each in whole.segments or ()).strip() == heard.text.strip()
    captions = str(hear(model="hearer", file=sound, response_format="srt"))
    assert str(hear(model="hearer", file=sound, response_format="vtt")).startswith("WEBVTT")
    form = client.get("/play/hearer", params={"open": "1"}).text
    assert "data-record" in form
    told = {"task": "transcribe", "token": token_of(client)}
    page = client.post("/play/hearer", data=told, files={"files": sound.open("rb")}).text
    assert heard.text.strip() in html.unescape(page)
    if sound is SPOKEN:
        assert "seven" in heard.text.lower()
        assert captions.startswith("1\n00:00:0")
    refused = client.post("/v1/audio/transcriptions", data={"model": "hearer"},
                          files={"file": ("a.wav", b"no sound")})  # fmt: skip
    assert refused.status_code == 400


def test_what_agents_did_and_remember_is_shown_and_forgotten_to_those_who_administer(
    client: httpx.Client, indexes: Path
) -> None:
    sign_in(client, "ann maker")
    assert client.get("/agents").status_code == 403
    trace = run(Live(Recited([HOSTILE])), HOSTILE)
    trace.save(indexes / "runs.jsonl")
    memory = Memory.make(indexes / "mine")
    relation = {"subject": "Ann", "relation": "lives in", "object": "Oslo"}
    note = memory.remember("Ann moved to Oslo.", source=HOSTILE, relations=[relation])
    memory.close()
    token = sign_in(client, "ann administrator")
    listed = client.get("/agents").text
    assert 'href="/agents/runs/runs.jsonl"' in listed
    assert 'href="/agents/memory/mine"' in listed
    client.get("/agents/runs/runs.jsonl")  # which begins to look
    told = {"deed": "recall", "question": "Where is Ann?", "token": token}
    recalled = client.post("/agents/memory/mine", data=told).text
    assert "Ann moved to Oslo." in recalled.partition("Recalled")[2].partition("<h2>")[0]
    assert "lives in" in client.get("/views/memory-mine").text
    while "Replayed" not in (shown := client.get("/agents/runs/runs.jsonl").text):
        if 'class="card"' in shown:
            break
        time.sleep(0.2)
    assert "<svg" in client.get("/views/run-runs.jsonl-0").text
    assert HOSTILE not in shown + recalled
    assert client.post("/agents/memory/mine", data={**told, "question": ""}).status_code == 400
    gone = {"deed": "forget", "note": note.id, "token": token}
    forgotten = client.post("/agents/memory/mine", data=gone).text
    assert "No trace of it in" in forgotten
    assert "Ann moved" not in forgotten
    assert client.get("/agents/memory/yours").status_code == 404


SOURCE = Path(morphogen.__file__).parent


def test_a_server_needs_no_torch() -> None:
    """The server stays small and is there at once: models have processes of their own."""
    places = ("serve/routes", "serve/studio/pages")
    files = [file for place in places for file in (SOURCE / place).glob("[!_]*.py")]
    names = [".".join(("morphogen", *f.relative_to(SOURCE).with_suffix("").parts)) for f in files]
    assert len(names) > 20
    told = (
        f"import sys, morphogen.records.records, {', '.join(names)}\n"
        "from morphogen.cli.app import main\n"
        "try:\n    main(['serve', '--models', 'nowhere'])\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert "nowhere does not exist" in done.stderr, "the verb was run, up to what it needs"
    assert not {"torch", "numpy", "alembic", "sqlalchemy.dialects.postgresql"}.intersection(
        done.stdout.split()
    )
