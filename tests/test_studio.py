"""The studio: its pages as a browser gets them, real models behind; who may see and do what."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from morphogen.records import Records
from morphogen.records import open as records_at
from morphogen.serve import app
from morphogen.serve.settings import Settings
from small_models import answering
from test_serve import pictures

torch.set_num_threads(1)

HERE = "http://127.0.0.1"
HOSTILE = "<b onmouseover=alert(1)>\u202ename"
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    answering("yours", length=512).save(folder / "talker")
    pictures().save(folder / "digits")
    return folder


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    with records_at(tmp_path_factory.mktemp("records") / "records.db", key=bytes(32)) as records:
        for role in ("reader", "annotator", "maker", "administrator"):
            records.users.add(f"ann {role}", role, password=PASSWORD)
        yield records


@pytest.fixture(scope="module")
def client(models: Path, records: Records) -> Iterator[TestClient]:
    settings = Settings(models=models, threads=1, rate=None)
    with TestClient(app.build_app(settings, records), base_url=HERE) as client:
        yield client


@pytest.fixture(autouse=True)
def nobody_signed_in(client: TestClient) -> None:
    client.cookies.clear()


def token_of(client: TestClient, path: str = "/sign-in") -> str:
    found = re.search(r'name="page-token" content="(\w{64})"', client.get(path).text)
    assert found
    return found[1]


def sign_in(client: TestClient, name: str) -> str:
    """The token of whoever is signed in then."""
    form = {"name": name, "password": PASSWORD, "token": token_of(client)}
    answer = client.post("/sign-in", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return token_of(client)


def test_pages_run_and_fetch_nothing_that_is_not_ours(client: TestClient) -> None:
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


def test_models_are_listed_found_and_told_of(client: TestClient, models: Path) -> None:
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


def test_scores_have_intervals_and_names_hide_nothing(
    client: TestClient, models: Path, tmp_path: Path
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


def test_forms_are_of_a_page_of_this_visit(client: TestClient) -> None:
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


def test_sessions_begin_and_end(client: TestClient) -> None:
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
