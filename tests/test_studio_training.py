"""Training, comparing and looking at data in the studio: real processes on small pictures."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import shutil
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from morphogen.core.codec import Problem
from morphogen.core.errors import RecipeError
from morphogen.core.measurement import Measurement
from morphogen.core.recipe import Recipe
from morphogen.records import Records
from morphogen.records import open as records_at
from morphogen.serve import looking
from morphogen.serve.begun import SAID, Begun
from morphogen.serve.catalogue import Catalogue
from morphogen.serve.curves import Tail, chosen, thinned
from morphogen.serve.errors import APIError
from morphogen.serve.looks import Looks
from morphogen.serve.places import places
from morphogen.serve.settings import Settings
from morphogen.serve.studio.pages.compare import _row
from morphogen.serve.studio.pages.data import counted, kinds_of
from morphogen.serve.studio.pages.train import recipe_of
from morphogen.serve.trainings import Trainings, as_toml
from morphogen.training.run import prepare, train
from test_serve import Running, pictures
from test_studio import sign_in, token_of
from walk_training import pictures_of_two_classes

torch.set_num_threads(1)

PASSWORD = "correct horse battery"
LONG = {"data": "0", "family": "vae", "budget": "10m", "train.batch_size": "8",
        "backbone.model_dim": "8", "backbone.num_blocks": "1"}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures_of_two_classes(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    with records_at(tmp_path_factory.mktemp("records") / "records.db", key=bytes(32)) as records:
        for role in ("maker", "trainer"):
            records.users.add(f"ann {role}", role, password=PASSWORD)
        yield records


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Settings:
    models = tmp_path_factory.mktemp("models")
    return Settings(models=models, data=(data,), port=0, threads=1, rate=None)


@pytest.fixture(scope="module")
def client(settings: Settings, records: Records) -> Iterator[httpx.Client]:
    with Running(settings, records) as running, client_of(running) as client:
        yield client


@pytest.fixture(scope="module")
def done(settings: Settings, data: Path) -> Path:
    """A training that is over."""
    recipe = Recipe.from_json(recipe_of({**LONG, "budget": "3steps"}))
    train(str(data), recipe=recipe, out=settings.models / "done")
    return settings.models / "done"


def client_of(running: Running) -> httpx.Client:
    return httpx.Client(base_url=running.url, follow_redirects=True, timeout=60)


def test_a_training_is_shown_with_its_curves_and_samples(client: httpx.Client, done: Path) -> None:
    """One that was begun by hand, and is over."""
    sign_in(client, "ann trainer")
    assert 'href="/train/run/done"' in client.get("/train").text
    shown = client.get("/train/run/done").text
    assert "vae" in shown
    assert "Stop, and keep" not in shown
    assert "forecast:" in shown
    told = client.get("/train/curves/done").text
    first, last = (json.loads(line[6:]) for line in told.splitlines() if line)
    assert [step for step, _ in first["points"]["loss"]] == [1, 2, 3]
    assert (last["over"], last["state"], last["progress"]) == (True, "done", 1)
    sheet = re.search(r'<img src="(/train/sheet/[^"]+)"', shown)
    assert sheet
    assert client.get(html.unescape(sheet[1])).content.startswith(b"\x89PNG")
    assert client.get("/train/sheet/done?of=../done/config.json").status_code == 404
    assert 'href="/train/run/done"' in client.get("/models/done").text
    token = token_of(client)
    for deed, status in (("stop", 409), ("resume", 409), ("burn", 400)):
        form = {"deed": deed, "token": token}
        assert client.post("/train/run/done", data=form).status_code == status


def test_what_is_asked_for_is_checked_before_a_folder_is_made(
    client: httpx.Client, settings: Settings, data: Path, done: Path
) -> None:
    trainings = Trainings(Begun(settings))
    recipe = recipe_of(LONG)
    with pytest.raises(APIError, match="already"):
        trainings.start(done.name, data, recipe, "ann")
    for name in ("../other", ".other", "", "a/b", "-x"):
        with pytest.raises(APIError, match="no name"):
            trainings.start(name, data, recipe, "ann")
    for told in ({"train.lr": "1\n[objective]"}, {'train.a = "b"\nc': "1"}):
        with pytest.raises(APIError, match="no option"):
            trainings.start("other", data, recipe_of(told), "ann")
    assert not list(settings.models.glob("*other*"))
    sign_in(client, "ann maker")
    assert client.get("/train").status_code == 200
    assert client.get("/train/new?data=0").status_code == 403
    token = sign_in(client, "ann trainer")
    away = {**LONG, "name": "other", "data": "0/../.."}
    assert client.post("/train", data={**away, "token": token}).status_code == 404
    assert client.post("/train", data=away).status_code == 403
    assert client.get("/train/run/other").status_code == 404


def test_a_recipe_of_a_form_names_no_code_and_keeps_every_letter(
    data: Path, tmp_path: Path
) -> None:
    told = {"family": "os:system", "train.lr": '"quoted" \\ é', "start.from": "x", "budget": ""}
    recipe = recipe_of(told)
    assert recipe == {
        "family": {"name": "os:system"}, "train": {"budget": "10m", "lr": told["train.lr"]},
    }  # fmt: skip
    assert tomllib.loads(as_toml(recipe)) == recipe
    with pytest.raises(APIError):
        as_toml({"modality": {"name": "x"}})
    (tmp_path / "recipe.toml").write_text(as_toml(recipe))
    with pytest.raises(RecipeError, match="refused to import 'os:system'"):
        prepare(str(data), recipe=tmp_path / "recipe.toml", out=tmp_path / "out")
    with pytest.raises(RecipeError, match="refused to import 'os:system'"):
        looking.forecast(str(data), recipe, str(tmp_path / "out"))


def test_a_trained_model_is_adapted_by_a_form(
    client: httpx.Client, settings: Settings, done: Path, data: Path
) -> None:
    """It has the family of the model; what is trained is an adapter, or all of it."""
    sign_in(client, "ann trainer")
    assert 'href="/train/new?from=done"' in client.get("/models/done").text
    assert 'name="from" value="done"' in client.get("/train/new?from=done").text
    assert client.get("/train/new?data=0&from=nobody").status_code == 404
    while "The data is being read" in (form := client.get("/train/new?data=0&from=done").text):
        time.sleep(0.2)
    assert 'name="wrapper.rank"' in form
    assert 'name="wrapper.rank"' not in client.get("/train/new?data=0&from=done&adapter=").text
    start = Catalogue(settings.models).find("done")
    told = {"family": "gan", "adapter": "lora", "wrapper.rank": "2", "start.from": "/etc"}
    recipe = recipe_of(told, start)
    assert recipe["start"] == {"from": str(done.absolute())}
    assert recipe["wrapper"] == {"name": "lora", "rank": "2"}
    assert "family" not in recipe
    (stage,) = looking.forecast(str(data), recipe, str(data / "none"))["stages"]
    assert stage["family"] == "vae"
    assert "wrapper" not in recipe_of({}, start)


def test_a_plan_tells_the_usual_family_and_why_others_do_not_fit(data: Path) -> None:
    plan = looking.plan(str(data))
    assert plan["usual"] in plan["fits"]
    assert "image data is usually learned" in plan["why"]
    assert plan["fits"].keys().isdisjoint(plan["others"])
    assert "vq_vae+autoregressive" in plan["fits"].keys() | plan["others"].keys()
    vae = plan["fits"]["vae"]
    assert {"latent_dim", "beta"} <= {each["name"] for each in vae["family"]}
    assert {"batch_size", "lr"} <= {each["name"] for each in vae["train"]}
    recipe = recipe_of({**LONG, "budget": "5steps"})
    (stage,) = looking.forecast(str(data), recipe, str(data / "none"))["stages"]
    assert (stage["num_steps"], stage["family"]) == (5, "vae")
    assert stage["memory_bytes"] > 0
    assert not (data / "none").exists()


def test_copies_are_found_with_how_they_look_and_items_by_their_label(data: Path) -> None:
    found = looking.duplicates(str(data))
    (group,) = found["groups"]
    assert {group["keep"], *group["leave_out"]} == {"three/00.png", "three/copy.png"}
    assert 'alt="2 pictures"' in group["html"]
    eights = looking.items(str(data), 20, 10, ("label", "eight"))
    assert [each["name"][:6] for each in eights["items"]] == ["eight/"] * 4
    assert eights["is_last"]


def test_what_was_found_is_kept_until_it_is_asked_for_anew(data: Path, settings: Settings) -> None:
    async def look() -> None:
        looks = Looks(settings)
        first = looks.at(data, look="items", first=0, num=1)
        assert looks.at(data, look="items", first=0, num=1) is first
        assert not first.is_over
        assert first.work is not None
        await first.work
        assert first.found
        assert first.found["items"][0]["name"] == "eight/00.png"
        assert looks.begun(data, look="items", first=0, num=1) is first
        assert looks.begun(data, look="check") is None
        looks.forget(data)
        assert looks.begun(data, look="items", first=0, num=1) is None
        await looks.close()

    asyncio.run(look())


def test_problems_of_one_kind_stand_together() -> None:
    told = [Problem(f"{n}.png", f"nearly the same as {n + 1}.png (likeness 0.9{n})", "keep one")
            for n in range(3)]  # fmt: skip
    told += [Problem(f"{n}.txt", f".txt is not read: {n}", f"move {n} out", True) for n in range(2)]
    kinds = kinds_of([vars(each) for each in told])
    assert [(each["fatal"], each["called"], len(each["problems"])) for each in kinds] == [
        (True, ".txt is not read", 2), (False, "nearly the same as", 3),
    ]  # fmt: skip
    (table,) = counted({"classes": {"a": 1, "b": 3}, "items": 4, "tags": {}})
    assert [(row["name"], row["share"]) for row in table["rows"]] == [("b", 0.75), ("a", 0.25)]


def test_a_log_is_followed_line_by_line_and_noticed_when_it_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "seconds": 0.1, "loss": 3}\n{"step": 2, "sec')
    tail = Tail(log)
    assert [line["step"] for line in tail.read()] == [1]
    with log.open("a") as file:
        file.write('onds": 0.2, "loss": 2}\nnonsense\n')
    assert [line["loss"] for line in tail.read()] == [2]
    assert not tail.is_cut
    log.write_text("")
    assert tail.is_cut
    curve = [(step, 1.0 / (1 + step)) for step in range(10_001)]
    few = thinned(curve)
    assert len(few) < 700
    assert (few[0], few[-1]) == (curve[0], curve[-1])
    assert list(chosen({"1 a: loss": curve, "2 b: loss": curve[:5]})) == ["2 b: loss", "1 a: loss"]


def test_places_are_those_that_were_told_of_and_what_lies_below(data: Path) -> None:
    (data / ".hidden").mkdir(exist_ok=True)
    assert places([data, data / "three"]) == {
        "0": data, "0/eight": data / "eight", "0/three": data / "three", "1": data / "three",
    }  # fmt: skip


def test_what_a_killed_process_leaves_can_be_gone_on_with(settings: Settings) -> None:
    """The folder tells, and not a number that another process has got since."""
    folder = settings.models / "killed"
    folder.mkdir()
    (folder / SAID).write_text("error: no such data\n")
    mine = {"pid": os.getpid(), "host": os.uname().nodename, "started": 1.0}
    (folder / "studio.json").write_text(
        json.dumps({"process": mine, "source": "/x", "verb": "train"})
    )
    trainings = Trainings(Begun(settings))
    assert trainings.find("killed").state == "failed"
    (folder / "checkpoint" / "step_00000007").mkdir(parents=True)
    assert trainings.find("killed").may_resume
    with pytest.raises(APIError):
        trainings.stop(trainings.find("killed"))
    shutil.rmtree(folder)


def score(value: float, low: float, high: float, **protocol: Any) -> Measurement:
    return Measurement("frechet_ratio", value, 10, False, low, high, "95 %", protocol=protocol)


def test_models_side_by_side_tie_where_intervals_meet_and_compare_where_measured_alike() -> None:
    good, near, far = score(1, 0.9, 1.1), score(1.05, 0.95, 1.2), score(3, 2.5, 3.5)
    assert [cell["word"] for cell in _row("a", [good, far])["cells"]] == ["best", ""]
    assert [cell["word"] for cell in _row("a", [far, near, good])["cells"]] == ["", "tie", "tie"]
    other = score(0.1, 0.0, 0.2, num=5)
    row = _row("a", [good, None, other])
    assert row["cells"][1] is None
    assert row["note"] == "not measured alike"
    assert row["cells"][2]["bar"]["low"] < row["cells"][2]["bar"]["value"]


def test_comparisons_and_scores_are_shown_in_the_look_of_the_studio(
    client: httpx.Client, settings: Settings
) -> None:
    place = {
        "family": "vae<b>", "value": 2.0, "low": 1.5, "high": 2.5, "num_seeds": 3,
        "seconds": 61.0, "sampling_seconds_per_1000": 0.5, "memory_bytes": 10**8, "copies": False,
        "num_parameters": 1234, "watt_hours": 0.1, "others": {"precision": 0.5}, "alarms": [],
        "standing": "best",
    }  # fmt: skip
    told = {
        "score": "frechet_ratio", "higher_is_better": False, "places": [place], "stability": None,
        "absent": {"gan": "seed 0: it failed"}, "advice": "Take vae.", "protocol": {"budget": "5m"},
        "runs": [],
    }  # fmt: skip
    folder = settings.models / "comparison"
    folder.mkdir()
    (folder / "comparison.json").write_text(json.dumps(told))
    for number, value in enumerate((1.0, 3.0)):
        pictures().save(settings.models / f"judged-{number}")
        scores = {"frechet_ratio": {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 9,
                                    "interval": "95 %", "higher_is_better": False}}  # fmt: skip
        record = {"evaluation": {"scores": scores, "protocol": {"num": number}}}
        (settings.models / f"judged-{number}" / "metrics.json").write_text(json.dumps(record))
    listed = client.get("/compare").text
    assert 'href="/compare/of/comparison"' in listed
    assert listed.count('name="of"') >= 2
    shown = client.get("/compare/of/comparison").text
    assert "Take vae." in shown
    assert "vae&lt;b&gt;" in shown
    assert "1m01s" in shown
    beside = client.get("/compare/models?of=judged-0&of=judged-1").text
    assert "not measured alike: num differs" in beside
    assert client.get("/compare/models?of=judged-0").status_code == 400
    assert client.get("/compare/of/none").status_code == 404
    (folder / "comparison.json").write_text('{"places": 3}')
    assert client.get("/compare/of/comparison").status_code == 400
